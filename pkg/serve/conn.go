package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/lease"
)

// Conn is a socket on a link. A Read returns one whole Ethernet frame that came in,
// a Write sends one, Close ends a Read that waits. They may be called at a time.
type Conn interface {
	io.ReadWriteCloser
	// Reattach binds the socket to the link of its name as that is now, and has it hear
	// what the server answers with the lease. It takes no privileges, which the server has
	// given up by then; so a socket is attached again where else it would be opened
	// again. It may be called while a Read waits, and after one has failed; where it
	// fails, it may be called again.
	Reattach(ctx context.Context, l lease.Lease) error
}

// maxFrame is more than any frame that is answered, and than the socket's filter
// lets through of the largest link.
const maxFrame = 65536 + 64

// How long to wait before a link that failed is attached to again.
const (
	retryFirst = 10 * time.Millisecond
	retryMost  = time.Second
)

// settled is how long a link must have stayed, if nothing came in on it, for its next
// failure not to count as one more of the same.
const settled = 10 * time.Second

// reattachTime bounds one attempt.
const reattachTime = 5 * time.Second

var errNoLine = errors.New("not open")

// line is a server's end of a link: a socket, once there is one.
type line struct {
	mu        sync.Mutex
	conn      Conn
	attaching sync.Mutex // so that the last to attach does it with the last lease
}

func (l *line) use(conn Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

func (l *line) open() (Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, errNoLine
	}
	return l.conn, nil
}

func (l *line) send(frame []byte) error {
	conn, err := l.open()
	if err != nil {
		return err
	}
	_, err = conn.Write(frame)
	return err
}

// reattach attaches a line to its link, with what the lease of this moment is
// answered with.
func (s *Server) reattach(ctx context.Context, l *line) error {
	conn, err := l.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reattachTime)
	defer cancel()
	l.attaching.Lock()
	defer l.attaching.Unlock()
	return conn.Reattach(ctx, *s.lease.Load())
}

// attachAgain tries with growing pauses for as long as it takes. It reports whether
// ctx is still there. A link that is attached to and fails at once is tried no more often
// than one that is gone: pause grows over all attempts, until somebody sets it back.
func (s *Server) attachAgain(ctx context.Context, l *line, pause *time.Duration) bool {
	for survive.Wait(ctx, *pause) {
		*pause = min(2**pause, retryMost)
		if s.reattach(ctx, l) == nil {
			return true
		}
	}
	return false
}

// hear hands over each frame that comes in on an open line, as fast as pace lets it,
// until ctx ends, and then has closed it. What a failed link's name stands for later is
// attached to. heed must not keep the frame.
func (s *Server) hear(ctx context.Context, name string, l *line, p *pace, heed func(frame []byte)) {
	conn, err := l.open()
	if err != nil {
		return
	}
	stop := survive.AfterFunc(ctx, s.panicked(nil), func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	buf, pause := make([]byte, maxFrame), retryFirst
	survive.Again(ctx, s.panicked(nil), func() {
		for {
			from := time.Now()
			n, err := s.read(ctx, conn, buf, p, heed)
			if ctx.Err() != nil {
				return
			}
			if n > 0 || time.Since(from) >= settled {
				pause = retryFirst
			}
			s.stats.count("link-failed")
			said := s.stats.mayLog("link-failed " + name)
			if said {
				s.opts.Log.Warn("the link failed, attaching to it again", "link", name, "err", err)
			}
			if !s.attachAgain(ctx, l, &pause) {
				return
			}
			if said {
				s.opts.Log.Info("attached to the link again", "link", name)
			}
		}
	})
}

// read hands over frames until one cannot be read, and returns how many there were. A frame
// whose handling panics is lost, and logged.
func (s *Server) read(ctx context.Context, conn Conn, buf []byte, p *pace, heed func(frame []byte)) (frames int, _ error) {
	var frame []byte
	report := func(p any, stack []byte) { s.panicked(frame)(p, stack) }
	one := func() {
		defer survive.Panic(report)
		heed(frame)
	}
	for {
		if !p.next(ctx) {
			return frames, ctx.Err()
		}
		n, err := conn.Read(buf)
		if err != nil {
			return frames, fmt.Errorf("reading frames: %w", err)
		}
		frames++
		frame = buf[:n]
		one()
	}
}
