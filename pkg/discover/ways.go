package discover

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/netstate"
)

// routes are the link's of one family, given its addresses. A route to a destination takes the place
// of those that were there; what goes by way of an address that is no more goes with it.
func (c change) routes(ipv4 bool, addrs []netstate.Addr) (out []netstate.Route, changed bool) {
	had := c.routesOf(c.was, ipv4)
	has := c.ways(ipv4, addrs)
	out = slices.DeleteFunc(slices.Clone(had), func(r netstate.Route) bool { return c.went(r, addrs, has) })
	for _, r := range has {
		// The kernel makes none for a further address of a network.
		further := r.Protocol == netstate.ProtocolKernel && slices.ContainsFunc(out, func(o netstate.Route) bool { return sameEnd(o, r) })
		if further || containsRoute(had, r) {
			continue
		}
		out = slices.DeleteFunc(out, func(o netstate.Route) bool { return sameEnd(o, r) && !containsRoute(has, o) && !unspoken(o) })
		out = append(out, r)
		changed = true
	}
	all := slices.Clone(out)
	out = slices.DeleteFunc(out, func(r netstate.Route) bool { return !containsRoute(has, r) && !c.reached(r, addrs, all) })
	return out, changed || len(out) != len(had)
}

// ways are the routes that somebody has set for good, and those to the networks of the
// addresses.
func (c change) ways(ipv4 bool, addrs []netstate.Addr) []netstate.Route {
	left := slices.DeleteFunc(c.addrsOf(c.now, ipv4), func(a netstate.Addr) bool { return !lasting(a) || containsAddr(addrs, a) })
	return slices.DeleteFunc(c.routesOf(c.now, ipv4), func(r netstate.Route) bool {
		if unspoken(r) || broadcastOrOwn(r) || !c.follows(r, addrs) || byOneOf(left, r) && !byOneOf(addrs, r) {
			return true
		}
		return r.Protocol == netstate.ProtocolKernel && !ofNetwork(r, addrs)
	})
}

// byOneOf reports whether a route goes by one of the addresses.
func byOneOf(addrs []netstate.Addr, r netstate.Route) bool {
	return slices.ContainsFunc(addrs, func(a netstate.Addr) bool {
		if r.PrefSrc.IsValid() {
			return r.PrefSrc == a.Prefix.Addr()
		}
		return slices.ContainsFunc(hopsOf(r), func(via netip.Addr) bool { return via.IsValid() && (via == a.Peer || a.Prefix.Contains(via)) })
	})
}

// follows reports whether a route is of a family that is followed: a guest that has no
// address of it is told nothing of it.
func (c change) follows(r netstate.Route, addrs []netstate.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netstate.Addr) bool {
		return a.Global() && a.Prefix.Addr().Is4() == r.Dst.Addr().Is4()
	})
}

// ofNetwork reports whether a route is to the network of one of the addresses, and of no
// other address.
func ofNetwork(r netstate.Route, addrs []netstate.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netstate.Addr) bool {
		if r.PrefSrc.IsValid() && r.PrefSrc != a.Prefix.Addr() {
			return false
		}
		return a.Prefix.Masked() == r.Dst || a.Peer.IsValid() && r.Dst.Contains(a.Peer)
	})
}

// went reports whether a route that there was has gone with an address, or, where a
// setup may give it up, by itself.
func (c change) went(r netstate.Route, addrs []netstate.Addr, has []netstate.Route) bool {
	for _, a := range c.gone(addrs) {
		own := broadcastOrOwn(r) && r.Dst.Addr() == a.Prefix.Addr()
		itsNetwork := r.Protocol == netstate.ProtocolKernel && r.Dst == a.Prefix.Masked() && !ofNetwork(r, addrs)
		if own || itsNetwork || r.PrefSrc == a.Prefix.Addr() {
			return true
		}
	}
	lost := !unspoken(r) && !broadcastOrOwn(r) && !slices.ContainsFunc(has, func(o netstate.Route) bool { return sameEnd(o, r) })
	return lost && c.mayLose() && len(c.given(r.Dst.Addr().Is4())) > 0
}

// gone are the addresses that the link had and is to have no more.
func (c change) gone(addrs []netstate.Addr) []netstate.Addr {
	return slices.DeleteFunc(c.was.AddrsOf(c.index), func(a netstate.Addr) bool { return containsAddr(addrs, a) })
}

// reached reports whether one of a route's gateways is on the link: with the address by
// which it was, it may have gone out of reach.
func (c change) reached(r netstate.Route, addrs []netstate.Addr, all []netstate.Route) bool {
	lost := slices.ContainsFunc(c.gone(addrs), func(a netstate.Addr) bool { return a.Prefix.Addr().Is4() == r.Dst.Addr().Is4() })
	if !lost || r.Flags&netstate.RouteOnlink != 0 {
		return true
	}
	return slices.ContainsFunc(hopsOf(r), func(via netip.Addr) bool {
		if !via.IsValid() || via.IsLinkLocalUnicast() && via.Is6() {
			return true
		}
		return slices.ContainsFunc(addrs, func(a netstate.Addr) bool { return a.Prefix.Contains(via) || a.Peer == via }) ||
			slices.ContainsFunc(all, func(o netstate.Route) bool {
				return !o.Via.IsValid() && len(o.NextHops) == 0 && !o.Default() && !broadcastOrOwn(o) && o.Dst.Contains(via)
			})
	})
}
