package dhcp4

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/lease"
)

// gatewayOf returns the gateway that option 3 names: the first IPv4 one.
func gatewayOf(l lease.Lease) netip.Addr {
	for _, gw := range l.Gateways() {
		if gw.Is4() && !gw.IsUnspecified() {
			return gw
		}
	}
	return netip.Addr{}
}

// allOnLink reports whether the default route has no gateway.
func allOnLink(l lease.Lease) bool {
	return slices.ContainsFunc(l.RoutesOf(true), func(r lease.Route) bool { return r.Default() && r.OnLink() })
}

// reaching widens a prefix until its gateway lies in it, for a client that cannot
// be told of a route to the gateway by itself. Neither of the two may end up as
// the network's or the broadcast address.
func reaching(p netip.Prefix, gw netip.Addr) netip.Prefix {
	for bits := min(p.Bits(), 30); bits > 0; bits-- {
		wide := netip.PrefixFrom(p.Addr(), bits)
		network, last := wide.Masked().Addr(), broadcastOf(wide)
		if wide.Contains(gw) && p.Addr() != network && p.Addr() != last && gw != network && gw != last {
			return wide
		}
	}
	return netip.PrefixFrom(p.Addr(), 0)
}

// broadcastOf returns the last address of an IPv4 prefix.
func broadcastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// clientRoutes returns the lease's IPv4 routes as a client can be told of them,
// in an order in which it can set them one by one: what is on the link, then what
// is behind a gateway, then the default route. connected is the address and mask
// that it gets; the route that follows from them is left out.
func clientRoutes(l lease.Lease, connected netip.Prefix) []lease.Route {
	routes := firstOfEach(expressible(l.RoutesOf(true), connected))
	slices.SortStableFunc(routes, func(a, b lease.Route) int { return rank(a) - rank(b) })
	if direct := gatewayRoutes(routes, connected); len(direct) > 0 {
		routes = firstOfEach(append(direct, routes...))
	}
	return routes
}

func rank(r lease.Route) int {
	switch {
	case r.Default():
		return 2
	case r.OnLink():
		return 0
	default:
		return 1
	}
}

// expressible leaves out what option 121 has no form for (a gateway of the other
// family), what the client knows from its address and mask, and routes to itself.
//
// A route to the client's own prefix by way of a gateway (ptp and kindnet set one,
// for there the neighbours are not on the link) would lose against, or fight with,
// the one that the mask makes. As its two halves it is the more specific one.
func expressible(routes []lease.Route, connected netip.Prefix) []lease.Route {
	own := netip.PrefixFrom(connected.Addr(), 32)
	out := make([]lease.Route, 0, len(routes)+2)
	for _, r := range routes {
		r.Dst = r.Dst.Masked()
		if r.Via.IsValid() && r.Via.IsUnspecified() {
			r.Via = netip.Addr{}
		}
		switch {
		case r.Via.IsValid() && !r.Via.Is4(), r.Dst == own:
		case r.Dst != connected.Masked(), r.Default():
			out = append(out, r)
		case !r.OnLink() && r.Dst.Bits() < 31:
			bits := r.Dst.Bits() + 1
			low := netip.PrefixFrom(r.Dst.Addr(), bits)
			high := netip.PrefixFrom(broadcastOf(r.Dst), bits).Masked()
			out = append(out, lease.Route{Dst: low, Via: r.Via, Metric: r.Metric}, lease.Route{Dst: high, Via: r.Via, Metric: r.Metric})
		}
	}
	return out
}

// firstOfEach keeps the first route to each destination, which is the best: a
// client has no metrics to choose by.
func firstOfEach(routes []lease.Route) []lease.Route {
	seen := make(map[netip.Prefix]bool, len(routes))
	return slices.DeleteFunc(routes, func(r lease.Route) bool {
		had := seen[r.Dst]
		seen[r.Dst] = true
		return had
	})
}

// gatewayRoutes returns an on-link host route for each gateway that is not on
// the link by the other routes.
func gatewayRoutes(routes []lease.Route, connected netip.Prefix) []lease.Route {
	var direct []lease.Route
	var seen []netip.Addr
	for _, r := range routes {
		if r.OnLink() || slices.Contains(seen, r.Via) {
			continue
		}
		seen = append(seen, r.Via)
		if !onLink(r.Via, routes, connected) {
			direct = append(direct, lease.Route{Dst: netip.PrefixFrom(r.Via, 32)})
		}
	}
	return direct
}

// onLink reports whether the longest match for gw needs no gateway itself. The
// default route does not count: it comes last.
func onLink(gw netip.Addr, routes []lease.Route, connected netip.Prefix) bool {
	bits, direct := -1, false
	if connected.Contains(gw) {
		bits, direct = connected.Bits(), true
	}
	for _, r := range routes {
		if !r.Default() && r.Dst.Contains(gw) && r.Dst.Bits() > bits {
			bits, direct = r.Dst.Bits(), r.OnLink()
		}
	}
	return direct
}

// needClassless reports whether option 121 must be sent, asked for or not: the
// routes are not told in full by address, mask and one gateway within.
func needClassless(routes []lease.Route) bool {
	return len(routes) > 1 || len(routes) == 1 && (!routes[0].Default() || routes[0].OnLink())
}

// essentialRoutes marks the routes without which the guest is cut off: the
// default route, and the on-link route to its gateway.
func essentialRoutes(routes []lease.Route) (essential []bool, count int) {
	essential = make([]bool, len(routes))
	def := slices.IndexFunc(routes, lease.Route.Default)
	if def < 0 {
		return essential, 0
	}
	essential[def], count = true, 1
	best := -1
	for i, r := range routes[:def] {
		if !r.OnLink() || routes[def].OnLink() || !r.Dst.Contains(routes[def].Via) {
			continue
		}
		if best < 0 || r.Dst.Bits() > routes[best].Dst.Bits() {
			best = i
		}
	}
	if best >= 0 {
		essential[best], count = true, 2
	}
	return essential, count
}

// appendRoute adds a route in the form of option 121 (RFC 3442): the width of the
// destination, its significant octets, the router, which is 0.0.0.0 for a
// destination on the link.
func appendRoute(b []byte, r lease.Route) []byte {
	dst := r.Dst.Addr().As4()
	b = append(b, byte(r.Dst.Bits()))
	b = append(b, dst[:(r.Dst.Bits()+7)/8]...)
	var router [4]byte
	if !r.OnLink() {
		router = r.Via.As4()
	}
	return append(b, router[:]...)
}
