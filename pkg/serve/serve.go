// Package serve answers the one guest on its tap: a frame comes in, the
// responders are asked in turn, what they answer goes out.
//
// The server holds nothing that matters. Its lease comes from the state file;
// killed and started again it answers the same. It opens no sockets itself, but
// the one on which it is asked how it does (see Control).
package serve

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/podwire/podwire/pkg/lease"
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
	Log  *slog.Logger
}

// Server serves one guest.
type Server struct {
	opts  Options
	lease atomic.Pointer[lease.Lease]
	stats stats
}

// New returns a server that does not run yet.
func New(o Options) *Server {
	s := &Server{opts: o, stats: newStats(time.Now())}
	s.lease.Store(&o.Lease)
	return s
}

// SetLease changes what the guest is told from its next message on.
func (s *Server) SetLease(l lease.Lease) { s.lease.Store(&l) }

// Run answers until ctx ends, and then returns nil. It calls ready once, when the
// tap is open for the first time: from then on no frame of the guest is lost. A
// tap that fails later is opened again for as long as it takes; only the first
// attempt may fail.
func (s *Server) Run(ctx context.Context, ready func()) error {
	conn, err := s.opts.Open(ctx, *s.lease.Load())
	if err != nil {
		return err
	}
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
		s.opts.Log.Info("the tap is open again", "tap", s.opts.Tap)
	}
}

// reopen opens the tap with growing pauses; nil when ctx ends.
func (s *Server) reopen(ctx context.Context) io.ReadWriteCloser {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if conn, err := s.opts.Open(ctx, *s.lease.Load()); err == nil {
			return conn
		}
	}
}

// serveConn answers on one open tap until it fails or ctx ends.
func (s *Server) serveConn(ctx context.Context, conn io.ReadWriteCloser) error {
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
			return fmt.Errorf("reading from the tap: %w", err)
		}
		reply := s.answer(buf[:n])
		if reply == nil {
			continue
		}
		if _, err := conn.Write(reply); err != nil {
			if ctx.Err() != nil {
				return err
			}
			// The tap may be down, or its queue full; the guest asks again.
			s.stats.count("write-failed")
			s.opts.Log.Warn("an answer could not be sent", "tap", s.opts.Tap, "err", err)
		}
	}
}

// answer asks the responders. None of them may end the server: one that panics
// is logged with the frame that made it, and the guest is as if unanswered.
func (s *Server) answer(request []byte) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.stats.count("panic")
			s.opts.Log.Error("a responder panicked", "err", p, "frame", fmt.Sprintf("%x", request[:min(len(request), 2048)]))
			reply = nil
		}
	}()
	l := *s.lease.Load()
	for _, respond := range responders {
		if reply, done := respond(s, l, request); done {
			return reply
		}
	}
	s.stats.count("not-ours")
	return nil
}
