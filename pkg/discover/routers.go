package discover

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Unresolved returns the gateways of a pod interface whose MAC the guest's lease
// is made with, and the snapshot does not know: somebody has to ask the network
// for them while the pod still can. They are global IPv6 gateways, which cannot
// advertise themselves, and gateways of IPv4 routes "via inet6". A guest behind the
// pod's address knows the pod alone.
func Unresolved(s netstate.Snapshot, link netstate.Link, b config.Binding) []netip.Addr {
	if b.For(link) == config.Masquerade {
		return nil
	}
	var out []netip.Addr
	for _, r := range s.RoutesOf(link.Index) {
		if r.Table != netstate.TableMain || r.Type != netstate.TypeUnicast {
			continue
		}
		via := r.Via
		if len(r.NextHops) > 0 {
			via = bestHop(r.NextHops, link.Index).Via
		}
		needed := via.Is6() && (r.Dst.Addr().Is4() || !via.IsLinkLocalUnicast())
		if _, known := macOf(s, link, via); needed && !known && !slices.Contains(out, via) {
			out = append(out, via)
		}
	}
	return out
}

// macOf looks a neighbour up. The newest word comes last: what was asked for is
// added behind what the kernel had.
func macOf(s netstate.Snapshot, link netstate.Link, addr netip.Addr) (netstate.MAC, bool) {
	for _, n := range slices.Backward(s.NeighborsOf(link.Index)) {
		if n.Addr == addr && n.MAC.IsUnicast() {
			return n.MAC, true
		}
	}
	return netstate.MAC{}, false
}

// routers fills in who advertises the IPv6 routes, and what podwire answers for
// so that it can be told.
func (d *discovery) routers(l *lease.Lease) {
	if len(l.AddrsOf(false)) == 0 {
		return
	}
	l.Server.LinkLocal = l.Server.MAC.LinkLocal()
	for _, r := range slices.Backward(l.RoutesOf(false)) { // the default route is the last
		if r.OnLink() || isGateway(*l, r.Via) {
			continue
		}
		addr := d.advertiser(l, r)
		i := slices.IndexFunc(l.Routers, func(o lease.Router) bool { return o.Addr == addr })
		if i < 0 {
			i = len(l.Routers)
			l.Routers = append(l.Routers, lease.Router{Addr: addr})
		}
		l.Routers[i].Gateways = append(l.Routers[i].Gateways, r.Via)
	}
	bestFirst(l)
	if len(l.Routers) == 0 {
		// The guest learns of its prefixes and of DHCPv6 all the same.
		l.Routers = []lease.Router{{Addr: l.Server.LinkLocal}}
	}
}

// bestFirst puts the router of the best default route before the others.
func bestFirst(l *lease.Lease) {
	for _, r := range l.RoutesOf(false) {
		if !r.Default() || r.OnLink() {
			continue
		}
		best := slices.IndexFunc(l.Routers, func(o lease.Router) bool { return slices.Contains(o.Gateways, r.Via) })
		if best < 0 {
			continue
		}
		router := l.Routers[best]
		l.Routers = slices.Insert(slices.Delete(l.Routers, best, best+1), 0, router)
		return
	}
}

func isGateway(l lease.Lease, via netip.Addr) bool {
	return slices.ContainsFunc(l.Routers, func(r lease.Router) bool { return slices.Contains(r.Gateways, via) })
}

// advertiser returns the link-local address that a guest is to take for a
// route's gateway. A global one has a stand-in: the address that its MAC would
// make by itself, which podwire answers for, and very likely the gateway too. One
// that keeps silent has a stand-in without a MAC, until the server has heard it.
func (d *discovery) advertiser(l *lease.Lease, r lease.Route) netip.Addr {
	if r.Via.IsLinkLocalUnicast() {
		return r.Via
	}
	mac, known := macOf(d.snapshot, d.link, r.Via)
	standIn := mac.LinkLocal()
	if !known {
		d.silent(r.Via, dstName(r.Dst))
		standIn = d.link.MAC.Derive("gateway " + r.Via.String()).LinkLocal()
	}
	isReal := slices.ContainsFunc(l.Routes, func(o lease.Route) bool { return o.Via == standIn })
	if !isReal {
		standFor(l, standIn, r.Via, mac)
	}
	return standIn
}

// inet6Gateway returns an IPv4 gateway that stands in for the IPv6 one of a route,
// for a guest can only be told of gateways of a route's own family.
func (d *discovery) inet6Gateway(r netstate.Route, via netip.Addr) (netip.Addr, bool) {
	if r.Dst.Addr().Is6() {
		return netip.Addr{}, false
	}
	if standIn, has := d.standIns[via]; has {
		return standIn, true
	}
	if _, known := macOf(d.snapshot, d.link, via); !known {
		d.silent(via, dstName(r.Dst))
	}
	standIn := d.spare(d.firstStandIn())
	if d.standIns == nil {
		d.standIns = map[netip.Addr]netip.Addr{}
	}
	d.standIns[via] = standIn
	return standIn, true
}

// firstStandIn is where an interface's stand-ins begin, behind the server's address.
// No two interfaces begin at the same: a guest would take the gateways of one for
// those of the other.
func (d *discovery) firstStandIn() int {
	before := 0
	for _, l := range d.snapshot.Links {
		if !l.Loopback && l.Index < d.link.Index {
			before++
		}
	}
	return 2 + 8*(before%30)
}

func (d *discovery) silent(gateway netip.Addr, dst string) {
	if d.unasked {
		return
	}
	d.warn("the gateway %s of %s has not said its MAC: the guest reaches it as soon as it does, by podwire serve", gateway, dst)
}

// answerForStandIns has podwire answer for the IPv4 gateways that it made up.
func (d *discovery) answerForStandIns(l *lease.Lease) {
	for _, r := range l.Routes {
		for via, standIn := range d.standIns {
			if r.Via == standIn {
				mac, _ := macOf(d.snapshot, d.link, via)
				standFor(l, standIn, via, mac)
			}
		}
	}
}

func standFor(l *lease.Lease, standIn, gateway netip.Addr, mac netstate.MAC) {
	if !slices.ContainsFunc(l.Neighbors, func(n lease.Neighbor) bool { return n.Addr == standIn }) {
		l.Neighbors = append(l.Neighbors, lease.Neighbor{Addr: standIn, MAC: mac, StandsFor: gateway})
	}
}
