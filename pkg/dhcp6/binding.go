package dhcp6

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

const infinite = math.MaxUint32 // RFC 8415 §7.7

// binding returns the index of the association that holds the lease's addresses:
// the first IA_NA that names one of them, for the client has them there, else the
// first IA_NA. It is -1 where the client asks for no address.
func (m *message) binding() int {
	has := slices.IndexFunc(m.req.IAs, func(ia IA) bool {
		return ia.Kind == IANA && slices.ContainsFunc(ia.Addrs, m.isOwn)
	})
	if has >= 0 {
		return has
	}
	return slices.IndexFunc(m.req.IAs, func(ia IA) bool { return ia.Kind == IANA })
}

func (m *message) isOwn(a netip.Addr) bool { return slices.Contains(m.own, a) }

// bind puts all addresses of the lease into one association.
func (m *message) bind() {
	switch {
	case m.req.Type != dhcpv6.MessageTypeSolicit:
	case m.req.RapidCommit: // RFC 8415 §18.3.1
		m.put(optRapidCommit, nil)
	default:
		// The highest preference: no client need wait for another server, as it
		// else would for a second (RFC 8415 §18.2.1).
		m.typ = dhcpv6.MessageTypeAdvertise
		m.put(optPreference, nil, []byte{255})
	}
	i := m.binding()
	if i < 0 {
		return
	}
	lifetime, t1, t2 := times(m.lease.Time)
	head := binary.BigEndian.AppendUint32(nil, m.req.IAs[i].ID)
	head = binary.BigEndian.AppendUint32(head, t1)
	head = binary.BigEndian.AppendUint32(head, t2)
	var addrs [][]byte
	for _, a := range m.own {
		addrs = append(addrs, iaAddr(a, lifetime))
	}
	m.put(optIANA, head, append(addrs, m.lost(m.req.IAs[i])...)...)
}

// lost returns the addresses that the client has and is not to have any longer,
// with lifetimes of zero (RFC 8415 §18.3.4 and §18.3.5). A client that only asks
// for addresses has none to lose: in answers to SOLICIT and REQUEST there may be
// none that it does not get (§18.3.2, §18.3.9).
//
// A REQUEST for another address gets the lease's at once. The RFC has the server
// refuse it with NotOnLink if it is of another prefix, but that costs the guest
// its network for as long as its client repeats the REQUEST: not each of them
// starts anew.
func (m *message) lost(ia IA) [][]byte {
	if m.req.Type != dhcpv6.MessageTypeRenew && m.req.Type != dhcpv6.MessageTypeRebind {
		return nil
	}
	var out [][]byte
	for _, a := range ia.Addrs {
		if !m.isOwn(a) {
			out = append(out, iaAddr(a, 0))
		}
	}
	return out
}

// refuseOthers says of each further association that there is nothing for it.
func (m *message) refuseOthers() {
	bound := m.binding()
	for i, ia := range m.req.IAs {
		switch {
		case i == bound:
		case ia.Kind == IAPD:
			m.putIA(ia, status(iana.StatusNoPrefixAvail, "no prefixes are delegated here"))
		default:
			m.putIA(ia, append([][]byte{status(iana.StatusNoAddrsAvail, "all addresses are in one IA_NA")}, m.lost(ia)...)...)
		}
	}
}

// putIA adds an association without addresses to use. Its times say nothing.
func (m *message) putIA(ia IA, options ...[]byte) {
	head := binary.BigEndian.AppendUint32(nil, ia.ID)
	if ia.Kind != IATA { // T1 and T2
		head = append(head, make([]byte, 8)...)
	}
	m.put(uint16(ia.Kind), head, options...)
}

// iaAddr encodes an address with its two lifetimes (RFC 8415 §21.6).
func iaAddr(a netip.Addr, lifetime uint32) []byte {
	addr := a.As16()
	b := binary.BigEndian.AppendUint32(addr[:], lifetime)
	return option(optIAAddr, binary.BigEndian.AppendUint32(b, lifetime))
}

// times returns the lifetime of a lease, T1 and T2 in seconds.
func times(d time.Duration) (lifetime, t1, t2 uint32) {
	if d <= 0 {
		return infinite, infinite, infinite
	}
	s := min(max(int64(d/time.Second), 1), infinite-1)
	// RFC 8415 §21.4: half, and four fifths.
	return uint32(s), uint32(max(s/2, 1)), uint32(max(s*4/5, 1))
}
