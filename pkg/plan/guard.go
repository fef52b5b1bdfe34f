package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Guard is what a guest may send; all else is dropped. It keeps the guest to its own
// MAC and addresses, and from being a router or a DHCP server to others. A guest chooses
// its own link-local addresses (RFC 7217), so that any is its own but for those that are
// known to be somebody else's.
type Guard struct {
	MAC   netstate.MAC `json:"mac"`
	Addrs []netip.Addr `json:"addrs,omitempty"` // its own; where there are none, they are not known, and any is good
	// Others are link-local addresses of routers, and of podwire.
	Others []netip.Addr `json:"others,omitempty"`
}

// guarded makes the filter that holds a guest to what it was given, where somebody asked
// for it.
func guarded(f AddFilter, l lease.Lease, c config.Config) Steps {
	if !c.Guard {
		return nil
	}
	f.Name, f.Guard = filterGuard, guardOf(l)
	return Steps{f}
}

func guardOf(l lease.Lease) *Guard {
	g := &Guard{MAC: l.MAC}
	for _, p := range l.Addrs {
		g.Addrs = append(g.Addrs, p.Addr())
	}
	other := func(a netip.Addr) {
		if a.Is6() && a.IsLinkLocalUnicast() && !slices.Contains(g.Others, a) && !slices.Contains(g.Addrs, a) {
			g.Others = append(g.Others, a)
		}
	}
	other(l.Server.LinkLocal)
	for _, r := range l.Routers {
		other(r.Addr)
	}
	for _, n := range l.Neighbors {
		other(n.Addr)
	}
	for _, r := range l.Routes {
		other(r.Via)
	}
	if hasGateway(l, false) {
		other(lease.GatewayMAC.LinkLocal())
	}
	return g
}

// AddrsOf are the guest's own addresses of one family.
func (g Guard) AddrsOf(ipv4 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range g.Addrs {
		if a.Is4() == ipv4 {
			out = append(out, a)
		}
	}
	return out
}

// Known reports whether the guest's addresses are known.
func (g Guard) Known() bool { return len(g.Addrs) > 0 }

// texts are what is dropped, in the words of tcpdump(1).
func (g Guard) texts() []string {
	sender := ""
	if g.Known() {
		sender = orList(g.AddrsOf(true), "0.0.0.0 (probes)")
	}
	out := []string{
		"vlan",
		fmt.Sprintf("not ether src %s", g.MAC),
		"not arp and not ip and not ip6",
		fmt.Sprintf("arp and not from %s%s", g.MAC, sender),
		"udp dst port 68 or icmp redirect",
		"ip6 and udp dst port 546, icmp6 router-advertisement or redirect, also behind extension headers",
		fmt.Sprintf("icmp6 neighbor-discovery with another link-layer address than %s, or behind an extension header", g.MAC),
	}
	if !g.Known() {
		return out
	}
	return append(out,
		"ip and not src host"+orList(g.AddrsOf(true), "0.0.0.0 (DHCP)"),
		"icmp6 neighbor-advertisement of another than"+orList(g.AddrsOf(false), g.linkLocal()),
		"ip6 and not src host"+orList(g.AddrsOf(false), g.linkLocal(), ":: (multicast and its own neighbor-solicitation)"))
}

// linkLocal are the link-local addresses that may be the guest's.
func (g Guard) linkLocal() string {
	if len(g.Others) == 0 {
		return "fe80::/64"
	}
	return "fe80::/64 but" + orList(g.Others)
}

// orList lists addresses and more, with a space before.
func orList(addrs []netip.Addr, more ...string) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	if all = append(all, more...); len(all) == 0 {
		return ""
	}
	return " " + strings.Join(all, " or ")
}
