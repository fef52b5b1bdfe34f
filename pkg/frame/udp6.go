package frame

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/podwire/podwire/pkg/netstate"
)

// UDP6 is a UDP datagram in an IPv6 packet in an Ethernet frame.
type UDP6 struct {
	SrcMAC, DstMAC netstate.MAC
	Src, Dst       netip.AddrPort
	Payload        []byte
}

const (
	ipv6Len = 40 // RFC 8200 §3

	// MaxPayload6 is the most octets that one datagram carries: both length
	// fields have 16 bits, and IPv6's does not count its own header.
	MaxPayload6 = 0xffff - udpLen
)

var (
	errShortIPv6  = errors.New("reading IPv6 header: packet too short")
	errVersion6   = errors.New("reading IPv6 header: version is not 6")
	errPayloadLen = errors.New("reading IPv6 header: impossible payload length")
	errNotUDP6    = errors.New("reading IPv6 header: not UDP")
)

// ParseUDP6 reads a frame that came from a guest. The payload is a part of b, not
// a copy. As in ParseUDP4, the UDP checksum may be unfinished and is not looked
// at; IPv6 has no other.
func ParseUDP6(b []byte) (UDP6, error) {
	dst, src, packet, err := payloadOf(b, EtherTypeIPv6, errNotIPv6)
	if err != nil {
		return UDP6{}, err
	}
	header, segment, err := splitIPv6(packet)
	if err != nil {
		return UDP6{}, err
	}
	if header[6] != protocolUDP {
		return UDP6{}, errNotUDP6
	}
	ports, datagram, err := splitUDP(segment)
	if err != nil {
		return UDP6{}, err
	}
	return UDP6{
		SrcMAC: src, DstMAC: dst,
		Src:     netip.AddrPortFrom(netip.AddrFrom16([16]byte(header[8:])), ports[0]),
		Dst:     netip.AddrPortFrom(netip.AddrFrom16([16]byte(header[24:])), ports[1]),
		Payload: datagram[udpLen:],
	}, nil
}

// splitIPv6 takes the header off a packet and cuts off what lies behind the
// payload length. An extension header is part of the payload.
func splitIPv6(p []byte) (header, payload []byte, err error) {
	if len(p) < ipv6Len {
		return nil, nil, errShortIPv6
	}
	if versionOf(p) != 6 {
		return nil, nil, errVersion6
	}
	end := ipv6Len + int(binary.BigEndian.Uint16(p[4:]))
	if end > len(p) {
		return nil, nil, errPayloadLen
	}
	return p[:ipv6Len], p[ipv6Len:end:end], nil
}

// AppendUDP6 appends the frame to dst, with a finished checksum. What cannot be
// written as one datagram, because an address is not IPv6 or the payload is
// longer than MaxPayload6, is not: dst comes back as it was.
func AppendUDP6(dst []byte, f UDP6) []byte {
	from, to := f.Src.Addr(), f.Dst.Addr()
	if !from.Is6() || !to.Is6() || len(f.Payload) > MaxPayload6 {
		return dst
	}
	b := appendEthernet(dst, f.DstMAC, f.SrcMAC, EtherTypeIPv6)
	b = appendIPv6(b, from, to, protocolUDP, defaultTTL, udpLen+len(f.Payload))
	return appendUDP(b, b[len(b)-32:], f.Src.Port(), f.Dst.Port(), f.Payload)
}

// appendIPv6 appends a header, which ends with both addresses. Traffic class and
// flow label are 0.
func appendIPv6(b []byte, src, dst netip.Addr, next, hopLimit byte, length int) []byte {
	src16, dst16 := src.As16(), dst.As16()
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, next, hopLimit)
	b = append(b, src16[:]...)
	return append(b, dst16[:]...)
}
