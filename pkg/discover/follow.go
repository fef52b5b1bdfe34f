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
	// the kernel does not hold them says nothing.
	Taken bool
	// Wired says that the wiring follows: setup does. Else it stays as it is, and a
	// running guest is told no more than what goes by it.
	Wired bool
	// Held are the addresses that the wiring holds the guest to (--guard), unless it
	// follows; nil where it may use any.
	Held []netip.Addr
}

// Follow returns the snapshot by which a pod interface was wired with what others have
// changed of the interface since, and whether they have. That is addresses that are
// there for good, routes, permanent neighbours and the MTU.
//
// It never loses. What is merely gone, as while a link flaps, stays in the snapshot until
// there is something in its place: of an address a new one by which the network goes on,
// of a route's destination another route. A setup, which somebody asks for, takes over as
// well what is gone of a family of which there still is an address. A family that had a
// way out and would have none stays as it was in any case. What the kernel made by itself,
// and what has a lifetime, is nobody's change, and the MAC is the guest's: it stays.
//
// Where podwire has the addresses, the kernel cannot show whether a new one is in place of
// them or besides. Who gives an interface other addresses sets its default route too: with
// one that goes by the new address that is a replacement, and else an addition, which takes
// a setup, as filters must know it.
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
	ipv4, ipv6 := c.family(true), c.family(false)
	if ipv4.otherAddrs || ipv6.otherAddrs {
		rest := slices.DeleteFunc(slices.Clone(was.Addrs), func(a netstate.Addr) bool { return a.Link == c.index })
		out.Addrs = slices.Concat(rest, ipv4.addrs, ipv6.addrs)
	}
	otherRoutes := ipv4.otherRoutes || ipv6.otherRoutes
	if otherRoutes {
		rest := slices.DeleteFunc(slices.Clone(was.Routes), func(r netstate.Route) bool { return r.Uses(c.index) })
		out.Routes = slices.Concat(rest, ipv4.routes, ipv6.routes)
	}
	neighbors, otherNeighbors := c.neighbors(ipv4.stranded, ipv6.stranded)
	if otherNeighbors {
		out.Neighbors = neighbors
	}
	changed = changed || ipv4.otherAddrs || ipv6.otherAddrs || otherRoutes || otherNeighbors
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

// family is what becomes of the link's addresses and routes of one family.
type family struct {
	addrs                   []netstate.Addr
	routes                  []netstate.Route
	otherAddrs, otherRoutes bool
	stranded                bool // it would have lost its way out, and stays as it was
}

func (c change) family(ipv4 bool) (f family) {
	f.addrs, f.otherAddrs = c.addrs(ipv4)
	f.routes, f.otherRoutes = c.routes(ipv4, f.addrs)
	had := c.routesOf(c.was, ipv4)
	if slices.ContainsFunc(had, leadsOut) && !slices.ContainsFunc(f.routes, leadsOut) {
		return family{addrs: c.addrsOf(c.was, ipv4), routes: had, stranded: true}
	}
	return f
}

func (c change) addrsOf(s netstate.Snapshot, ipv4 bool) []netstate.Addr {
	return slices.DeleteFunc(s.AddrsOf(c.index), func(a netstate.Addr) bool { return a.Prefix.Addr().Is4() != ipv4 })
}

func (c change) routesOf(s netstate.Snapshot, ipv4 bool) []netstate.Route {
	return slices.DeleteFunc(s.RoutesOf(c.index), func(r netstate.Route) bool { return r.Dst.Addr().Is4() != ipv4 })
}

// leadsOut reports whether a route is a default route that a guest can be told of.
func leadsOut(r netstate.Route) bool {
	return r.Default() && r.Table == netstate.TableMain && r.Type == netstate.TypeUnicast && r.TOS == 0
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

// addrs are the link's of one family.
func (c change) addrs(ipv4 bool) (out []netstate.Addr, changed bool) {
	had, has := c.addrsOf(c.was, ipv4), c.given(ipv4)
	added := slices.DeleteFunc(slices.Clone(has), func(a netstate.Addr) bool { return containsAddr(had, a) })
	// One that is there, but not for good any more, is not gone.
	isGone := func(a netstate.Addr) bool { return lasting(a) && !containsAddr(c.now.AddrsOf(c.index), a) }
	gone := slices.ContainsFunc(had, isGone)
	// The filters know no family that the guest has nothing of: that waits for a setup.
	followed := c.Wired || slices.ContainsFunc(had, netstate.Addr.Global)
	switch {
	case len(has) == 0 || !followed || !c.Taken && !c.up:
		return had, false
	case gone && len(added) > 0 && c.inPlace(ipv4, added), gone && len(added) == 0 && c.mayLose():
		out = slices.DeleteFunc(slices.Clone(had), isGone)
	case len(added) > 0 && c.mayAdd(gone):
		out = slices.Clone(had)
	default:
		return had, false
	}
	// Those that a guest can have come first, the old ones before the new.
	last := 0
	for i, a := range out {
		if a.Global() {
			last = i + 1
		}
	}
	return slices.Insert(out, last, added...), true
}

// inPlace reports whether new addresses of a family are in the place of those that are
// gone: the network goes on by them.
func (c change) inPlace(ipv4 bool, added []netstate.Addr) bool {
	has := c.routesOf(c.now, ipv4)
	if !c.Taken {
		return slices.ContainsFunc(has, leadsOut) || !slices.ContainsFunc(c.routesOf(c.was, ipv4), leadsOut)
	}
	return slices.ContainsFunc(has, func(r netstate.Route) bool {
		if !leadsOut(r) || !spoken(r) {
			return false
		}
		return slices.ContainsFunc(added, func(a netstate.Addr) bool { return reaches(a, r, has) })
	})
}

// reaches reports whether a route may go by an address.
func reaches(a netstate.Addr, r netstate.Route, all []netstate.Route) bool {
	if r.PrefSrc.IsValid() {
		return r.PrefSrc == a.Prefix.Addr()
	}
	return r.Flags&netstate.RouteOnlink != 0 || slices.ContainsFunc(hopsOf(r), func(via netip.Addr) bool {
		return !via.IsValid() || via.Is6() && via.IsLinkLocalUnicast() || via == a.Peer || a.Prefix.Contains(via) || byRoute(via, all)
	})
}

// byRoute reports whether an on-link route, which is not the network of an address, leads
// to a gateway.
func byRoute(via netip.Addr, all []netstate.Route) bool {
	return slices.ContainsFunc(all, func(o netstate.Route) bool {
		return spoken(o) && !o.Via.IsValid() && len(o.NextHops) == 0 && !o.Default() && o.Dst.Contains(via)
	})
}

// mayAdd reports whether an address more is taken over. With one that is gone, where the
// kernel shows it, it is yet to be seen whether that is a replacement.
func (c change) mayAdd(gone bool) bool {
	if c.Taken {
		return c.Wired
	}
	return !gone
}

// given are the addresses of a family that somebody has given the link for good and
// that it can use. While an IPv6 one is not known to be the link's alone, a setup
// counts on it, as its wiring must hold it; a guest is told of it only then, and where
// the wiring lets it use it.
func (c change) given(ipv4 bool) []netstate.Addr {
	return slices.DeleteFunc(c.addrsOf(c.now, ipv4), func(a netstate.Addr) bool {
		held := c.Held != nil && !slices.Contains(c.Held, a.Prefix.Addr())
		return !lasting(a) || !c.Wired && (a.Flags&netstate.AddrTentative != 0 || held)
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

// mayLose reports whether what is gone of a family that still has an address is given up.
func (c change) mayLose() bool { return c.Wired && !c.Taken && c.up }

func containsAddr(all []netstate.Addr, a netstate.Addr) bool {
	return slices.ContainsFunc(all, func(o netstate.Addr) bool { return o.Prefix == a.Prefix && o.Peer == a.Peer })
}

// neighbors are all of the snapshot's, with those of the link that somebody has set since,
// but for a family that stays as it was.
func (c change) neighbors(not4, not6 bool) (out []netstate.Neighbor, changed bool) {
	out = slices.Clone(c.was.Neighbors)
	for _, n := range c.now.NeighborsOf(c.index) {
		stays := n.Addr.Is4() && not4 || n.Addr.Is6() && not6
		if stays || !n.Permanent() || !n.MAC.IsUnicast() || n.Addr.IsMulticast() {
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
