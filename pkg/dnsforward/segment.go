package dnsforward

import (
	"encoding/binary"
	"net/netip"
)

// What a transport header stands behind, from IANA's registry of protocol numbers.
const (
	protocolTCP      = 6
	protocolUDP      = 17
	protocolFragment = 44
)

// segment is what the pump must know of a packet of TCP or UDP.
type segment struct {
	from, to netip.Addr
	src, dst uint16
	fragment bool // a part of a packet
	ports    bool // src and dst are there: not in a later fragment
	udp      bool
	sumAt    int // where the transport's checksum is in the packet; 0 where the ports are not there
}

// readSegment reads a whole packet. It takes no IPv4 options, which may send it elsewhere
// (RFC 791 §3.1, source routes), and no IPv6 extension header but a fragment's.
func readSegment(p []byte) (s segment, ok bool) {
	var protocol byte
	begin := 0
	switch {
	case len(p) >= 20 && p[0] == 4<<4|5:
		s.from, s.to = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
		at := binary.BigEndian.Uint16(p[6:])
		s.fragment, s.ports = at&0x3fff != 0, at&0x1fff == 0
		protocol, begin = p[9], 20
	case len(p) >= 40 && p[0]>>4 == 6:
		s.from, s.to = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
		protocol, begin, s.ports = p[6], 40, true
		if protocol == protocolFragment && len(p) >= 48 { // RFC 8200 §4.5
			s.fragment, s.ports = true, binary.BigEndian.Uint16(p[42:])&0xfff8 == 0
			protocol, begin = p[40], 48
		}
	default:
		return segment{}, false
	}
	s.udp = protocol == protocolUDP
	switch {
	case !s.udp && protocol != protocolTCP:
		return segment{}, false
	case !s.ports:
		return s, true
	case s.udp:
		s.sumAt = begin + 6 // RFC 768
	default:
		s.sumAt = begin + 16 // RFC 9293 §3.1
	}
	// A first fragment that ends before the checksum is an attacker's (RFC 1858 §3): a
	// kernel makes each but the last as long as the MTU allows.
	if len(p) < s.sumAt+2 {
		return segment{}, false
	}
	s.src, s.dst = binary.BigEndian.Uint16(p[begin:]), binary.BigEndian.Uint16(p[begin+2:])
	return s, true
}

// setSource puts another source address of the same family into the packet, as
// setDestination does with the destination.
func (s segment) setSource(p []byte, addr netip.Addr) {
	if addr.Is4() {
		s.replace(p, 12, addr)
	} else {
		s.replace(p, 8, addr)
	}
}

func (s segment) setDestination(p []byte, addr netip.Addr) {
	if addr.Is4() {
		s.replace(p, 16, addr)
	} else {
		s.replace(p, 24, addr)
	}
}

// replace puts an address in the place of the one that is there, and has the
// checksums that cover it follow: that of an IPv4 header, and that of TCP or UDP, which a
// first fragment has for all of them. A checksum that was wrong stays so.
func (s segment) replace(p []byte, at int, addr netip.Addr) {
	now := addr.AsSlice()
	was := p[at : at+len(now)]
	if addr.Is4() {
		follow(p[10:12], was, now)
	}
	if s.sumAt > 0 {
		sum := p[s.sumAt : s.sumAt+2]
		if !s.udp || !isZero(sum) { // RFC 768: zero says that there is none
			follow(sum, was, now)
			if s.udp && isZero(sum) {
				sum[0], sum[1] = 0xff, 0xff
			}
		}
	}
	copy(was, now)
}

func isZero(checksum []byte) bool { return checksum[0]|checksum[1] == 0 }

// follow corrects a checksum for what becomes of octets that it covers: the third
// equation of RFC 1624 §3. Both have the same even length.
func follow(checksum, was, now []byte) {
	sum := uint32(^binary.BigEndian.Uint16(checksum))
	for i := 0; i < len(was); i += 2 {
		sum += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(now[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(checksum, ^uint16(sum))
}
