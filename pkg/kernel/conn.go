//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// dumpTries is how often a dump is begun anew when the tables changed under
	// it. In a pod they change seldom, and then in a burst; a node that never
	// settles is an error.
	dumpTries = 16
	// dumpAtOnce is how many of those come without a pause before them.
	dumpAtOnce = 4
	// dumpPause is the first pause, and longestPause the last: half a second in all.
	dumpPause    = time.Millisecond
	longestPause = 64 * time.Millisecond
	// requestTries is how often a request is made that the kernel breaks off.
	requestTries = 16
	// replyTimeout is for a kernel that does not answer at all; it answers in
	// microseconds, or, when its configuration lock is held, in milliseconds.
	replyTimeout = 10 * time.Second
)

// conn is a netlink socket, used for all requests of its protocol.
type conn struct {
	socket *nl.NetlinkSocket
	port   uint32 // to which the kernel sends what is for this socket
	seq    uint32 // of the last request
	// execute sends a request and collects the answer; a test puts its own in
	// front, to answer as drivers do that are not at hand.
	execute func(req *nl.NetlinkRequest) ([][]byte, error)
	// pause waits before a dump is tried again.
	pause func(ctx context.Context, try int) error
}

// dial opens a socket in the namespace of the calling thread.
func dial(protocol int) (c *conn, err error) {
	err = uninterrupted(func() error {
		c, err = dialOnce(protocol)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	return c, nil
}

func dialOnce(protocol int) (*conn, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), protocol)
	if err != nil {
		return nil, err
	}
	// With it the kernel says in words what it does not like. It is not there
	// before Linux 4.12 and nothing depends on it.
	_ = s.SetExtAck(true)
	timeout := unix.NsecToTimeval(replyTimeout.Nanoseconds())
	port, err := s.GetPid()
	if err := errors.Join(err, s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout)); err != nil {
		s.Close()
		return nil, err
	}
	c := &conn{socket: s, port: port, pause: pauseBefore}
	c.execute = c.exchange
	return c, nil
}

func (c *conn) fd() int { return c.socket.GetFd() }

func (c *conn) close() { c.socket.Close() }

// request sends one message and returns the kernel's answers, if it has any. One
// that the kernel broke off was not carried out, and is made again.
func (c *conn) request(ctx context.Context, kind, flags int, m *message) (answers [][]byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddRawData(m.bytes())
	for range requestTries {
		if answers, err = c.execute(req); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return answers, err
}

// change asks for a change and waits until it is made.
func (c *conn) change(ctx context.Context, kind, flags int, m *message) error {
	_, err := c.request(ctx, kind, flags|unix.NLM_F_ACK, m)
	return err
}

// get asks for one thing.
func (c *conn) get(ctx context.Context, kind int, m *message) ([]byte, error) {
	msgs, err := c.request(ctx, kind, 0, m)
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, unix.ENODATA
	}
	return msgs[0], nil
}

// dump reads a whole table, again and again if it changes while it is read: what
// an interrupted dump holds may be incomplete.
func (c *conn) dump(ctx context.Context, kind int, m *message) ([][]byte, error) {
	for try := range dumpTries {
		if err := c.pause(ctx, try); err != nil {
			return nil, err
		}
		msgs, err := c.request(ctx, kind, unix.NLM_F_DUMP, m)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return nil, fmt.Errorf("%w %d times over", nl.ErrDumpInterrupted, dumpTries)
}

// pauseBefore waits the longer the more often a dump was tried.
func pauseBefore(ctx context.Context, try int) error {
	if try < dumpAtOnce {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(dumpPause<<(try-dumpAtOnce), longestPause)):
		return nil
	}
}
