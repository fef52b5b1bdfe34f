package discover

import (
	"fmt"

	"github.com/podwire/podwire/pkg/netstate"
)

// Moved says in words what of a wired pod interface's own network is not as it was when
// it was wired: what others have changed since, whether it can be followed or not.
func Moved(was, now netstate.Snapshot, f Following) []string {
	link, ok := was.LinkByName(f.Link)
	current, there := now.LinkByName(f.Link)
	switch {
	case !ok:
		return nil
	case !there:
		return []string{fmt.Sprintf("the pod interface %q is gone", f.Link)}
	case current.Index != link.Index:
		return []string{fmt.Sprintf("the pod interface %q is another link than it was (index %d, was %d)", f.Link, current.Index, link.Index)}
	}
	var out []string
	if current.MTU != link.MTU {
		out = append(out, fmt.Sprintf("%q has an MTU of %d, not %d", f.Link, current.MTU, link.MTU))
	}
	if !f.Taken { // else these are podwire's own, and steps say what they must be
		if current.MAC != link.MAC {
			out = append(out, fmt.Sprintf("%q has the MAC %s, not %s", f.Link, current.MAC, link.MAC))
		}
		if link.Up && !current.Up {
			out = append(out, fmt.Sprintf("%q is down", f.Link))
		}
	}
	c := change{Following: f, was: was, now: now, index: link.Index}
	out = append(out, c.movedAddrs()...)
	out = append(out, c.movedRoutes()...)
	return append(out, c.movedNeighbors()...)
}

func (c change) movedAddrs() []string {
	var out []string
	had, has := c.was.AddrsOf(c.index), c.now.AddrsOf(c.index)
	for _, a := range has {
		if lasting(a) && !containsAddr(had, a) {
			out = append(out, fmt.Sprintf("%q has the new address %s", c.Link, a.Prefix))
		}
	}
	for _, a := range had {
		if lasting(a) && !c.Taken && !containsAddr(has, a) {
			out = append(out, fmt.Sprintf("%q has lost its address %s", c.Link, a.Prefix))
		}
	}
	return out
}

// movedRoutes leaves out those that come and go with addresses.
func (c change) movedRoutes() []string {
	var out []string
	had, has := c.was.RoutesOf(c.index), c.now.RoutesOf(c.index)
	for _, r := range has {
		if spoken(r) && !containsRoute(had, r) {
			out = append(out, fmt.Sprintf("%q has the new route %s", c.Link, routeText(r)))
		}
	}
	for _, r := range had {
		if spoken(r) && !c.Taken && !containsRoute(has, r) {
			out = append(out, fmt.Sprintf("%q has lost its route %s", c.Link, routeText(r)))
		}
	}
	return out
}

// spoken reports whether somebody has set a route for good.
func spoken(r netstate.Route) bool {
	return !unspoken(r) && r.Table != netstate.TableLocal && r.Protocol != netstate.ProtocolKernel
}

// routeText is a route with what makes another one of it.
func routeText(r netstate.Route) string {
	text := routeName(r)
	if mtu := r.MTU(); mtu != 0 {
		text += fmt.Sprintf(" mtu %d", mtu)
	}
	if r.Table != netstate.TableMain {
		text += fmt.Sprintf(" table %d", r.Table)
	}
	return text
}

func (c change) movedNeighbors() []string {
	var out []string
	for _, n := range c.now.NeighborsOf(c.index) {
		known := false
		for _, o := range c.was.NeighborsOf(c.index) {
			known = known || o.Permanent() && o.Addr == n.Addr && o.MAC == n.MAC
		}
		if n.Permanent() && n.MAC.IsUnicast() && !n.Addr.IsMulticast() && !known {
			out = append(out, fmt.Sprintf("%q has the new permanent neighbour %s at %s", c.Link, n.Addr, n.MAC))
		}
	}
	return out
}
