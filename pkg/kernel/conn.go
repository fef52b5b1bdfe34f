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
	// it. In a pod they change seldom; a node that never settles is an error.
	dumpTries = 16
	// replyTimeout is for a kernel that does not answer at all; it answers in
	// microseconds, or, when its configuration lock is held, in milliseconds.
	replyTimeout = 10 * time.Second
)

// conn is a netlink socket, used for all requests of its protocol.
type conn struct {
	protocol int
	sockets  map[int]*nl.SocketHandle
	// execute sends a request and collects the answer; a test puts its own in
	// front, to answer as drivers do that are not at hand.
	execute func(req *nl.NetlinkRequest) ([][]byte, error)
}

// dial opens a socket in the namespace of the calling thread.
func dial(protocol int) (*conn, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	// With it the kernel says in words what it does not like. It is not there
	// before Linux 4.12 and nothing depends on it.
	_ = s.SetExtAck(true)
	timeout := unix.NsecToTimeval(replyTimeout.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&timeout), s.SetReceiveTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	c := &conn{protocol: protocol, sockets: map[int]*nl.SocketHandle{protocol: {Socket: s}}}
	c.execute = func(req *nl.NetlinkRequest) ([][]byte, error) { return req.Execute(protocol, 0) }
	return c, nil
}

func (c *conn) fd() int { return c.sockets[c.protocol].Socket.GetFd() }

func (c *conn) close() { c.sockets[c.protocol].Close() }

// request sends one message and returns the kernel's answers, if it has any.
func (c *conn) request(ctx context.Context, kind, flags int, m *message) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = c.sockets
	req.AddRawData(m.bytes())
	return c.execute(req)
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
	for range dumpTries {
		msgs, err := c.request(ctx, kind, unix.NLM_F_DUMP, m)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return nil, fmt.Errorf("%w %d times over", nl.ErrDumpInterrupted, dumpTries)
}
