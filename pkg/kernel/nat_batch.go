//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// newNFT begins a message about nftables of the family inet.
func newNFT() *message { return newNFTOf(unix.NFPROTO_INET) }

// newNFTOf begins a message about nftables of a family: struct nfgenmsg.
func newNFTOf(family byte) *message { return newMessage([]byte{family, unix.NFNETLINK_V0, 0, 0}) }

// be32 is a number as netfilter has it.
func (a attribute) be32() uint32 {
	if len(a.data) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.data)
}

// dumpNFT reads a list of nftables. A kernel without them has none of it; nor has
// a table that is not there.
func (k *Kernel) dumpNFT(ctx context.Context, kind int, m *message) ([][]byte, error) {
	if err := k.openNetfilter(); err != nil {
		return nil, unless(err, unix.EPROTONOSUPPORT)
	}
	msgs, err := k.netfilter.dump(ctx, unix.NFNL_SUBSYS_NFTABLES<<8|kind, m)
	if err := unless(err, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOENT); err != nil {
		return nil, fmt.Errorf("reading nftables: %w", err)
	}
	return msgs, nil
}

// nftBatch is a list of commands that are carried out together, or none of them.
//
// It is sent without the library, which asks for an echo and an answer to each of
// them: the answers to some hundreds do not fit into a socket's buffer.
type nftBatch struct {
	b     []byte
	last  int      // where the last message begins
	words []string // of each command
}

// add adds a command, and how nft(8) would say it.
func (b *nftBatch) add(kind, flags uint16, words string, m *message) {
	b.words = append(b.words, words)
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, m)
}

// message adds a message. Its number is that of its command; what begins the batch
// has 0.
func (b *nftBatch) message(kind, flags uint16, m *message) {
	b.last = len(b.b)
	b.b = binary.NativeEndian.AppendUint32(b.b, uint32(unix.SizeofNlMsghdr+len(m.bytes())))
	b.b = binary.NativeEndian.AppendUint16(b.b, kind)
	b.b = binary.NativeEndian.AppendUint16(b.b, unix.NLM_F_REQUEST|flags)
	b.b = binary.NativeEndian.AppendUint32(b.b, uint32(len(b.words)))
	b.b = binary.NativeEndian.AppendUint32(b.b, 0)
	b.b = append(b.b, m.bytes()...)
}

// newBatch begins a batch: struct nfgenmsg, whose last field is in network order.
func newBatch() *nftBatch {
	b := &nftBatch{}
	b.message(unix.NFNL_MSG_BATCH_BEGIN, 0, newMessage([]byte{0, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}))
	return b
}

// end ends the batch. An answer is asked for to the last command alone: one that
// fails is answered unasked.
func (b *nftBatch) end() []byte {
	binary.NativeEndian.PutUint16(b.b[b.last+6:], binary.NativeEndian.Uint16(b.b[b.last+6:])|unix.NLM_F_ACK)
	b.message(unix.NFNL_MSG_BATCH_END, 0, newMessage([]byte{0, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}))
	return b.b
}

// sendBatch has the commands carried out. It has a socket of its own: one that is
// used further could hold answers that were not read.
func (k *Kernel) sendBatch(ctx context.Context, b *nftBatch) error {
	all := b.end()
	return uninterrupted(func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return k.sendAll(b, all)
	})
}

func (k *Kernel) sendAll(b *nftBatch, all []byte) error {
	var c *conn
	err := k.netns.do(func() (err error) {
		c, err = dial(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return err
	}
	defer c.close()
	// What is sent at once must fit into the socket's buffer. Where it cannot be
	// made larger, sending says so.
	if has, err := unix.GetsockoptInt(c.fd(), unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil && has < 2*len(all) {
		_ = unix.SetsockoptInt(c.fd(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(all))
	}
	send := func() error { return unix.Sendto(c.fd(), all, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }
	if err := uninterrupted(send); err != nil {
		return fmt.Errorf("sending %d commands: %w", len(b.words), err)
	}
	return b.answer(c.fd())
}

// answer reads what became of the batch. The kernel has carried it out by the time
// that it is sent, so that all answers are there.
func (b *nftBatch) answer(fd int) error {
	buf := make([]byte, 1<<16)
	for {
		var n int
		err := uninterrupted(func() (err error) {
			n, _, err = unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
			return err
		})
		if err != nil {
			return fmt.Errorf("reading the kernel's answer: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("reading the kernel's answer: %w", err)
		}
		for _, m := range msgs {
			if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
				return b.failure(m)
			}
		}
	}
}

// failure is the error of an answer, with the command that it is about; nil where
// it is none. The first answer tells: a batch of which a command fails is not
// carried out, and errors come in the order of the commands.
func (b *nftBatch) failure(m syscall.NetlinkMessage) error {
	errno := -int32(binary.NativeEndian.Uint32(m.Data))
	if errno == 0 {
		return nil
	}
	err := error(unix.Errno(errno))
	if at := int(m.Header.Seq); at > 0 && at <= len(b.words) {
		err = fmt.Errorf("%s: %w", b.words[at-1], err)
	}
	return err
}
