//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/netstate"
)

// vnetHeader is struct virtio_net_hdr: what is unfinished about a frame.
type vnetHeader struct {
	flags, gsoType                          uint8
	headerLen, gsoSize, csumStart, csumOffs uint16
}

func (h vnetHeader) bytes() []byte {
	b := []byte{h.flags, h.gsoType}
	for _, v := range []uint16{h.headerLen, h.gsoSize, h.csumStart, h.csumOffs} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return b
}

func parseVnetHeader(b []byte) vnetHeader {
	at := func(i int) uint16 { return binary.NativeEndian.Uint16(b[i:]) }
	return vnetHeader{b[0], b[1], at(2), at(4), at(6), at(8)}
}

// end is one end of a wire: a guest's queue, or a packet socket. Both give frames
// whole, with what is unfinished about them.
type end struct {
	fd     int
	socket bool
	source netstate.MAC // of what it sends; zero for what the frames say
}

// own is a frame as the end would send it.
func (e *end) own(frame []byte) []byte {
	if e.source == (netstate.MAC{}) {
		return frame
	}
	return edit(frame, offSource, e.source[:]...)
}

// tapEnd is a guest that holds a tap open.
func tapEnd(fd int) *end { return &end{fd: fd} }

// packetEnd is a packet socket that hears what comes to the link.
func packetEnd(t *testing.T, ns *netnstest.NS, link string) *end {
	t.Helper()
	index := ns.Index(t, link)
	fd := -1
	var err error
	ns.Do(t, func() {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_AUXDATA, unix.PACKET_IGNORE_OUTGOING} {
			err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1))
		}
		err = errors.Join(err, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian16(unix.ETH_P_ALL), Ifindex: index}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &end{fd: fd, socket: true}
}

// offload makes a tap take what is unfinished, as a virtio driver does.
func (e *end) offload(t *testing.T) {
	t.Helper()
	if err := unix.IoctlSetInt(e.fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4); err != nil {
		t.Fatal(err)
	}
}

func (e *end) send(t *testing.T, frame []byte) {
	t.Helper()
	e.sendWith(t, vnetHeader{}, frame)
}

func (e *end) sendWith(t *testing.T, h vnetHeader, frame []byte) {
	t.Helper()
	if _, err := unix.Write(e.fd, append(h.bytes(), e.own(frame)...)); err != nil {
		t.Fatalf("sending a frame: %v", err)
	}
}

// received is a frame with what is unfinished about it.
type received struct {
	header vnetHeader
	frame  []byte
}

// nextWith is the next frame that is wanted, or nil if there is a second of silence.
func (e *end) nextWith(t *testing.T, want func([]byte) bool) *received {
	t.Helper()
	deadline := time.Now().Add(time.Second)
	for {
		left := time.Until(deadline)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(e.fd), Events: unix.POLLIN}}, max(int(left.Milliseconds()), 0))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return nil
		}
		if got := e.receive(t); want(got.frame) {
			return got
		}
	}
}

func (e *end) next(t *testing.T, want func([]byte) bool) []byte {
	t.Helper()
	if got := e.nextWith(t, want); got != nil {
		return got.frame
	}
	return nil
}

func (e *end) receive(t *testing.T) *received {
	t.Helper()
	buf, control := make([]byte, 1<<17), make([]byte, 256)
	n, controls := 0, 0
	var err error
	if e.socket {
		n, controls, _, _, err = unix.Recvmsg(e.fd, buf, control, 0)
	} else {
		n, err = unix.Read(e.fd, buf)
	}
	if err != nil || n < virtioHeader+etherEnd {
		t.Fatalf("receiving a frame: %d octets, %v", n, err)
	}
	got := &received{parseVnetHeader(buf), slices.Clone(buf[virtioHeader:n])}
	if tag := vlanTag(t, control[:controls]); tag != nil {
		got.frame = slices.Insert(got.frame, 12, tag...)
	}
	return got
}

// vlanTag is the tag that the kernel took out of a frame, from its struct
// tpacket_auxdata.
func vlanTag(t *testing.T, control []byte) []byte {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA {
			continue
		}
		if status := binary.NativeEndian.Uint32(m.Data); status&unix.TP_STATUS_VLAN_VALID != 0 {
			tag := binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(m.Data[18:]))
			return binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[16:]))
		}
	}
	return nil
}

// crosses reports whether a frame comes from one end to the other, with its VLAN
// tag. A marker follows it, for frames keep their order; where that does not come
// either, there is no way.
func crosses(t *testing.T, from, to *end, frame []byte) bool {
	t.Helper()
	from.send(t, frame)
	from.send(t, marker(1))
	isMarker := func(b []byte) bool { return bytes.Equal(b, from.own(marker(1))) }
	got := to.next(t, func(b []byte) bool { return bytes.Equal(b, from.own(frame)) || isMarker(b) })
	if got == nil || isMarker(got) {
		return false
	}
	return to.next(t, isMarker) != nil
}

const (
	tcpStart = etherEnd + 20
	tcpEnd   = tcpStart + 20
)

// bigSegment is a frame of TCP that is longer than any link's MTU, and whose checksum
// is unfinished: it is that of the pseudo header (RFC 9293 §3.1) alone.
func bigSegment(size int) (vnetHeader, []byte) {
	tcp := make([]byte, 20, 20+size)
	binary.BigEndian.PutUint16(tcp[0:], 40000)
	binary.BigEndian.PutUint16(tcp[2:], 5001)
	tcp[12], tcp[13] = 5<<4, 0x10 // an acknowledgement
	for i := range size {
		tcp = append(tcp, byte(i>>8)^byte(i))
	}
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)))
	ip = addressed(ip, gatewayIP, podIP)
	binary.BigEndian.PutUint16(tcp[16:], ^checksum(pseudoHeader(ip, len(tcp))))
	header := vnetHeader{
		flags: 1, gsoType: 1, // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4
		headerLen: tcpEnd, gsoSize: 1400, csumStart: tcpStart, csumOffs: 16,
	}
	return header, ether(0x0800, slices.Concat(ip, tcp))
}

func pseudoHeader(ip []byte, size int) []byte {
	return slices.Concat(ip[12:20], []byte{0, ip[9]}, binary.BigEndian.AppendUint16(nil, uint16(size)))
}

func isTCP(b []byte) bool { return b[12] == 8 && b[13] == 0 && b[23] == unix.IPPROTO_TCP }

// payload finishes the frame's checksum, as the last hop would, and is what the
// segment carries where that is right.
func (r received) payload(t *testing.T) []byte {
	t.Helper()
	even := func(b []byte) []byte { return append(slices.Clone(b), make([]byte, len(b)%2)...) }
	frame := r.frame
	if r.header.flags&1 != 0 {
		sum := checksum(even(frame[r.header.csumStart:]))
		frame = edit(frame, int(r.header.csumStart+r.header.csumOffs), byte(sum>>8), byte(sum))
	}
	ip, tcp := frame[etherEnd:tcpStart], frame[tcpStart:]
	if checksum(ip) != 0 {
		t.Error("the checksum of IPv4 is wrong")
	}
	if sum := checksum(append(pseudoHeader(ip, len(tcp)), even(tcp)...)); sum != 0 {
		t.Errorf("the checksum of TCP is wrong by %04x", sum)
	}
	return frame[tcpEnd:]
}
