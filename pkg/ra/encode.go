package ra

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/wiretext"
)

// Options (RFC 4861 §4.6, RFC 4191 §2.3, RFC 8106 §5).
const (
	optPrefix = 3
	optMTU    = 5
	optRoute  = 24
	optRDNSS  = 25
	optDNSSL  = 31
)

const (
	flagManaged = 0x80 // addresses by DHCPv6
	flagOther   = 0x40 // and the rest, too
	flagOnLink  = 0x80 // of a prefix; without the one for autoconfiguration

	curHopLimit = 64 // what the guest's own packets start with (RFC 1700, "IP time to live")

	ipv6Len  = 40
	fixedLen = 16 // RFC 4861 §4.2, without options
	unit     = 8  // octets: what lengths of options count

	// mostMTU bounds a message where the link would carry more: libndp, by which
	// NetworkManager listens, reads no more than 1500 octets.
	mostMTU = 1500
)

// encode writes the message out as one, or as several where it would not fit the
// MTU, each a message in its own right (RFC 4861 §6.2.3). lifetime is that of all
// it says but for the router itself, in seconds.
func (m message) encode(lifetime uint32, mtu int) []Advertisement {
	room := min(max(mtu, leastMTU), mostMTU) - ipv6Len - fixedLen
	room -= room % unit
	link, routes := m.linkOptions(lifetime, room), m.routeOptions(lifetime)

	// Hosts add up what several messages say (RFC 4861 §6.3.4), but dhcpcd goes by
	// the last one alone: what the guest needs most is in each, unless it leaves
	// the routes no room.
	repeated := m.header()
	if all := slices.Concat(link...); len(all) <= room/2 {
		repeated, link = append(repeated, all...), nil
	}
	body := slices.Clone(repeated)
	var out []Advertisement
	for _, option := range slices.Concat(link, routes) {
		if len(body)+len(option) > fixedLen+room {
			out = append(out, Advertisement{Src: m.src, Payload: body})
			body = slices.Clone(repeated)
		}
		body = append(body, option...)
	}
	return append(out, Advertisement{Src: m.src, Payload: body})
}

// header is what comes before the options (RFC 4861 §4.2). Reachable time and
// retransmission timer are left to the guest. It gets no link-layer address: it
// asks for that, and an old one would harm.
func (m message) header() []byte {
	flags := byte(flagManaged | flagOther)
	if m.lifetime > 0 { // else it must be medium (RFC 4191 §2.2)
		flags |= byte(m.pref) << 3
	}
	b := []byte{frame.RouterAdvertisement, 0, 0, 0, curHopLimit, flags}
	b = binary.BigEndian.AppendUint16(b, m.lifetime)
	return append(b, make([]byte, 8)...)
}

// linkOptions are all but the routes. None is longer than half the room, so that
// little is left empty; that is less than the 255 units that an option may have.
func (m message) linkOptions(lifetime uint32, room int) [][]byte {
	var out [][]byte
	for _, p := range m.prefixes {
		out = append(out, prefixOption(p, lifetime))
	}
	if m.mtu > 0 {
		b := []byte{optMTU, 1, 0, 0}
		out = append(out, binary.BigEndian.AppendUint32(b, uint32(m.mtu)))
	}
	most := room / 2 / unit * unit
	for servers := range slices.Chunk(m.dns, (most-unit)/16) {
		out = append(out, dnsOption(servers, lifetime))
	}
	return append(out, searchOptions(m.search, lifetime, most)...)
}

// prefixOption says that a prefix is on the link, and nothing else (RFC 4861
// §4.6.2): its preferred lifetime is for autoconfiguration.
func prefixOption(p netip.Prefix, lifetime uint32) []byte {
	addr := p.Addr().As16()
	b := []byte{optPrefix, 4, byte(p.Bits()), flagOnLink}
	b = binary.BigEndian.AppendUint32(b, lifetime)
	b = binary.BigEndian.AppendUint32(b, lifetime)
	b = append(b, 0, 0, 0, 0)
	return append(b, addr[:]...)
}

// dnsOption is the recursive DNS server option (RFC 8106 §5.1).
func dnsOption(servers []netip.Addr, lifetime uint32) []byte {
	b := []byte{optRDNSS, byte(1 + 2*len(servers)), 0, 0}
	b = binary.BigEndian.AppendUint32(b, lifetime)
	for _, s := range servers {
		addr := s.As16()
		b = append(b, addr[:]...)
	}
	return b
}

// searchOptions are as many DNS search list options (RFC 8106 §5.2) as it takes
// for none to be longer than most. Names are written out: pointers are not
// allowed there.
func searchOptions(names []string, lifetime uint32, most int) [][]byte {
	var out [][]byte
	var body []byte
	flush := func() {
		b := []byte{optDNSSL, byte(1 + (len(body)+unit-1)/unit), 0, 0}
		b = binary.BigEndian.AppendUint32(b, lifetime)
		b = append(b, body...)
		out = append(out, append(b, make([]byte, (unit-len(b)%unit)%unit)...))
	}
	for _, name := range names {
		encoded := append(wiretext.AppendName(nil, name), 0)
		if len(body) > 0 && unit+len(body)+len(encoded) > most {
			flush()
			body = nil
		}
		body = append(body, encoded...)
	}
	if len(body) > 0 {
		flush()
	}
	return out
}

// routeOptions are route information options (RFC 4191 §2.3), each as short as
// its prefix allows: 1 unit for none of it, 2 for up to 64 bits, else 3.
func (m message) routeOptions(lifetime uint32) [][]byte {
	var out [][]byte
	for _, r := range m.routes {
		units := 1 + (r.dst.Bits()+63)/64
		addr := r.dst.Addr().As16()
		b := []byte{optRoute, byte(units), byte(r.dst.Bits()), byte(r.pref) << 3}
		b = binary.BigEndian.AppendUint32(b, lifetime)
		out = append(out, append(b, addr[:(units-1)*unit]...))
	}
	return out
}
