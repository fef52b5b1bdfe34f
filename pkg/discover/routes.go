package discover

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// routes returns what the guest is to have of the pod's routes, in the order in
// which it can install them: what makes gateways reachable first, the default
// route last, better metrics before worse.
func (d *discovery) routes(addrs []netip.Prefix) []lease.Route {
	d.namePolicy()
	var out []lease.Route
	for _, r := range d.snapshot.Routes {
		if r.Table != netstate.TableMain {
			continue
		}
		if route, ok := d.route(r, addrs); ok {
			out = append(out, route)
		}
	}
	out = append(out, gatewayRoutes(addrs, out)...)
	slices.SortStableFunc(out, func(a, b lease.Route) int {
		return cmp.Or(cmp.Compare(class(a, out), class(b, out)), cmp.Compare(a.Metric, b.Metric))
	})
	d.nameBackups(out)
	return out
}

// route turns one of the pod's routes into the guest's, or says why it cannot.
func (d *discovery) route(r netstate.Route, addrs []netip.Prefix) (lease.Route, bool) {
	text := routeName(r)
	switch {
	case r.Type == netstate.TypeBlackhole || r.Type == netstate.TypeUnreachable || r.Type == netstate.TypeProhibit:
		if !kernelReject(r) {
			d.warn("route %s (%s) cannot be told to a guest: left out", text, typeName(r.Type))
		}
		return lease.Route{}, false
	case r.Type != netstate.TypeUnicast || !r.Uses(d.link.Index):
		return lease.Route{}, false
	case r.TOS != 0:
		d.warn("route %s is for TOS %#x alone, which cannot be told to a guest: left out", text, r.TOS)
		return lease.Route{}, false
	}
	via := r.Via
	if len(r.NextHops) > 0 {
		via = bestHop(r.NextHops, d.link.Index).Via
		d.warn("route %s has %d next hops (multipath), which cannot be told to a guest: it gets the best, via %s",
			text, len(r.NextHops), viaName(via))
	}
	if via.IsValid() && via.Is4() != r.Dst.Addr().Is4() {
		standIn, ok := d.inet6Gateway(r, via)
		if !ok {
			d.warn("route %s goes by a gateway of the other family, %s, which cannot be told to a guest: left out", text, via)
			return lease.Route{}, false
		}
		via = standIn
	}
	if !via.IsValid() && implied(r.Dst, addrs) {
		return lease.Route{}, false
	}
	return lease.Route{Dst: r.Dst.Masked(), Via: via, Metric: r.Priority}, true
}

// implied reports whether a guest makes the on-link route by itself: that of its
// own address's prefix, and those of link-local and multicast.
func implied(dst netip.Prefix, addrs []netip.Prefix) bool {
	if dst.Addr().Is6() && (dst.Addr().IsLinkLocalUnicast() || dst.Addr().IsMulticast()) {
		return true
	}
	return slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Masked() == dst })
}

// kernelReject recognises what an IPv6 kernel adds by itself, such as the
// unreachable default of an IPv6 namespace without routers.
func kernelReject(r netstate.Route) bool {
	return r.Dst.Addr().Is6() && r.Protocol == netstate.ProtocolKernel
}

// gatewayRoutes returns the on-link host routes without which a guest would
// refuse a gateway outside its prefix, such as Calico's 169.254.1.1.
func gatewayRoutes(addrs []netip.Prefix, routes []lease.Route) []lease.Route {
	var out []lease.Route
	for _, r := range routes {
		if r.OnLink() || r.Via.Is6() { // an IPv6 guest knows its routers by link-local addresses alone
			continue
		}
		reached := slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Contains(r.Via) && p.Addr() != r.Via })
		reached = reached || covers(routes, r.Via) || covers(out, r.Via)
		if !reached {
			out = append(out, lease.Route{Dst: netip.PrefixFrom(r.Via, r.Via.BitLen())})
		}
	}
	return out
}

func covers(routes []lease.Route, addr netip.Addr) bool {
	return slices.ContainsFunc(routes, func(r lease.Route) bool { return r.OnLink() && r.Dst.Contains(addr) })
}

// class orders routes by what must be there before what.
func class(r lease.Route, all []lease.Route) int {
	switch {
	case r.Default():
		return 3
	case !r.OnLink():
		return 2
	case slices.ContainsFunc(all, func(o lease.Route) bool { return o.Via.IsValid() && r.Dst.Contains(o.Via) }):
		return 0
	default:
		return 1
	}
}

// nameBackups names the routes that a worse metric keeps in reserve: DHCPv4 has
// no metric, so a guest would mix them up with the better ones.
func (d *discovery) nameBackups(routes []lease.Route) {
	for i, r := range routes {
		better := slices.IndexFunc(routes[:i], func(o lease.Route) bool { return o.Dst == r.Dst })
		if better >= 0 && r.Dst.Addr().Is4() {
			d.warn("route %s via %s metric %d stands behind that via %s: DHCPv4 tells the better one alone",
				dstName(r.Dst), viaName(r.Via), r.Metric, viaName(routes[better].Via))
		}
	}
}

// namePolicy names the policy rules, which no guest is told of.
func (d *discovery) namePolicy() {
	for _, rule := range d.snapshot.Rules {
		if !standardRule(rule) {
			d.warn("policy rule %q is not told to the guest: it uses the main table's routes alone", rule.Text)
		}
	}
}

// standardRule recognises the rules every namespace starts with.
func standardRule(r netstate.Rule) bool {
	switch r.Priority {
	case 0:
		return r.Table == netstate.TableLocal
	case 32766:
		return r.Table == netstate.TableMain
	case 32767:
		return r.Table == 253
	default:
		return false
	}
}

// bestHop is the next hop with the greatest weight, of one link where link is
// not 0, the first among equals.
func bestHop(hops []netstate.NextHop, link int) netstate.NextHop {
	var best netstate.NextHop
	for _, h := range hops {
		if (link == 0 || h.Link == link) && h.Weight > best.Weight {
			best = h
		}
	}
	return best
}

func routeName(r netstate.Route) string {
	text := dstName(r.Dst)
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	return text
}

func dstName(p netip.Prefix) string {
	if p.Bits() == 0 {
		return "default"
	}
	return p.String()
}

func viaName(a netip.Addr) string {
	if !a.IsValid() {
		return "no gateway"
	}
	return a.String()
}

func typeName(t uint8) string {
	switch t {
	case netstate.TypeBlackhole:
		return "blackhole"
	case netstate.TypeUnreachable:
		return "unreachable"
	default:
		return "prohibit"
	}
}
