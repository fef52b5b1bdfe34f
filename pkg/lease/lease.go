// Package lease holds what one guest is to be told about its network: the plain
// values that DHCPv4, DHCPv6 and router advertisements hand out.
//
// A lease is made by discover from a snapshot and is kept in the state file. It
// says nothing of bridges or taps, and it encodes nothing: that is the work of
// the protocol packages.
package lease

import (
	"net/netip"
	"time"

	"github.com/podwire/podwire/pkg/netstate"
)

// Lease is all that the guest is told.
type Lease struct {
	MAC      netstate.MAC   `json:"mac"`                // the only client that is answered
	Addrs    []netip.Prefix `json:"addrs,omitempty"`    // both families, the pod's order; not masked
	Routes   []Route        `json:"routes,omitempty"`   // both families; on-link routes to gateways first, default last, then by metric
	MTU      int            `json:"mtu"`                // octets
	DNS      []netip.Addr   `json:"dns,omitempty"`      // both families, in order of preference
	Search   []string       `json:"search,omitempty"`   // lower case, without trailing dots
	Hostname string         `json:"hostname,omitempty"` // one label or a full name
	Domain   string         `json:"domain,omitempty"`

	NTP        []netip.Addr     `json:"ntp,omitempty"`
	TFTPServer string           `json:"tftpServer,omitempty"` // a name or an address (option 66)
	BootFile   string           `json:"bootFile,omitempty"`   // option 67
	Options    map[uint8]string `json:"options,omitempty"`    // 224 to 254: the user's own, as text
	Time       time.Duration    `json:"time,omitempty"`       // whole seconds; 0 for an infinite lease
	Neighbors  []Neighbor       `json:"neighbors,omitempty"`  // those that podwire answers for: the pod's permanent ones, and its routers' stand-ins
	Routers    []Router         `json:"routers,omitempty"`    // who advertises to an IPv6 guest, the best first; empty without IPv6
	Upstream   []netip.Addr     `json:"upstream,omitempty"`   // the nameservers to which the guest's questions to Server.DNS are relayed
	Server     Server           `json:"server"`
}

// Router is one source of router advertisements. A guest takes the source, which
// must be link-local (RFC 4861 §4.2), for the gateway.
type Router struct {
	Addr     netip.Addr   `json:"addr"`               // link-local: the gateway's own, or a stand-in that is in Lease.Neighbors
	Gateways []netip.Addr `json:"gateways,omitempty"` // the Via of the routes that go by it; empty where there is no gateway at all
}

// Route is a route that the guest is to have.
type Route struct {
	Dst    netip.Prefix `json:"dst"`              // masked
	Via    netip.Addr   `json:"via,omitzero"`     // not set for an on-link route
	Metric uint32       `json:"metric,omitempty"` // the pod's; DHCPv4 cannot carry it, so it only orders
}

// OnLink reports whether the destination is reached without a gateway.
func (r Route) OnLink() bool { return !r.Via.IsValid() }

// Default reports whether the route is its family's default route.
func (r Route) Default() bool { return r.Dst.Bits() == 0 }

// Neighbor is an address that podwire answers for in ARP or ND.
type Neighbor struct {
	Addr netip.Addr   `json:"addr"`
	MAC  netstate.MAC `json:"mac"`
	// StandsFor is the gateway of the pod whose place Addr takes, because the guest
	// cannot be told of it by its own address. Its MAC may change, and is not set
	// where the gateway has not said it yet.
	StandsFor netip.Addr `json:"standsFor,omitzero"`
}

// Server is how podwire shows itself to the guest. None of its addresses but the
// gateways' is ever set on a link of the pod: they exist only in the frames that it
// answers with.
type Server struct {
	ID        netip.Addr   `json:"id"`                 // the DHCPv4 server identifier, link-local
	MAC       netstate.MAC `json:"mac"`                // the source of its frames
	LinkLocal netip.Addr   `json:"linkLocal,omitzero"` // the source of its DHCPv6 messages; not set without IPv6
	DNS       []netip.Addr `json:"dns,omitempty"`      // where it answers DNS; empty unless it does
	// Gateways are the addresses that the pod's kernel itself has on the guest's
	// network, in front of which it stands (masquerade): at most one of each family.
	Gateways []netip.Prefix `json:"gateways,omitempty"`
}

// GatewayMAC is the pod's on the guest's network, where it has one of its own. It is
// the same in every pod, so that a guest that moves to another finds its gateway
// where it was.
var GatewayMAC = netstate.MAC{0x02, 'p', 'w', 0, 0, 1}

// IPv4 returns the address that DHCPv4 hands out: the first IPv4 one.
func (l Lease) IPv4() (netip.Prefix, bool) {
	for _, p := range l.Addrs {
		if p.Addr().Is4() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// AddrsOf returns the addresses of one family, in order.
func (l Lease) AddrsOf(ipv4 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range l.Addrs {
		if p.Addr().Is4() == ipv4 {
			out = append(out, p)
		}
	}
	return out
}

// Served reports whether podwire tells the guest anything: an interface without
// addresses is joined to its network and left alone.
func (l Lease) Served() bool { return len(l.Addrs) > 0 }

// RoutesOf returns the routes of one family, in order.
func (l Lease) RoutesOf(ipv4 bool) []Route {
	var out []Route
	for _, r := range l.Routes {
		if r.Dst.Addr().Is4() == ipv4 {
			out = append(out, r)
		}
	}
	return out
}

// Gateways returns the gateways of the default routes, each once, best first.
func (l Lease) Gateways() []netip.Addr {
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, r := range l.Routes {
		if r.Default() && !r.OnLink() && !seen[r.Via] {
			seen[r.Via] = true
			out = append(out, r.Via)
		}
	}
	return out
}

// DNSOf returns the nameservers of one family, in order.
func (l Lease) DNSOf(ipv4 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range l.DNS {
		if a.Is4() == ipv4 {
			out = append(out, a)
		}
	}
	return out
}
