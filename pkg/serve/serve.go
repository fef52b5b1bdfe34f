// Package serve answers the one guest on its tap: a frame comes in, the
// responders are asked in turn, what they answer goes out.
//
// The server holds nothing that matters. Its lease comes from the state file;
// killed and started again it answers the same. It opens no sockets itself, but
// the one on which it is asked how it does (see Control).
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/ra"
)

// maxFrame is more than any frame that is answered, and than the socket's filter
// lets through of the largest link.
const maxFrame = 65536 + 64

// How long to wait before the tap is opened again after it failed.
const (
	retryFirst = 10 * time.Millisecond
	retryMost  = time.Second
)

// Options are the parts of a server.
type Options struct {
	Tap   string // its name, for the log
	Lease lease.Lease
	// Open opens the tap: a Read returns one whole Ethernet frame of the guest, a
	// Write sends one to it, Close ends a Read that waits.
	Open func(ctx context.Context, l lease.Lease) (io.ReadWriteCloser, error)
	// OpenPort opens the pod interface likewise, to ask its gateways for their MACs
	// and to hear what they say. It is called where the lease has stand-ins for them.
	OpenPort func(ctx context.Context, l lease.Lease) (io.ReadWriteCloser, error)
	// DNS answers what the guest sends to Lease.Server.DNS; nil where podwire does
	// not.
	DNS DNS
	Log *slog.Logger
}

// DNS is what answers the guest's packets for the addresses of podwire's DNS.
type DNS interface {
	// FromGuest takes a frame of the guest.
	FromGuest(frame []byte) error
	// Run hands frames for the guest over until ctx ends.
	Run(ctx context.Context, toGuest func(frame []byte) error) error
}

// Server serves one guest.
type Server struct {
	opts     Options
	lease    atomic.Pointer[lease.Lease]
	stats    stats
	tap      line
	gateways gateways
	spoke    time.Time // when the guest was last seen to come up; of the reader alone
}

// New returns a server that does not run yet.
func New(o Options) *Server {
	s := &Server{opts: o, stats: newStats(time.Now())}
	s.lease.Store(&o.Lease)
	return s
}

// SetLease changes what the guest is told from its next message on. What routers
// advertise it is told at once, since it does not ask for that again.
func (s *Server) SetLease(l lease.Lease) {
	old := s.lease.Load()
	for told := l; ; old = s.lease.Load() {
		l = withHeard(told, *old)
		if s.lease.CompareAndSwap(old, &l) {
			break
		}
	}
	s.sendAdvertisements(l, ra.Withdraw(*old, l))
	s.sendAdvertisements(l, ra.Advertise(l))
}

// Run answers until ctx ends, and then returns nil. It calls ready once, when the
// tap is open for the first time: from then on no frame of the guest is lost. A
// tap that fails later is opened again for as long as it takes; only the first
// attempt may fail.
func (s *Server) Run(ctx context.Context, ready func()) error {
	conn, err := s.opts.Open(ctx, *s.lease.Load())
	if err != nil {
		return err
	}
	s.tap.use(conn)
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.startBeside(ctx, &beside)
	ready()
	for {
		err := s.serveConn(ctx, conn)
		if ctx.Err() != nil {
			return nil
		}
		s.opts.Log.Warn("the tap failed, opening it again", "tap", s.opts.Tap, "err", err)
		if conn = s.reopen(ctx); conn == nil {
			return nil
		}
		s.tap.use(conn)
		s.opts.Log.Info("the tap is open again", "tap", s.opts.Tap)
	}
}

// startBeside starts what does not wait for the guest to ask.
func (s *Server) startBeside(ctx context.Context, all *sync.WaitGroup) {
	all.Go(func() { s.advertise(ctx) })
	if s.opts.OpenPort != nil && hasStandIns(*s.lease.Load()) {
		all.Go(func() { s.watchGateways(ctx) })
	}
	if s.opts.DNS != nil {
		all.Go(func() {
			if err := s.opts.DNS.Run(ctx, s.sendAside); err != nil && ctx.Err() == nil {
				s.stats.count("dns-failed")
				s.opts.Log.Error("the guest's DNS is not relayed any more", "err", err)
			}
		})
	}
}

// sendAside sends what the guest will ask for again if it is lost.
func (s *Server) sendAside(frame []byte) error {
	if err := s.tap.send(frame); err != nil {
		s.stats.count("write-failed")
	}
	return nil
}

// reopen opens the tap with growing pauses; nil when ctx ends.
func (s *Server) reopen(ctx context.Context) io.ReadWriteCloser {
	return openAgain(ctx, func() (io.ReadWriteCloser, error) { return s.opts.Open(ctx, *s.lease.Load()) })
}

func openAgain(ctx context.Context, open func() (io.ReadWriteCloser, error)) io.ReadWriteCloser {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if conn, err := open(); err == nil {
			return conn
		}
	}
}

// serveConn answers on one open tap until it fails or ctx ends.
func (s *Server) serveConn(ctx context.Context, conn io.ReadWriteCloser) error {
	return readFrames(ctx, conn, func(request []byte) error {
		for _, reply := range s.answer(request) {
			if err := s.tap.send(reply); err != nil {
				if ctx.Err() != nil {
					return err
				}
				// The tap may be down, or its queue full; the guest asks again.
				s.stats.count("write-failed")
				s.opts.Log.Warn("an answer could not be sent", "tap", s.opts.Tap, "err", err)
			}
		}
		return nil
	})
}

// readFrames hands over each frame that comes in until there is an error or ctx
// ends, and then has closed the connection. heed must not keep the frame.
func readFrames(ctx context.Context, conn io.ReadCloser, heed func(frame []byte) error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	buf := make([]byte, maxFrame)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("reading frames: %w", err)
		}
		if err := heed(buf[:n]); err != nil {
			return err
		}
	}
}

// answer asks the responders. None of them may end the server: one that panics
// is logged with the frame that made it, and the guest is as if unanswered.
func (s *Server) answer(request []byte) (replies [][]byte) {
	defer func() {
		if p := recover(); p != nil {
			s.stats.count("panic")
			s.opts.Log.Error("a responder panicked", "err", p, "frame", fmt.Sprintf("%x", request[:min(len(request), 2048)]))
			replies = nil
		}
	}()
	l := *s.lease.Load()
	for _, respond := range responders {
		if replies, done := respond(s, l, request); done {
			return replies
		}
	}
	s.stats.count("not-ours")
	return nil
}

// line is one end of a cable that may be replaced. Several may send on it.
type line struct {
	mu   sync.Mutex
	conn io.Writer
}

func (l *line) use(conn io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

var errNoLine = errors.New("not open")

func (l *line) send(frame []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return errNoLine
	}
	_, err := l.conn.Write(frame)
	return err
}
