package frame

import (
	"errors"
	"net/netip"

	"github.com/podwire/podwire/pkg/netstate"
)

// Types of ICMPv6 message: those of Neighbor Discovery (RFC 4861 §4).
const (
	RouterSolicitation    = 133
	RouterAdvertisement   = 134
	NeighborSolicitation  = 135
	NeighborAdvertisement = 136
)

// ICMP6 is an ICMPv6 message in an IPv6 packet in an Ethernet frame.
type ICMP6 struct {
	SrcMAC, DstMAC netstate.MAC
	Src, Dst       netip.Addr
	HopLimit       uint8  // 255 in all of Neighbor Discovery; AppendICMP6 takes 0 for it
	Payload        []byte // from the type on; AppendICMP6 works out the checksum in it
}

const (
	icmp6Len        = 4 // type, code, checksum (RFC 4443 §2.1)
	icmp6ChecksumAt = 2

	// neighborHopLimit is that of a packet that no router has forwarded
	// (RFC 4861 §3.1).
	neighborHopLimit = 255

	optSourceLinkAddr = 1 // RFC 4861 §4.6.1
)

var (
	errNotICMP6      = errors.New("reading IPv6 header: not ICMPv6")
	errShortICMP6    = errors.New("reading ICMPv6 header: packet too short")
	errICMP6Checksum = errors.New("reading ICMPv6 header: wrong checksum")
)

// ParseICMP6 reads a frame that came from a guest. The payload is a part of b, not
// a copy. Unlike those of UDP and TCP, guests finish this checksum themselves, so
// it must be right.
func ParseICMP6(b []byte) (ICMP6, error) {
	dst, src, packet, err := payloadOf(b, EtherTypeIPv6, errNotIPv6)
	if err != nil {
		return ICMP6{}, err
	}
	header, message, err := splitIPv6(packet)
	if err != nil {
		return ICMP6{}, err
	}
	if header[6] != protocolICMP6 {
		return ICMP6{}, errNotICMP6
	}
	if len(message) < icmp6Len {
		return ICMP6{}, errShortICMP6
	}
	// What is summed up together with its own checksum comes to all ones.
	if checksum(protocolICMP6, header[8:], message) != 0 {
		return ICMP6{}, errICMP6Checksum
	}
	return ICMP6{
		SrcMAC: src, DstMAC: dst,
		Src: netip.AddrFrom16([16]byte(header[8:])), Dst: netip.AddrFrom16([16]byte(header[24:])),
		HopLimit: header[7],
		Payload:  message,
	}, nil
}

// AppendICMP6 appends the frame to dst, with a finished checksum. What cannot be
// written, because an address is not IPv6 or the payload is no ICMPv6 message or
// too long a one, is not: dst comes back as it was.
func AppendICMP6(dst []byte, m ICMP6) []byte {
	if !m.Src.Is6() || !m.Dst.Is6() || len(m.Payload) < icmp6Len || len(m.Payload) > 0xffff {
		return dst
	}
	hopLimit := m.HopLimit
	if hopLimit == 0 {
		hopLimit = neighborHopLimit
	}
	b := appendEthernet(dst, m.DstMAC, m.SrcMAC, EtherTypeIPv6)
	b = appendIPv6(b, m.Src, m.Dst, protocolICMP6, hopLimit, len(m.Payload))
	at := len(b)
	b = append(b, m.Payload...)
	put(b, at+icmp6ChecksumAt, 0)
	put(b, at+icmp6ChecksumAt, checksum(protocolICMP6, b[at-32:at], b[at:]))
	return b
}

// IsSolicitation reports whether m is a router or neighbor solicitation, as kind
// says, that a receiver may heed: all that RFC 4861 §6.1.1 and §7.1.1 have in
// common. fixed is the length of what comes before the options.
func (m ICMP6) IsSolicitation(kind uint8, fixed int) bool {
	if len(m.Payload) < max(fixed, icmp6Len) || m.Payload[0] != kind || m.Payload[1] != 0 || m.HopLimit != neighborHopLimit {
		return false
	}
	// A multicast source is nobody's (RFC 4291 §2.7).
	if m.Src.IsMulticast() {
		return false
	}
	return optionsFit(m.Payload[fixed:], m.Src.IsUnspecified())
}

// optionsFit checks that each option is whole and has a length. One who has no
// address yet must not give a link-layer address for it.
func optionsFit(options []byte, noSource bool) bool {
	for len(options) > 0 {
		if len(options) < 2 || options[1] == 0 {
			return false
		}
		n := int(options[1]) * 8 // in units of 8 octets (RFC 4861 §4.6)
		if n > len(options) || noSource && options[0] == optSourceLinkAddr {
			return false
		}
		options = options[n:]
	}
	return true
}
