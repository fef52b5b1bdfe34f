// Package shapes holds the pod networks that CNI plugins make, as snapshots, for
// the tests of the pure packages. What the real plugins make is tested with
// them, in real namespaces.
package shapes

import (
	"net/netip"
	"time"

	"github.com/podwire/podwire/pkg/netstate"
)

// The numbers that the shapes share.
const (
	Index = 2 // of eth0
	MTU   = 1450
)

// MAC is that of eth0.
var MAC = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}

// Pod returns a namespace with a loopback and an eth0 that has these addresses,
// as a kernel would have it after the address was added.
func Pod(addrs ...string) netstate.Snapshot {
	s := netstate.Snapshot{
		NetNS:  netstate.Identity{Cookie: 7, Inode: 4026532000, BootID: "0b1c2d3e"},
		Uptime: 90 * time.Second,
		Links: []netstate.Link{
			{Index: 1, Name: "lo", MTU: 65536, Up: true, Loopback: true, AddrGenMode: "eui64"},
			{Index: Index, Name: "eth0", Kind: "veth", MAC: MAC, MTU: MTU, Up: true, AddrGenMode: "eui64"},
		},
		Rules: []netstate.Rule{
			{Priority: 0, Table: netstate.TableLocal, Text: "0: from all lookup local"},
			{Priority: 32766, Table: netstate.TableMain, Text: "32766: from all lookup main"},
			{Priority: 32767, Table: 253, Text: "32767: from all lookup default"},
		},
	}
	for _, a := range addrs {
		s = WithAddr(s, a)
	}
	return s
}

// WithAddr adds an address to eth0, and the route that the kernel makes of it.
func WithAddr(s netstate.Snapshot, addr string) netstate.Snapshot {
	p := netip.MustParsePrefix(addr)
	a := netstate.Addr{Link: Index, Prefix: p, ValidLft: netstate.Forever, PreferredLft: netstate.Forever, Flags: 0x80}
	if p.Addr().Is4() {
		a.Label = "eth0"
	}
	if p.Addr().IsLinkLocalUnicast() {
		a.Scope = netstate.ScopeLink
	}
	s.Addrs = append(s.Addrs, a)
	if p.IsSingleIP() {
		return s
	}
	r := Route(p.Masked().String(), "")
	r.Protocol = netstate.ProtocolKernel
	if p.Addr().Is4() {
		r.PrefSrc = p.Addr()
	}
	s.Routes = append(s.Routes, r)
	return s
}

// Route returns a route of the main table by eth0; without via it is on-link.
func Route(dst, via string) netstate.Route {
	r := netstate.Route{
		Link: Index, Dst: netip.MustParsePrefix(dst), Table: netstate.TableMain,
		Protocol: 3, Type: netstate.TypeUnicast, // RTPROT_BOOT, as ip route and the CNI plugins have it
	}
	switch {
	case via != "":
		r.Via = netip.MustParseAddr(via)
	case r.Dst.Addr().Is4():
		r.Scope = netstate.ScopeLink
	}
	return r
}

// With adds routes.
func With(s netstate.Snapshot, routes ...netstate.Route) netstate.Snapshot {
	s.Routes = append(s.Routes, routes...)
	return s
}

// Without takes away the on-link route to dst, as the ptp plugin does.
func Without(s netstate.Snapshot, dst string) netstate.Snapshot {
	var kept []netstate.Route
	for _, r := range s.Routes {
		if r.Dst != netip.MustParsePrefix(dst) || r.Via.IsValid() {
			kept = append(kept, r)
		}
	}
	s.Routes = kept
	return s
}

// Shape is a pod network with a name.
type Shape struct {
	Name     string
	Snapshot netstate.Snapshot
}

// All returns the layouts of FIELD's CNI plugins.
func All() []Shape {
	return []Shape{
		{"bridge", Bridge()},
		{"flannel", With(Bridge(), Route("10.244.0.0/16", "10.244.1.1"))},
		{"ptp", PTP()},
		{"calico", Calico()},
		{"aws-vpc", AWS()},
		{"cilium", With(Pod("10.0.1.7/32"), Route("10.0.1.200/32", ""), Route("0.0.0.0/0", "10.0.1.200"))},
		{"ovn", With(Pod("10.244.0.7/23"), Route("0.0.0.0/0", "10.244.0.1"), Route("10.96.0.0/16", "10.244.0.1"))},
		{"onlink-default", With(Pod("10.0.1.7/32"), Route("0.0.0.0/0", ""))},
		{"no-default", Pod("192.168.9.7/24")},
		{"dual-stack", Dual()},
		{"ipv6-only", Known(With(Pod("fd00:10:244:1::7/64", "fe80::858:aff:fef4:107/64"), Route("::/0", "fd00:10:244:1::1")), "fd00:10:244:1::1")},
		{"ipv6-unknown-gateway", With(Pod("fd00:10:244:1::7/64"), Route("::/0", "fd00:10:244:1::1"))},
		{"calico-dual", CalicoDual()},
		{"aws-vpc-ipv6", AWS6()},
		{"cilium-dual", With(Pod("10.0.1.7/32", "fd00:10::7/128"), Route("10.0.1.200/32", ""), Route("0.0.0.0/0", "10.0.1.200"), Route("::/0", ""))},
		{"ptp-ipv6", Known(With(Without(Pod("fd00:10:1:2::5/64"), "fd00:10:1:2::/64"),
			Route("fd00:10:1:2::1/128", ""), Route("fd00:10:1:2::/64", "fd00:10:1:2::1"), Route("::/0", "fd00:10:1:2::1")), "fd00:10:1:2::1")},
		{"via-inet6", Known(With(Pod("10.9.0.7/32", "fe80::858:aff:fef4:107/64"), Route("0.0.0.0/0", "fe80::1")), "fe80::1")},
		{"no-address", Pod()},
	}
}

// Bridge is what the bridge plugin with host-local makes.
func Bridge() netstate.Snapshot {
	return With(Pod("10.244.1.7/24"), Route("0.0.0.0/0", "10.244.1.1"))
}

// PTP is what the ptp plugin, and kindnet, make: an address whose prefix is not
// on-link.
func PTP() netstate.Snapshot {
	return With(Without(Pod("10.1.2.5/24"), "10.1.2.0/24"),
		Route("10.1.2.1/32", ""), Route("10.1.2.0/24", "10.1.2.1"), Route("0.0.0.0/0", "10.1.2.1"))
}

// Calico is a host address with a link-local gateway that the node answers for.
func Calico() netstate.Snapshot {
	return With(Pod("192.168.77.9/32"), Route("169.254.1.1/32", ""), Route("0.0.0.0/0", "169.254.1.1"))
}

// AWS is as Calico, but nobody answers for the gateway: its neighbour entry is
// permanent.
func AWS() netstate.Snapshot {
	s := Calico()
	s.Neighbors = append(s.Neighbors, netstate.Neighbor{
		Link: Index, Addr: netip.MustParseAddr("169.254.1.1"),
		MAC: GatewayMAC, State: netstate.NeighborPermanent,
	})
	return s
}

// Dual has both families.
func Dual() netstate.Snapshot {
	return Known(With(Pod("10.244.1.7/24", "fd00:10:244:1::7/64", "fe80::858:aff:fef4:107/64"),
		Route("0.0.0.0/0", "10.244.1.1"), Route("::/0", "fd00:10:244:1::1")), "fd00:10:244:1::1")
}

// CalicoDual has a host address of each family; IPv6 gateways are link-local.
func CalicoDual() netstate.Snapshot {
	s := WithAddr(WithAddr(Calico(), "fd00:10:77::9/128"), "fe80::858:aff:fef4:107/64")
	return With(s, Route("::/0", "fe80::ecee:eeff:feee:eeee"))
}

// AWS6 is an IPv6-only pod, whose gateway nobody answers for.
func AWS6() netstate.Snapshot {
	s := With(Pod("2600:1f13::7/128", "fe80::858:aff:fef4:107/64"), Route("fe80::1/128", ""), Route("::/0", "fe80::1"))
	s.Neighbors = append(s.Neighbors, netstate.Neighbor{
		Link: Index, Addr: netip.MustParseAddr("fe80::1"), MAC: GatewayMAC, State: netstate.NeighborPermanent,
	})
	return s
}

// GatewayMAC is that of each gateway that has one.
var GatewayMAC = netstate.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// Known has a gateway say its MAC, as one that was asked does.
func Known(s netstate.Snapshot, gateway string) netstate.Snapshot {
	s.Neighbors = append(s.Neighbors, netstate.Neighbor{
		Link: Index, Addr: netip.MustParseAddr(gateway), MAC: GatewayMAC, State: netstate.NeighborReachable,
	})
	return s
}
