//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// downPoll is how often a tap that is down is looked at: the kernel wakes nobody
// when such a link is deleted.
const downPoll = 200 * time.Millisecond

// TapConn is a packet socket on one link. It reads and writes whole Ethernet
// frames, one a call, and hears only frames that enter the link untagged.
type TapConn struct {
	file *os.File
	name string

	mu       sync.Mutex
	deadline time.Time // the caller's
	down     bool      // the kernel said ENETDOWN and the link was not seen up since
}

// OpenTap opens the socket that the server answers on. Only frames that one of
// the matches describes are heard. It takes CAP_NET_RAW. Where there is no such
// link the error is fs.ErrNotExist.
func (k *Kernel) OpenTap(name string, accept []plan.Match) (*TapConn, error) {
	c, err := k.openSocket(name, accept, passQueue)
	if err != nil {
		return nil, fmt.Errorf("opening tap %q: %w", name, err)
	}
	return c, nil
}

// OpenLink is OpenTap for a link that is no tap of podwire's own. What is written
// goes by the link's queue, and so by the filters of what the link sends.
func (k *Kernel) OpenLink(name string, accept []plan.Match) (*TapConn, error) {
	c, err := k.openSocket(name, accept, func(int) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("opening link %q: %w", name, err)
	}
	return c, nil
}

func (k *Kernel) openSocket(name string, accept []plan.Match, prepare func(fd int) error) (*TapConn, error) {
	link, err := k.link(context.Background(), name)
	if err != nil {
		return nil, err
	}
	var fd int
	err = k.netns.do(func() (err error) {
		fd, err = packetSocket(link.Index, accept, prepare)
		return err
	})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("%w: %s", err, lacking("NET_RAW"))
	}
	if err != nil {
		return nil, err
	}
	return &TapConn{file: os.NewFile(uintptr(fd), name), name: name}, nil
}

// passQueue hands what the socket sends to the driver past the link's queue. A tap
// that was just opened has its carrier at once, but its queue drops all until the
// kernel's link watch has run: the answer to a guest's first frame would be lost.
func passQueue(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if unless(err, unix.ENOPROTOOPT) != nil {
		return fmt.Errorf("passing the queue: %w", err)
	}
	return nil
}

// packetSocket opens a socket that hears nothing until its filter is in place:
// protocol 0 receives nothing, and it is bound last.
func packetSocket(index int, accept []plan.Match, prepare func(fd int) error) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a packet socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	// Linux before 4.20 has no such option. Then it hears its own frames too,
	// none of which it accepts from a guest.
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if unless(err, unix.ENOPROTOOPT) != nil {
		return -1, fmt.Errorf("ignoring outgoing frames: %w", err)
	}
	if err := prepare(fd); err != nil {
		return -1, err
	}
	if err := attachFilter(fd, accept); err != nil {
		return -1, fmt.Errorf("filtering frames: %w", err)
	}
	if err := bindTo(fd, index, accept); err != nil {
		return -1, err
	}
	return fd, nil
}

// bindTo binds a socket to a link. One that is to hear nothing costs the link's frames
// nothing: it is asked about none as long as it has no protocol.
func bindTo(fd, index int, accept []plan.Match) error {
	to := &unix.SockaddrLinklayer{Ifindex: index}
	if len(accept) > 0 {
		to.Protocol = bigEndian16(unix.ETH_P_ALL)
	}
	if err := unix.Bind(fd, to); err != nil {
		return fmt.Errorf("binding to the link: %w", err)
	}
	return nil
}

// attachFilter makes the socket accept the matches alone.
func attachFilter(fd int, accept []plan.Match) error {
	program, err := compileFilter(accept, verdicts{match: wholeFrame, pass: 0})
	if err != nil {
		return err
	}
	prog := unix.SockFprog{
		Len:    uint16(len(program)),
		Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0])),
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}

// bigEndian16 is v as the kernel keeps protocol numbers: in network order.
func bigEndian16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// Read reads one frame; what does not fit into b is lost. While the link is down
// it waits. It ends with os.ErrDeadlineExceeded at the deadline, os.ErrClosed
// after Close, and fs.ErrNotExist once the link is deleted.
func (c *TapConn) Read(b []byte) (int, error) {
	for {
		if err := c.arm(); err != nil {
			return 0, fmt.Errorf("reading from tap %q: %w", c.name, err)
		}
		n, err := c.file.Read(b)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.ENETDOWN):
			c.setDown()
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.expired():
			// Only a look at a link that is down.
		default:
			return 0, fmt.Errorf("reading from tap %q: %w", c.name, cause(err))
		}
	}
}

// arm sets the deadline of one read. Over a link that is up that is the
// caller's, and is set already.
func (c *TapConn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.down {
		return nil
	}
	exists, up, err := c.state()
	if err != nil {
		return err
	}
	if !exists {
		return errLinkGone
	}
	if up {
		c.down = false
		return c.file.SetReadDeadline(c.deadline)
	}
	next := time.Now().Add(downPoll)
	if !c.deadline.IsZero() && c.deadline.Before(next) {
		next = c.deadline
	}
	return c.file.SetReadDeadline(next)
}

func (c *TapConn) setDown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
}

func (c *TapConn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.deadline.IsZero() && !time.Now().Before(c.deadline)
}

// state asks the socket what became of its link: the kernel unbinds it from one
// that is deleted.
func (c *TapConn) state() (exists, up bool, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return false, false, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var addr unix.Sockaddr
		if addr, inner = unix.Getsockname(int(fd)); inner != nil {
			return
		}
		if ll, ok := addr.(*unix.SockaddrLinklayer); !ok || ll.Ifindex <= 0 {
			return
		}
		exists = true
		up, inner = linkUp(int(fd), c.name)
	})
	return exists, up, errors.Join(err, inner)
}

// linkUp asks for a link's flags without a netlink socket.
func linkUp(fd int, name string) (bool, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return false, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		// Between the two questions it went away, or it was renamed: then it
		// stays as it was believed to be, which costs a look now and then.
		return false, unless(err, unix.ENODEV)
	}
	return req.Uint16()&unix.IFF_UP != 0, nil
}

// Write sends one frame to whoever holds the tap open.
func (c *TapConn) Write(frame []byte) (int, error) {
	n, err := c.file.Write(frame)
	switch {
	case isErrno(err, unix.ENXIO, unix.ENODEV):
		err = errLinkGone
	case isErrno(err, unix.ENETDOWN):
		// The kernel says it once, and this may have been meant for the reader.
		c.setDown()
		_ = c.file.SetReadDeadline(time.Unix(1, 0))
	}
	if err != nil {
		return n, fmt.Errorf("writing to tap %q: %w", c.name, cause(err))
	}
	return n, nil
}

// SetReadDeadline sets when Read gives up; the zero time is never. It holds for
// a Read that waits already, too.
func (c *TapConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.file.SetReadDeadline(t)
}

// Close closes the socket. A Read that waits returns os.ErrClosed.
func (c *TapConn) Close() error { return c.file.Close() }

// cause leaves out what the standard library puts before an error, which says no
// more than ours.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
