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
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/ra"
)

// Options are the parts of a server.
type Options struct {
	Tap   string // its name, for the log
	Lease lease.Lease
	// Open opens the tap, on which the guest is.
	Open func(ctx context.Context, l lease.Lease) (Conn, error)
	// OpenPort opens the pod interface, to ask its gateways for their MACs and to hear
	// what they say. It is called also where the first lease has no stand-ins for them: a
	// later one may, when there is no privilege any more.
	OpenPort func(ctx context.Context, l lease.Lease) (Conn, error)
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
	limits   limits    // of the reader alone
	spoke    time.Time // when the guest was last seen to come up; of the reader alone
}

// New returns a server that does not run yet.
func New(o Options) *Server {
	s := &Server{opts: o, stats: newStats(time.Now()), limits: newLimits()}
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
	s.HearAnew()
	s.askSilent(l)
	s.sendAdvertisements(l, ra.Withdraw(*old, l))
	s.sendAdvertisements(l, ra.Advertise(l))
}

// HearAnew has the sockets hear what the lease is answered with now, on the links as
// they are now: one that was made anew is heard at once, and not when the reader looks again.
// Where a link is gone, the reader does it when it is back.
func (s *Server) HearAnew() {
	for name, line := range map[string]*line{"tap": &s.tap, "pod interface": &s.gateways.port} {
		if err := s.reattach(context.Background(), line); err != nil && !errors.Is(err, errNoLine) {
			s.opts.Log.Warn("the new lease is not heard yet", "link", name, "err", err)
		}
	}
}

// Run answers until ctx ends, and then returns nil. It calls ready once, when all
// that it needs is open: from then on no frame of the guest is lost, and no
// privilege is needed any more. A tap that fails later is attached to again for as long as it
// takes; only the first attempt may fail.
func (s *Server) Run(ctx context.Context, ready func()) error {
	tap, err := s.opts.Open(ctx, *s.lease.Load())
	if err != nil {
		return err
	}
	s.tap.use(tap)
	var beside sync.WaitGroup
	defer beside.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.openPort(ctx)
	s.startBeside(ctx, &beside)
	ready()
	s.hear(ctx, s.opts.Tap, &s.tap, newPace(guestPace, s.paused), s.heedGuest)
	return nil
}

// startBeside starts what does not wait for the guest to ask.
func (s *Server) startBeside(ctx context.Context, all *sync.WaitGroup) {
	start := func(f func()) {
		survive.Go(all, s.panicked(nil), func() { survive.Again(ctx, s.panicked(nil), f) })
	}
	start(func() { s.advertise(ctx) })
	if s.opts.OpenPort != nil {
		start(func() { s.watchGateways(ctx) })
	}
	if s.opts.DNS != nil {
		start(func() {
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

// heedGuest answers a frame of the guest.
func (s *Server) heedGuest(request []byte) {
	for _, reply := range s.answer(request) {
		if err := s.tap.send(reply); err != nil {
			// The tap may be down, or its queue full; the guest asks again.
			s.stats.count("write-failed")
			if s.stats.mayLog("write-failed") {
				s.opts.Log.Warn("an answer could not be sent", "tap", s.opts.Tap, "err", err)
			}
		}
	}
}

// answer asks the responders.
func (s *Server) answer(request []byte) [][]byte {
	l := *s.lease.Load()
	if !s.allows(l, request) {
		return nil
	}
	for _, respond := range responders {
		if replies, done := respond(s, l, request); done {
			return replies
		}
	}
	s.stats.count("not-ours")
	return nil
}

// loggedFrame is how much of a frame that caused a panic is logged.
const loggedFrame = 2048

// panicked counts and logs a panic, with the frame that caused it where there is one.
func (s *Server) panicked(frame []byte) survive.Report {
	return func(p any, stack []byte) {
		s.stats.count("panic")
		if !s.stats.mayLog("panic") {
			return
		}
		s.opts.Log.Error("a part of the server panicked and goes on", "err", fmt.Sprint(p),
			"frame", fmt.Sprintf("%x", frame[:min(len(frame), loggedFrame)]), "stack", string(stack))
	}
}
