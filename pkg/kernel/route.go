//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

const (
	// keptFlags are the flags of a next hop that somebody chose. The others are
	// what the kernel reports of the link's state.
	keptFlags = unix.RTNH_F_ONLINK | unix.RTNH_F_PERVASIVE

	// userHZ is the unit of the times in struct rta_cacheinfo, on all
	// architectures that Go runs on.
	userHZ = 100

	sizeofNexthop = 8  // struct rtnexthop
	rtaNexthopID  = 30 // RTA_NH_ID
)

// routes reads the routes of all tables, both families, in the kernel's order,
// without what it only remembers of single destinations.
func (k *Kernel) routes(ctx context.Context) ([]netstate.Route, error) {
	msgs, err := k.route.dump(ctx, unix.RTM_GETROUTE, newMessage(make([]byte, unix.SizeofRtMsg)))
	if err != nil {
		return nil, fmt.Errorf("reading routes: %w", err)
	}
	return parseAll("routes", msgs, parseRoute)
}

func (k *Kernel) routesOf(ctx context.Context, link int) ([]netstate.Route, error) {
	all, err := k.routes(ctx)
	return netstate.Snapshot{Routes: all}.RoutesOf(link), err
}

func parseRoute(msg []byte) (_ netstate.Route, ok bool, err error) {
	fixed, attrs, err := split(msg, unix.SizeofRtMsg)
	if err != nil {
		return netstate.Route{}, false, err
	}
	flags := binary.NativeEndian.Uint32(fixed[8:])
	if !isIP(fixed[0]) || flags&unix.RTM_F_CLONED != 0 {
		return netstate.Route{}, false, nil
	}
	r := netstate.Route{
		Dst: netip.PrefixFrom(unspecified(fixed[0]), int(fixed[1])),
		TOS: fixed[3], Table: uint32(fixed[4]), Protocol: fixed[5], Scope: fixed[6], Type: fixed[7],
		Flags: flags & keptFlags,
	}
	for _, a := range attrs {
		r = withAttr(r, a, fixed[2])
	}
	return r, r.Dst.IsValid(), nil
}

func unspecified(family uint8) netip.Addr {
	if family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// withAttr puts one attribute of a message where it belongs. What podwire does
// not reason about is carried as it is.
func withAttr(r netstate.Route, a attribute, srcBits uint8) netstate.Route {
	switch a.kind {
	case unix.RTA_DST:
		r.Dst = netip.PrefixFrom(a.addr(), r.Dst.Bits()).Masked()
	case unix.RTA_OIF:
		r.Link = int(a.u32())
	case unix.RTA_GATEWAY, unix.RTA_VIA:
		r.Via = gatewayOf(a)
	case unix.RTA_PREFSRC:
		r.PrefSrc = a.addr()
	case unix.RTA_PRIORITY:
		r.Priority = a.u32()
	case unix.RTA_TABLE:
		r.Table = a.u32()
	case unix.RTA_MULTIPATH:
		settled := settledHops(a.data)
		r.NextHops = parseHops(settled)
		r.Attrs = append(r.Attrs, netstate.Attr{Type: a.kind, Data: settled})
	case unix.RTA_CACHEINFO: // struct rta_cacheinfo; the third word is the time left
		left := attribute{data: a.data[min(8, len(a.data)):]}.u32()
		if left != 0 {
			r.Attrs = append(r.Attrs, expiresAttr((left+userHZ-1)/userHZ))
		}
	case unix.RTA_SRC:
		// Its prefix length is in the fixed part: it is carried as a last octet.
		src := a.carry()
		src.Data = append(src.Data, srcBits)
		r.Attrs = append(r.Attrs, src)
	default:
		r.Attrs = append(r.Attrs, a.carry())
	}
	return r
}

func expiresAttr(seconds uint32) netstate.Attr {
	return netstate.Attr{Type: unix.RTA_EXPIRES, Data: binary.NativeEndian.AppendUint32(nil, seconds)}
}

// gatewayOf reads a gateway of the route's own family, or of the other: struct
// rtvia, two octets of family and the address.
func gatewayOf(a attribute) netip.Addr {
	if a.kind == unix.RTA_VIA {
		a.data = a.data[min(2, len(a.data)):]
	}
	return a.addr()
}

// settledHops is RTA_MULTIPATH without the state of the links.
func settledHops(data []byte) []byte {
	out := slices.Clone(data)
	eachHop(out, func(hop []byte) { hop[2] &= keptFlags })
	return out
}

// eachHop calls f with each struct rtnexthop (length, flags, weight less one,
// link) and its attributes.
func eachHop(b []byte, f func(hop []byte)) {
	for len(b) >= sizeofNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < sizeofNexthop || size > len(b) {
			return
		}
		f(b[:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}

func parseHops(data []byte) []netstate.NextHop {
	var out []netstate.NextHop
	eachHop(data, func(b []byte) {
		hop := netstate.NextHop{Weight: int(b[3]) + 1, Link: int(binary.NativeEndian.Uint32(b[4:]))}
		for _, a := range attributes(b[sizeofNexthop:]) {
			if a.kind == unix.RTA_GATEWAY || a.kind == unix.RTA_VIA {
				hop.Via = gatewayOf(a)
			}
		}
		out = append(out, hop)
	})
	return out
}

// routeMessage is the message that adds exactly this route, or deletes it.
func routeMessage(r netstate.Route) *message {
	fixed := make([]byte, unix.SizeofRtMsg)
	fixed[0] = familyOf(r.Dst.Addr())
	fixed[1] = uint8(r.Dst.Bits())
	fixed[3], fixed[5], fixed[6], fixed[7] = r.TOS, r.Protocol, r.Scope, r.Type
	binary.NativeEndian.PutUint32(fixed[8:], r.Flags)
	m := newMessage(fixed).u32(unix.RTA_TABLE, r.Table)
	if !r.Default() {
		m.addr(unix.RTA_DST, r.Dst.Addr())
	}
	if r.Priority != 0 || r.Dst.Addr().Is6() {
		m.u32(unix.RTA_PRIORITY, r.Priority)
	}
	m.addr(unix.RTA_PREFSRC, r.PrefSrc)
	// A next hop object stands for link and gateway, and the kernel takes either
	// the one or the other.
	object := hasAttr(r.Attrs, rtaNexthopID)
	if !object {
		if r.Link != 0 {
			m.u32(unix.RTA_OIF, uint32(r.Link))
		}
		addGateway(m, r)
	}
	for _, a := range r.Attrs {
		switch {
		case a.Type == unix.RTA_SRC && len(a.Data) > 0:
			last := len(a.Data) - 1
			m.b[2] = a.Data[last]
			m.attr(unix.RTA_SRC, a.Data[:last])
		case object && (a.Type == unix.RTA_MULTIPATH || a.Type == unix.RTA_ENCAP || a.Type == unix.RTA_ENCAP_TYPE):
		default:
			m.attr(a.Type, a.Data)
		}
	}
	return m
}

func addGateway(m *message, r netstate.Route) {
	switch {
	case !r.Via.IsValid():
	case r.Via.Is4() == r.Dst.Addr().Is4():
		m.addr(unix.RTA_GATEWAY, r.Via)
	default:
		via := binary.NativeEndian.AppendUint16(nil, uint16(familyOf(r.Via)))
		m.attr(unix.RTA_VIA, append(via, r.Via.AsSlice()...))
	}
}

func hasAttr(attrs []netstate.Attr, kind uint16) bool {
	return slices.ContainsFunc(attrs, func(a netstate.Attr) bool { return a.Type == kind })
}

// addRoute adds a route that is not there. Without NLM_F_EXCL the kernel takes
// several that differ in their next hop alone, and keeps them in this order.
func (k *Kernel) addRoute(ctx context.Context, r netstate.Route) error {
	err := k.route.change(ctx, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, routeMessage(r))
	if err := unless(err, unix.EEXIST); err != nil {
		return fmt.Errorf("adding route %s: %w", routeName(r), err)
	}
	return nil
}

// deleteRoute deletes a route; one that is gone is deleted.
func (k *Kernel) deleteRoute(ctx context.Context, r netstate.Route) error {
	err := k.route.change(ctx, unix.RTM_DELROUTE, 0, routeMessage(r))
	if err := unless(err, unix.ESRCH, unix.ENOENT); err != nil {
		return fmt.Errorf("deleting route %s: %w", routeName(r), err)
	}
	return nil
}

func routeName(r netstate.Route) string {
	name := r.Dst.String()
	if r.Via.IsValid() {
		name += " via " + r.Via.String()
	}
	return fmt.Sprintf("%s table %d", name, r.Table)
}

// sameRoute reports whether two routes are one. What is left of a route's time
// runs down and is not compared.
func sameRoute(a, b netstate.Route) bool {
	return a.Link == b.Link && a.Dst == b.Dst && a.Via == b.Via && a.PrefSrc == b.PrefSrc &&
		a.Priority == b.Priority && a.Table == b.Table && a.Protocol == b.Protocol &&
		a.Scope == b.Scope && a.Type == b.Type && a.TOS == b.TOS && a.Flags == b.Flags &&
		sameAttrs(lasting(a.Attrs), lasting(b.Attrs))
}

func lasting(attrs []netstate.Attr) []netstate.Attr {
	return slices.DeleteFunc(slices.Clone(attrs), func(a netstate.Attr) bool { return a.Type == unix.RTA_EXPIRES })
}
