//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errmsgText is what the kernel says in words: NLMSGERR_ATTR_MSG of linux/netlink.h.
const errmsgText = 1

// exchange sends a request and collects its answers.
//
// The library's own way to do both does not tell a request that the kernel refused
// from one whose answer was lost. After the second there is more in the socket yet: a
// dump that was not read to its end has every further one answered with EBUSY.
func (c *conn) exchange(req *nl.NetlinkRequest) ([][]byte, error) {
	c.socket.Lock()
	defer c.socket.Unlock()
	c.seq++
	req.Seq = c.seq
	if err := uninterrupted(func() error { return c.socket.Send(req) }); err != nil {
		return nil, fmt.Errorf("sending a request to the kernel: %w", err)
	}
	var r reply
	for !r.complete {
		msgs, err := c.receive()
		if err != nil {
			c.drain()
			return nil, fmt.Errorf("reading the kernel's answer: %w", err)
		}
		for _, m := range msgs {
			if m.Header.Seq == req.Seq && m.Header.Pid == c.port && !r.complete {
				r.add(m)
			}
		}
	}
	if r.err == nil && r.interrupted {
		r.err = nl.ErrDumpInterrupted
	}
	return r.data, r.err
}

// receive reads what the kernel has sent. What others send is not listened to.
func (c *conn) receive() (msgs []syscall.NetlinkMessage, err error) {
	err = uninterrupted(func() error {
		var from *unix.SockaddrNetlink
		msgs, from, err = c.socket.Receive()
		if err == nil && from.Pid != nl.PidKernel {
			msgs = nil
		}
		return err
	})
	return msgs, err
}

// drain empties the socket. Each look has the kernel go on with a dump that was not
// read to its end.
func (c *conn) drain() {
	b := make([]byte, nl.RECEIVE_BUFFER_SIZE)
	for {
		_, _, err := unix.Recvfrom(c.fd(), b, unix.MSG_DONTWAIT)
		if unless(err, unix.EINTR, unix.ENOBUFS) != nil {
			return // EAGAIN: it is empty
		}
	}
}

// reply is what the kernel answers to one request.
type reply struct {
	data        [][]byte
	err         error
	interrupted bool // NLM_F_DUMP_INTR: the table changed meanwhile
	complete    bool
}

func (r *reply) add(m syscall.NetlinkMessage) {
	r.interrupted = r.interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
	switch m.Header.Type {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		r.err, r.complete = refusal(m), true
	default:
		r.data = append(r.data, m.Data)
		r.complete = m.Header.Flags&unix.NLM_F_MULTI == 0
	}
	if r.err != nil {
		r.data = nil
	}
}

// refusal is the error that the last answer is, with the kernel's own words where it
// has some; nil where it is none.
func refusal(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return nil // the end of a dump
	}
	errno := -int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	if text := refusalText(m); text != "" {
		return fmt.Errorf("%w: %s", unix.Errno(errno), text)
	}
	return unix.Errno(errno)
}

// refusalText reads the attributes of an error (struct nlmsgerr), which follow the
// request that it is about. Of a dump that request is not in it.
func refusalText(m syscall.NetlinkMessage) string {
	if m.Header.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return ""
	}
	rest := m.Data[4:]
	if m.Header.Type == unix.NLMSG_ERROR {
		size := unix.SizeofNlMsghdr
		if len(rest) >= size && m.Header.Flags&unix.NLM_F_CAPPED == 0 {
			size = max(size, int(binary.NativeEndian.Uint32(rest)))
		}
		rest = rest[min((size+3)&^3, len(rest)):]
	}
	for _, a := range attributes(rest) {
		if a.kind == errmsgText {
			return a.text()
		}
	}
	return ""
}

// uninterrupted calls f again for as long as a signal breaks it off: then nothing was
// done. Go's own calls do the same; those of x/sys/unix do not.
func uninterrupted(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
