package dnsforward

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Peer is an address of the guest's, and the one that the tunnel knows it by. The
// pod's kernel may have the guest's address itself (tc), or reach it by another link
// (masquerade): what comes from it by a tunnel would be lost. A stand-in that the guest
// has no address for any more has none (Guest is not valid).
type Peer struct{ Guest, StandIn netip.Addr }

// firstStandIn is the guest's in the tunnel. Stand-ins count down from it, towards the
// addresses that discover begins to count up from at the network's other end.
var firstStandIn = netip.AddrFrom4([4]byte{169, 254, 75, 254})

// Peers returns all addresses with which a guest may ask, each with a stand-in of its
// own, so that an answer says by itself whom it is for. A stand-in is link-local, or, with IPv6,
// behind the relay's own address. It is none that the lease speaks of or that the pod,
// as it was before it was wired, knows.
func Peers(l lease.Lease, pod netstate.Snapshot) []Peer {
	taken := known(l, pod)
	var peers []Peer
	for _, ipv4 := range []bool{true, false} {
		own := slices.IndexFunc(l.Server.DNS, func(a netip.Addr) bool { return a.Is4() == ipv4 })
		if own < 0 {
			continue
		}
		next, at := netip.Addr.Next, l.Server.DNS[own].Next()
		if ipv4 {
			next, at = netip.Addr.Prev, firstStandIn
		}
		for _, guest := range l.AddrsOf(ipv4) {
			for taken[at] {
				at = next(at)
			}
			peers, at = append(peers, Peer{Guest: guest.Addr(), StandIn: at}), next(at)
		}
	}
	return peers
}

// Readdressed gives the guest's addresses of a later lease the stand-ins that there
// are: the tunnel and its routes stay, which a server without privileges could not change. An
// address that stays keeps its own, and the others get what is left of their family, in order.
// It also returns those for which nothing is left.
func Readdressed(peers []Peer, l lease.Lease) (now []Peer, without []netip.Addr) {
	now = slices.Clone(peers)
	var added []netip.Addr
	for i, p := range now {
		if !slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool { return a.Addr() == p.Guest }) {
			now[i].Guest = netip.Addr{}
		}
	}
	for _, a := range l.Addrs {
		relayed := slices.ContainsFunc(l.Server.DNS, func(dns netip.Addr) bool { return dns.Is4() == a.Addr().Is4() })
		if relayed && !slices.ContainsFunc(now, func(p Peer) bool { return p.Guest == a.Addr() }) {
			added = append(added, a.Addr())
		}
	}
	for _, a := range added {
		free := slices.IndexFunc(now, func(p Peer) bool { return !p.Guest.IsValid() && p.StandIn.Is4() == a.Is4() })
		if free < 0 {
			without = append(without, a)
			continue
		}
		now[free].Guest = a
	}
	return now, without
}

// known are the addresses that mean something to the guest or to the pod.
func known(l lease.Lease, pod netstate.Snapshot) map[netip.Addr]bool {
	all := slices.Concat(l.DNS, l.NTP, l.Upstream, l.Server.DNS, []netip.Addr{l.Server.ID})
	for _, p := range slices.Concat(l.Addrs, l.Server.Gateways) {
		all = append(all, p.Addr())
	}
	for _, r := range l.Routes {
		all = append(all, r.Via, r.Dst.Addr())
	}
	for _, n := range l.Neighbors {
		all = append(all, n.Addr)
	}
	for _, a := range pod.Addrs {
		all = append(all, a.Prefix.Addr(), a.Peer)
	}
	for _, r := range pod.Routes {
		all = append(all, r.Via, r.Dst.Addr())
	}
	for _, n := range pod.Neighbors {
		all = append(all, n.Addr)
	}
	known := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		known[a] = true
	}
	return known
}
