package pod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// responder answers ARP and neighbour discovery on a link, for each address that is
// asked for, as Cilium's program on the node's end of a pod's link does; also for the
// asking pod's own, as others do. Link-local IPv6 addresses it leaves to their owners.
type responder struct {
	socket *os.File
	mac    net.HardwareAddr
	done   chan struct{}
}

// answerAll starts a responder on a link of a space.
func answerAll(s *Space, link string) (*responder, error) {
	r := &responder{done: make(chan struct{})}
	text, err := s.MAC(link)
	if err == nil {
		r.mac, err = net.ParseMAC(text)
	}
	if err == nil {
		err = s.Do(func() error { return r.open(link) })
	}
	if err != nil {
		return nil, fmt.Errorf("answering for all addresses on %q: %w", link, err)
	}
	go r.run()
	return r, nil
}

func (r *responder) open(link string) error {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: ifi.Index}),
	)
	if err != nil {
		unix.Close(fd)
		return err
	}
	r.socket = os.NewFile(uintptr(fd), link)
	return nil
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func (r *responder) run() {
	defer close(r.done)
	frame := make([]byte, 1<<16)
	for {
		n, err := r.socket.Read(frame)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return
		}
		if answer := r.answer(frame[:n]); answer != nil {
			_, _ = r.socket.Write(answer) // lost, as on a cable
		}
	}
}

// Close ends it.
func (r *responder) Close() error {
	err := r.socket.Close()
	<-r.done
	return err
}

func (r *responder) answer(frame []byte) []byte {
	switch {
	case len(frame) >= 42 && bytes.Equal(frame[12:22], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}):
		return r.arp(frame)
	case len(frame) >= 78 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == unix.IPPROTO_ICMPV6 && frame[54] == 135:
		return r.advertise(frame)
	}
	return nil
}

// arp is the reply to a request (RFC 826).
func (r *responder) arp(request []byte) []byte {
	asker, senderIP, target := request[22:28], request[28:32], request[38:42]
	out := append(append([]byte{}, asker...), r.mac...)
	out = append(out, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
	out = append(append(out, r.mac...), target...)
	return append(append(out, asker...), senderIP...)
}

// advertise is the neighbour advertisement for a solicitation (RFC 4861 §4.4): router,
// override, and solicited unless the solicitation is a probe.
func (r *responder) advertise(solicitation []byte) []byte {
	source, target := netip.AddrFrom16([16]byte(solicitation[22:38])), netip.AddrFrom16([16]byte(solicitation[62:78]))
	if target.IsLinkLocalUnicast() {
		return nil
	}
	to, dst, flags := net.HardwareAddr(solicitation[6:12]), source, byte(0xe0)
	if source.IsUnspecified() {
		to, dst, flags = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, netip.IPv6LinkLocalAllNodes(), 0xa0
	}
	message := append([]byte{136, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
	message = append(append(message, 2, 1), r.mac...)
	binary.BigEndian.PutUint16(message[2:], checksum(target, dst, message))

	out := append(append(append([]byte{}, to...), r.mac...), 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(out, target.AsSlice()...), dst.AsSlice()...), message...)
}

// checksum is that of an ICMPv6 message of even length whose own is zero
// (RFC 8200 §8.1).
func checksum(src, dst netip.Addr, message []byte) uint16 {
	sum := uint32(len(message)) + unix.IPPROTO_ICMPV6
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), message} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// MAC returns the Ethernet address of a link of the space.
func (s *Space) MAC(link string) (string, error) {
	content, err := s.ReadFile("/sys/class/net/" + link + "/address")
	return strings.TrimSpace(string(content)), err
}

// linkLocal is the address that a host makes of its MAC (RFC 4291 appendix A).
func linkLocal(mac string) netip.Addr {
	m, err := net.ParseMAC(mac)
	if err != nil {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
