package frame

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/podwire/podwire/pkg/netstate"
)

// UDP4 is a UDP datagram in an IPv4 packet in an Ethernet frame.
type UDP4 struct {
	SrcMAC, DstMAC netstate.MAC
	Src, Dst       netip.AddrPort
	Payload        []byte
}

const (
	ipv4Len    = 20 // a header without options (RFC 791 §3.1)
	udpLen     = 8  // RFC 768
	defaultTTL = 64 // RFC 1700, "IP time to live"

	// MaxPayload4 is the most octets that one datagram carries: both length
	// fields have 16 bits.
	MaxPayload4 = 0xffff - ipv4Len - udpLen
)

var (
	errShortIPv4    = errors.New("reading IPv4 header: packet too short")
	errVersion      = errors.New("reading IPv4 header: version is not 4")
	errHeaderLen    = errors.New("reading IPv4 header: impossible header length")
	errTotalLen     = errors.New("reading IPv4 header: impossible total length")
	errIPv4Checksum = errors.New("reading IPv4 header: wrong checksum")
	errFragment     = errors.New("reading IPv4 header: a fragment")
	errNotUDP       = errors.New("reading IPv4 header: not UDP")
	errShortUDP     = errors.New("reading UDP header: packet too short")
	errUDPLen       = errors.New("reading UDP header: impossible length")
)

// ParseUDP4 reads a frame that came from a guest. The payload is a part of b,
// not a copy.
//
// It does not look at the UDP checksum. A guest with virtio checksum offload
// leaves it unfinished, for the device to complete, and a packet socket on the
// tap sees the frame before anything has completed it. The IPv4 header's
// checksum is never left to the device, so that one must be right.
func ParseUDP4(b []byte) (UDP4, error) {
	dst, src, packet, err := payloadOf(b, EtherTypeIPv4, errNotIPv4)
	if err != nil {
		return UDP4{}, err
	}
	header, datagram, err := splitIPv4(packet)
	if err != nil {
		return UDP4{}, err
	}
	if header[9] != protocolUDP {
		return UDP4{}, errNotUDP
	}
	ports, datagram, err := splitUDP(datagram)
	if err != nil {
		return UDP4{}, err
	}
	return UDP4{
		SrcMAC: src, DstMAC: dst,
		Src:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(header[12:])), ports[0]),
		Dst:     netip.AddrPortFrom(netip.AddrFrom4([4]byte(header[16:])), ports[1]),
		Payload: datagram[udpLen:],
	}, nil
}

// splitUDP checks the header's length and cuts off what lies behind the datagram.
func splitUDP(segment []byte) (ports [2]uint16, datagram []byte, err error) {
	if len(segment) < udpLen {
		return ports, nil, errShortUDP
	}
	n := int(binary.BigEndian.Uint16(segment[4:]))
	if n < udpLen || n > len(segment) {
		return ports, nil, errUDPLen
	}
	ports = [2]uint16{binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])}
	return ports, segment[:n:n], nil
}

// splitIPv4 takes the header off a packet that is whole.
func splitIPv4(p []byte) (header, payload []byte, err error) {
	header, payload, err = checkIPv4(p)
	// All but the don't-fragment and the reserved bit: more fragments, offset.
	if err == nil && binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
		return nil, nil, errFragment
	}
	return header, payload, err
}

// checkIPv4 checks the header, options included, and cuts off what lies behind
// the total length: Ethernet pads short frames.
func checkIPv4(p []byte) (header, payload []byte, err error) {
	if len(p) < ipv4Len {
		return nil, nil, errShortIPv4
	}
	if p[0]>>4 != 4 {
		return nil, nil, errVersion
	}
	n := int(p[0]&0xf) * 4
	if n < ipv4Len || n > len(p) {
		return nil, nil, errHeaderLen
	}
	total := int(binary.BigEndian.Uint16(p[2:]))
	if total < n || total > len(p) {
		return nil, nil, errTotalLen
	}
	if fold(sum(0, p[:n])) != 0xffff {
		return nil, nil, errIPv4Checksum
	}
	return p[:n], p[n:total], nil
}

// AppendUDP4 appends the frame to dst, with finished checksums. What cannot be
// written as one datagram, because an address is not IPv4 or the payload is
// longer than MaxPayload4, is not: dst comes back as it was.
func AppendUDP4(dst []byte, f UDP4) []byte {
	from, to := f.Src.Addr().Unmap(), f.Dst.Addr().Unmap()
	if !from.Is4() || !to.Is4() || len(f.Payload) > MaxPayload4 {
		return dst
	}
	src4, dst4 := from.As4(), to.As4()
	length := uint16(udpLen + len(f.Payload))

	b := appendEthernet(dst, f.DstMAC, f.SrcMAC, EtherTypeIPv4)
	ip := len(b)
	b = append(b, 4<<4|ipv4Len/4, 0)
	b = binary.BigEndian.AppendUint16(b, ipv4Len+length)
	// Identification 0, DF unset: the tap carries the frame whole, and a guest
	// that forwards it to somewhere narrower may cut it.
	b = append(b, 0, 0, 0, 0, defaultTTL, protocolUDP, 0, 0)
	b = append(b, src4[:]...)
	b = append(b, dst4[:]...)
	put(b, ip+10, ^fold(sum(0, b[ip:])))
	return appendUDP(b, b[ip+12:], f.Src.Port(), f.Dst.Port(), f.Payload)
}

// appendUDP appends the datagram. addrs are both addresses of the IP header.
func appendUDP(b, addrs []byte, src, dst uint16, payload []byte) []byte {
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	b = append(b, 0, 0)
	b = append(b, payload...)
	put(b, udp+udpChecksumAt, udpChecksum(addrs, b[udp:]))
	return b
}
