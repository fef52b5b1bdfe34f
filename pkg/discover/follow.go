package discover

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/netstate"
)

// Following says of a wired pod interface how much of what its network has become since
// may be taken over.
type Following struct {
	Link string // the pod interface
	// Taken says that podwire has its addresses and routes (the binding bridge): that
	// the kernel does not hold them says nothing, and what it holds is newer.
	Taken bool
	// Wired says that the wiring follows: setup does. Else it stays as it is, and a
	// running guest is told no more than what goes by it.
	Wired bool
}

// Follow returns the snapshot by which a pod interface was wired with what others have
// changed of the interface since, and whether they have. That is addresses that are
// there for good, routes, permanent neighbours and the MTU.
//
// It never loses. What is merely gone, as while a link flaps, stays in the snapshot until
// there is something in its place: of an address's family a new one, of a route's
// destination another route, and of a family that had a way out, one. A setup, which somebody asks for, takes over as well what is
// gone of a family of which there still is an address. What the kernel made by itself,
// and what has a lifetime, is nobody's change, and the MAC is the guest's: it stays.
func Follow(was, now netstate.Snapshot, f Following) (netstate.Snapshot, bool) {
	link, ok := was.LinkByName(f.Link)
	current, there := now.LinkByName(f.Link)
	if !ok || !there || current.Index != link.Index {
		return was, false // another link's network is not this one's
	}
	c := change{Following: f, was: was, now: now, index: link.Index, up: current.Up}
	out := was
	changed := false
	if mtu := c.mtu(link.MTU, current.MTU); mtu != link.MTU {
		out.Links = slices.Clone(was.Links)
		for i := range out.Links {
			if out.Links[i].Index == link.Index {
				out.Links[i].MTU = mtu
			}
		}
		changed = true
	}
	addrs, otherAddrs := c.addrs()
	routes, otherRoutes := c.routes(addrs)
	neighbors, otherNeighbors := c.neighbors()
	if otherAddrs {
		out.Addrs = c.ofOthers(was.Addrs, addrs)
	}
	if otherRoutes {
		rest := slices.DeleteFunc(slices.Clone(was.Routes), func(r netstate.Route) bool { return r.Uses(c.index) })
		out.Routes = slices.Concat(rest, routes)
	}
	if otherNeighbors {
		out.Neighbors = neighbors
	}
	if !f.Wired && c.stranded(out) {
		out.Addrs, out.Routes, out.Neighbors = was.Addrs, was.Routes, was.Neighbors
		return out, changed
	}
	changed = changed || otherAddrs || otherRoutes || otherNeighbors
	if otherRoutes {
		out.Neighbors = c.gateways(out, link)
	}
	return out, changed
}

// change is one comparison.
type change struct {
	Following
	was, now netstate.Snapshot
	index    int
	up       bool // the link is, now
}

// stranded reports whether a family had a way out and has none: the addresses of another
// network are there, and the routes are yet to come.
func (c change) stranded(s netstate.Snapshot) bool {
	for _, ipv4 := range []bool{true, false} {
		out := func(r netstate.Route) bool {
			return r.Default() && r.Dst.Addr().Is4() == ipv4 && r.Table == netstate.TableMain && r.Type == netstate.TypeUnicast
		}
		if slices.ContainsFunc(c.was.RoutesOf(c.index), out) && !slices.ContainsFunc(s.RoutesOf(c.index), out) {
			return true
		}
	}
	return false
}

// leastLinkMTU is the least of Ethernet's in Linux (ETH_MIN_MTU): less is no answer.
const leastLinkMTU = 68

// mtu is what may be told of a link's. More than it was wired with would not come
// through the tap.
func (c change) mtu(was, now int) int {
	if now < leastLinkMTU || !c.Wired && now > was {
		return was
	}
	return now
}

// ofOthers puts the link's addresses in the place of those that it had.
func (c change) ofOthers(all, own []netstate.Addr) []netstate.Addr {
	rest := slices.DeleteFunc(slices.Clone(all), func(a netstate.Addr) bool { return a.Link == c.index })
	return slices.Concat(rest, own)
}

// addrs are the link's, family by family.
func (c change) addrs() (out []netstate.Addr, changed bool) {
	for _, ipv4 := range []bool{true, false} {
		had := slices.DeleteFunc(c.was.AddrsOf(c.index), func(a netstate.Addr) bool { return a.Prefix.Addr().Is4() != ipv4 })
		if has := c.given(ipv4); c.replaces(had, has) {
			// Those with a lifetime, and the link-local ones, are left as they were.
			others := slices.DeleteFunc(had, lasting)
			out, changed = slices.Concat(out, has, others), true
		} else {
			out = append(out, had...)
		}
	}
	return out, changed
}

// given are the addresses of a family that somebody has given the link for good and
// that it can use. While an IPv6 one is not known to be the link's alone, a setup
// counts on it, as its wiring must hold it; a guest is told of it only then.
func (c change) given(ipv4 bool) []netstate.Addr {
	return slices.DeleteFunc(c.now.AddrsOf(c.index), func(a netstate.Addr) bool {
		unsettled := a.Flags&netstate.AddrTentative != 0 && !c.Wired
		return a.Prefix.Addr().Is4() != ipv4 || !lasting(a) || unsettled
	})
}

// lasting reports whether somebody has given an address for good.
func lasting(a netstate.Addr) bool {
	bad := uint32(netstate.AddrDADFailed)
	if a.Prefix.Addr().Is6() {
		bad |= netstate.AddrTemporary
	}
	return a.Global() && a.ValidLft == netstate.Forever && a.Flags&bad == 0
}

// replaces reports whether what a link has of a family takes the place of what it had.
// The filters know no family that the guest has nothing of: that waits for a setup.
func (c change) replaces(had, has []netstate.Addr) bool {
	served := slices.ContainsFunc(had, netstate.Addr.Global)
	if len(has) == 0 || !served && !c.Wired {
		return false
	}
	if slices.ContainsFunc(has, func(a netstate.Addr) bool { return !containsAddr(had, a) }) {
		return true
	}
	gone := slices.ContainsFunc(had, func(a netstate.Addr) bool { return lasting(a) && !containsAddr(has, a) })
	return gone && c.mayLose()
}

// mayLose reports whether what is gone of a family that still has an address is given up.
func (c change) mayLose() bool { return c.Wired && !c.Taken && c.up }

func containsAddr(all []netstate.Addr, a netstate.Addr) bool {
	return slices.ContainsFunc(all, func(o netstate.Addr) bool { return o.Prefix == a.Prefix && o.Peer == a.Peer })
}

// neighbors are all of the snapshot's, with those of the link that somebody has set since.
func (c change) neighbors() (out []netstate.Neighbor, changed bool) {
	out = slices.Clone(c.was.Neighbors)
	for _, n := range c.now.NeighborsOf(c.index) {
		if !n.Permanent() || !n.MAC.IsUnicast() || n.Addr.IsMulticast() {
			continue
		}
		same := func(o netstate.Neighbor) bool { return o.Link == n.Link && o.Addr == n.Addr && o.Permanent() }
		switch i := slices.IndexFunc(out, same); {
		case i < 0:
			out, changed = append(out, n), true
		case out[i].MAC != n.MAC:
			out[i], changed = n, true
		}
	}
	return out, changed
}

// gateways are the snapshot's neighbours, with the MACs that the kernel has learned of
// gateways which were not asked for theirs.
func (c change) gateways(s netstate.Snapshot, link netstate.Link) []netstate.Neighbor {
	out := s.Neighbors
	for _, gateway := range Unresolved(s, link, "") {
		if mac, known := macOf(c.now, link, gateway); known {
			out = append(slices.Clip(out), netstate.Neighbor{Link: c.index, Addr: gateway, MAC: mac, State: netstate.NeighborReachable})
		}
	}
	return out
}

// broadcastOrOwn reports whether a route is the kernel's for an address itself.
func broadcastOrOwn(r netstate.Route) bool { return r.Table == netstate.TableLocal }

// unspoken reports whether a route is none that somebody has set for good: a router's
// advertisement made it, or it has a lifetime, or every link has it.
func unspoken(r netstate.Route) bool {
	const attrExpires = 23 // RTA_EXPIRES
	dst := r.Dst.Addr()
	return r.Protocol == protocolRA || dst.IsLinkLocalUnicast() && r.Protocol == netstate.ProtocolKernel || dst.IsMulticast() ||
		slices.ContainsFunc(r.Attrs, func(a netstate.Attr) bool { return a.Type == attrExpires })
}

// protocolRA is RTPROT_RA: a router has advertised the route.
const protocolRA = 9

// sameWay reports whether two routes lead the same way. What the kernel says of the
// state of a way, or of how long it lasts, is no other way.
func sameWay(a, b netstate.Route) bool {
	return sameEnd(a, b) && a.Via == b.Via && a.PrefSrc == b.PrefSrc && a.Priority == b.Priority && a.Type == b.Type &&
		a.MTU() == b.MTU() && slices.Equal(a.NextHops, b.NextHops)
}

// sameEnd reports whether two routes are to the same destination.
func sameEnd(a, b netstate.Route) bool { return a.Dst == b.Dst && a.Table == b.Table && a.TOS == b.TOS }

func containsRoute(all []netstate.Route, r netstate.Route) bool {
	return slices.ContainsFunc(all, func(o netstate.Route) bool { return sameWay(o, r) })
}

// hopsOf are the gateways of a route.
func hopsOf(r netstate.Route) []netip.Addr {
	if len(r.NextHops) == 0 {
		return []netip.Addr{r.Via}
	}
	var out []netip.Addr
	for _, hop := range r.NextHops {
		out = append(out, hop.Via)
	}
	return out
}
