// Package ra makes the router advertisements that tell a lease's IPv6 side to the
// guest: its routers, the prefixes on its link, further routes, MTU and DNS
// (RFC 4861, 4191, 8106).
//
// It is pure: a lease in, messages out. It keeps no timers, opens no sockets, and
// puts no headers around a message; when and to whom they go is the business of
// who serves. Addresses come by DHCPv6, so no prefix is for autoconfiguration.
//
// The messages are written by hand: mdlayher/ndp, which reads them again in the
// tests, cannot write an option beyond 248 octets, as long search lists need, and
// is 100 KB more in every pod.
package ra

import (
	"math"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
)

// Advertisement is one message of one router.
type Advertisement struct {
	Src     netip.Addr // the router: link-local, the source of the packet
	Payload []byte     // the ICMPv6 message, its checksum zero
}

// infinite is the lifetime that does not run out (RFC 4861 §4.6.2, RFC 4191 §2.3,
// RFC 8106 §5.1). What is no longer so is taken back, with a lifetime of 0.
const infinite = math.MaxUint32

// Advertise returns what the guest is to be told, router by router in the lease's
// order. A router has more than one message where one would be longer than the
// guest can take; each of them says all that is not a list.
func Advertise(l lease.Lease) []Advertisement {
	var out []Advertisement
	for _, m := range messagesOf(l) {
		out = append(out, m.encode(infinite, l.MTU)...)
	}
	return out
}

// Withdraw returns what takes back all that Advertise said of the old lease and
// does not say of the new one. A guest may keep what it learned by the router
// that it learned it from, so each takes back its own, even where another says it
// now: send Advertise's messages after these.
func Withdraw(old, new lease.Lease) []Advertisement {
	var out []Advertisement
	now := messagesOf(new)
	for _, m := range messagesOf(old) {
		gone := m
		gone.lifetime, gone.mtu = 0, 0 // an MTU cannot be taken back
		if i := slices.IndexFunc(now, func(n message) bool { return n.src == m.src }); i >= 0 {
			gone = m.without(now[i])
			if gone.empty() {
				continue
			}
		}
		out = append(out, gone.encode(0, min(old.MTU, new.MTU))...)
	}
	return out
}

// solicitationLen is that of a router solicitation without options (RFC 4861 §4.1).
const solicitationLen = 8

// Solicited reports whether the frame is a router solicitation of the lease's
// guest that is as it must be (RFC 4861 §6.1.1). src is where an answer goes; it
// is :: where the guest has no address yet, and the answer goes to all nodes.
func Solicited(l lease.Lease, request []byte) (src netip.Addr, ok bool) {
	m, err := frame.ParseICMP6(request)
	if err != nil || m.SrcMAC != l.MAC || !m.IsSolicitation(frame.RouterSolicitation, solicitationLen) {
		return netip.Addr{}, false
	}
	return m.Src, true
}

// probeLen is that of a neighbor solicitation without options (RFC 4861 §4.3).
const probeLen = 24

// CameUp reports whether the frame is the guest's probe for the link-local address
// that its MAC makes: the first thing that most hosts send on a link (RFC 4862
// §5.4). To tell it of its routers then saves it the wait until it may ask.
func CameUp(l lease.Lease, probe []byte) bool {
	m, err := frame.ParseICMP6(probe)
	if err != nil || m.SrcMAC != l.MAC || !m.Src.IsUnspecified() || !m.IsSolicitation(frame.NeighborSolicitation, probeLen) {
		return false
	}
	return netip.AddrFrom16([16]byte(m.Payload[8:probeLen])) == l.MAC.LinkLocal()
}
