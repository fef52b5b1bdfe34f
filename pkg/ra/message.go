package ra

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/resolvconf"
)

// preference is that of a router or route, as both fields have it (RFC 4191 §2.1).
type preference byte

const (
	medium preference = 0b00
	low    preference = 0b11
)

const (
	// routerLifetime is the longest that the field holds, in seconds (RFC 8319 §4):
	// the guest is told at once when it ends, and nothing else may end it.
	routerLifetime = 65535

	leastMTU = 1280 // RFC 8200 §5; an option with less is not heeded
)

// message is all that one router says.
type message struct {
	src      netip.Addr
	lifetime uint16     // as a default router, in seconds; 0 for none
	pref     preference // as a default router
	mtu      int        // 0 to say nothing
	prefixes []netip.Prefix
	dns      []netip.Addr
	search   []string
	routes   []route
}

// route is a destination behind the router.
type route struct {
	dst  netip.Prefix
	pref preference
}

// messagesOf returns what each router of the lease says.
func messagesOf(l lease.Lease) []message {
	routes := normal(l.RoutesOf(false))
	best := bestMetrics(l, routes)
	var out []message
	for _, r := range l.Routers {
		if !r.Addr.IsLinkLocalUnicast() || !r.Addr.Is6() {
			continue // a guest would not heed it (RFC 4861 §6.1.2)
		}
		m := message{src: r.Addr.WithZone("")}
		m.addRoutes(r, routes, best)
		out = append(out, m)
	}
	if len(out) > 0 {
		out[0].addLink(l, routes, best)
	}
	return out
}

// normal masks destinations, which an option must hold masked, and takes a gateway
// of :: for none.
func normal(routes []lease.Route) []lease.Route {
	for i, r := range routes {
		routes[i].Dst = r.Dst.Masked()
		if r.Via.IsUnspecified() {
			routes[i].Via = netip.Addr{}
		}
	}
	return routes
}

// bestMetrics returns the metric of the best route to each destination that goes
// by one of the routers.
func bestMetrics(l lease.Lease, routes []lease.Route) map[netip.Prefix]uint32 {
	best := make(map[netip.Prefix]uint32, len(routes))
	for _, r := range routes {
		if !slices.ContainsFunc(l.Routers, func(o lease.Router) bool { return slices.Contains(o.Gateways, r.Via) }) {
			continue
		}
		if have, ok := best[r.Dst]; !ok || r.Metric < have {
			best[r.Dst] = r.Metric
		}
	}
	return best
}

// addRoutes adds the routes that go by the router. Preferences say no more than
// which is the best to a destination and which are behind it.
func (m *message) addRoutes(by lease.Router, routes []lease.Route, best map[netip.Prefix]uint32) {
	for _, r := range routes {
		if !slices.Contains(by.Gateways, r.Via) {
			continue
		}
		pref := medium
		if r.Metric > best[r.Dst] {
			pref = low
		}
		switch i := m.routeTo(r.Dst); {
		case r.Default():
			if m.lifetime == 0 || pref == medium {
				m.lifetime, m.pref = routerLifetime, pref
			}
		case !advertisable(r.Dst):
		case i < 0:
			m.routes = append(m.routes, route{dst: r.Dst, pref: pref})
		case pref == medium:
			m.routes[i].pref = medium
		}
	}
}

func (m *message) routeTo(dst netip.Prefix) int {
	return slices.IndexFunc(m.routes, func(r route) bool { return r.dst == dst })
}

// advertisable leaves out the destinations that a host has by itself and that
// no router is to speak of (RFC 4861 §4.6.2), and what is no IPv6 prefix.
func advertisable(p netip.Prefix) bool {
	a := p.Addr()
	return a.Is6() && !a.Is4In6() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}

// addLink adds what is said of the link and not of a router.
func (m *message) addLink(l lease.Lease, routes []lease.Route, best map[netip.Prefix]uint32) {
	for _, p := range l.AddrsOf(false) {
		// A route to it by way of a gateway says that the neighbours are not on
		// the link (ptp and kindnet set one).
		if _, routed := best[p.Masked()]; p.Bits() < 128 && !routed {
			m.addPrefix(p.Masked())
		}
	}
	for _, r := range routes {
		// To a guest, what is on the link is nearer than any gateway. What the pod
		// has as a reserve for a gateway cannot be said.
		if metric, routed := best[r.Dst]; r.OnLink() && (!routed || r.Metric < metric) {
			m.addPrefix(r.Dst)
		}
	}
	if l.MTU >= leastMTU {
		m.mtu = l.MTU
	}
	for _, a := range l.DNSOf(false) {
		if a.Is6() && !a.Is4In6() {
			m.dns = append(m.dns, a.WithZone(""))
		}
	}
	for _, name := range l.Search {
		if domain, err := resolvconf.Domain(name); err == nil {
			m.search = append(m.search, domain)
		}
	}
}

// everywhere is a default route on the link as clients take it, which heed no prefix
// of length 0, and newer ones of systemd none that begins with ::. It is all that
// unicast addresses are assigned from (IANA's IPv6 address space): global and unique
// local ones, and those that stand for IPv4 (RFC 6052, RFC 8215).
var everywhere = []netip.Prefix{
	netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("64::/16"),
}

func (m *message) addPrefix(p netip.Prefix) {
	switch {
	case !advertisable(p) || slices.Contains(m.prefixes, p):
	case p.Bits() == 0:
		for _, part := range everywhere {
			m.addPrefix(part)
		}
	default:
		m.prefixes = append(m.prefixes, p)
	}
}

// without leaves of the lists what now has not. As a router it is what it is now.
func (m message) without(now message) message {
	return message{
		src: m.src, lifetime: now.lifetime, pref: now.pref,
		prefixes: difference(m.prefixes, now.prefixes),
		dns:      difference(m.dns, now.dns),
		search:   difference(m.search, now.search),
		routes: slices.DeleteFunc(slices.Clone(m.routes), func(r route) bool {
			return now.routeTo(r.dst) >= 0
		}),
	}
}

func difference[T comparable](old, now []T) []T {
	return slices.DeleteFunc(slices.Clone(old), func(v T) bool { return slices.Contains(now, v) })
}

func (m message) empty() bool {
	return len(m.prefixes) == 0 && len(m.dns) == 0 && len(m.search) == 0 && len(m.routes) == 0
}
