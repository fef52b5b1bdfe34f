package discover

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// guestMAC is the guest's where the pod interface has none to give it.
var guestMAC = netstate.MAC{0x02, 'p', 'w', 0, 0, 2}

// behind fills in the lease of a guest on a network of its own, for which the pod
// stands: of each family in which the pod has an address to stand with.
func (d *discovery) behind(l *lease.Lease, c config.Config) error {
	l.Server = lease.Server{ID: d.spare(1), MAC: d.link.MAC.Derive("server")}
	for _, family := range []struct {
		ipv4    bool
		network netip.Prefix
		flag    string
	}{
		{true, c.VMNetwork, "--vm-network-cidr"},
		{false, c.VMNetwork6, "--vm-ipv6-network-cidr"},
	} {
		if !family.network.IsValid() || !d.stands(family.ipv4) {
			continue
		}
		network, err := d.ownNetwork(family.network, family.flag)
		if err != nil {
			return err
		}
		gateway := network.Addr().Next()
		l.Addrs = append(l.Addrs, netip.PrefixFrom(gateway.Next(), network.Bits()))
		l.Server.Gateways = append(l.Server.Gateways, netip.PrefixFrom(gateway, network.Bits()))
		l.Routes = append(l.Routes, d.by(gateway)...)
		if !family.ipv4 {
			l.Server.LinkLocal = l.Server.MAC.LinkLocal()
			l.Routers = []lease.Router{{Addr: lease.GatewayMAC.LinkLocal(), Gateways: []netip.Addr{gateway}}}
		}
	}
	if len(l.Addrs) == 0 {
		return d.nothingToStandWith()
	}
	slices.SortStableFunc(l.Routes, defaultsLast)
	return nil
}

// macBehind is the address of a guest that nobody but the pod ever sees.
func (d *discovery) macBehind(asked netstate.MAC) (netstate.MAC, error) {
	if asked == lease.GatewayMAC {
		return asked, fmt.Errorf("--mac %s is the gateway's on the guest's network: give another", asked)
	}
	mac := cmp.Or(asked, d.link.MAC)
	if !mac.IsUnicast() || mac == lease.GatewayMAC {
		return guestMAC, nil
	}
	if mac[0] == libvirtsOwn {
		mac[0] = 0x02
	}
	return mac, nil
}

// stands reports whether the pod has an address of a family on the link.
func (d *discovery) stands(ipv4 bool) bool {
	return slices.ContainsFunc(d.snapshot.AddrsOf(d.link.Index), func(a netstate.Addr) bool {
		return a.Global() && a.Prefix.Addr().Is4() == ipv4 && a.Flags&netstate.AddrDADFailed == 0
	})
}

func (d *discovery) nothingToStandWith() error {
	var missing []string
	if d.stands(true) {
		missing = append(missing, "--vm-network-cidr")
	}
	if d.stands(false) {
		missing = append(missing, "--vm-ipv6-network-cidr")
	}
	if len(missing) == 0 { // wirable asks for an address; it may be another host's as well
		return fmt.Errorf("no global address of %q is good for a guest to be reached by: use --binding bridge or tc", d.link.Name)
	}
	return fmt.Errorf("the guest of %q would have no address: the pod has addresses of families alone whose network is none; give one with %s",
		d.link.Name, strings.Join(missing, " or "))
}

// ownNetwork is the guest's network: the one that is asked for, or where interfaces
// come before this one, the next of its size, so that no two guests' networks of a
// pod are the same.
func (d *discovery) ownNetwork(first netip.Prefix, flag string) (netip.Prefix, error) {
	before := d.before()
	network, ok := nth(first, before)
	if !ok {
		return network, fmt.Errorf("behind %s there is no room for the guest's network of %q, the pod's interface number %d: give a smaller one with %s",
			first, d.link.Name, before+1, flag)
	}
	if inUse := d.inUse(network); inUse != "" {
		return network, fmt.Errorf("the guest's network %s holds %s: give another with %s", network, inUse, flag)
	}
	var named []netip.Prefix
	for _, r := range d.snapshot.Routes {
		wider := r.Table == netstate.TableMain && r.Type == netstate.TypeUnicast && !r.Default() && r.Dst.Contains(network.Addr())
		if wider && !slices.Contains(named, r.Dst) {
			named = append(named, r.Dst)
			d.warn("the guest's network %s lies in %s, to which the pod has a route: hosts with its addresses are out of reach; "+
				"give another with %s where there are any", network, r.Dst, flag)
		}
	}
	return network, nil
}

// before counts the pod's interfaces that were made before this one and can have a
// guest of their own. They count whether they are wired or not: whoever wires one
// after the other does not know of the others.
func (d *discovery) before() int {
	n := 0
	for _, l := range d.snapshot.Links {
		if !l.Loopback && l.Kind != "tun" && l.Index < d.link.Index && hasGlobal(d.snapshot, l) {
			n++
		}
	}
	return n
}

// nth is the network n networks of its size behind first. One that leaves the
// private networks (RFC 1918, RFC 4193) would be somebody's.
func nth(first netip.Prefix, n int) (netip.Prefix, bool) {
	size := first.Addr().BitLen()
	number := new(big.Int).SetBytes(first.Addr().AsSlice())
	number.Add(number, new(big.Int).Lsh(big.NewInt(int64(n)), uint(size-first.Bits())))
	if number.BitLen() > size {
		return first, false
	}
	addr, ok := netip.AddrFromSlice(number.FillBytes(make([]byte, size/8)))
	return netip.PrefixFrom(addr, first.Bits()), ok && addr.IsGlobalUnicast() && addr.IsPrivate() == first.Addr().IsPrivate()
}

// inUse says what of the pod's network is inside of the guest's, so that one of both
// could not reach it.
func (d *discovery) inUse(network netip.Prefix) string {
	for _, a := range d.snapshot.Addrs {
		link, _ := d.snapshot.LinkByIndex(a.Link)
		switch {
		case network.Contains(a.Prefix.Addr()) && link.MAC == lease.GatewayMAC:
			return fmt.Sprintf("%s, an address of %q, the gateway of another guest or what is left of one", a.Prefix.Addr(), link.Name)
		case network.Contains(a.Prefix.Addr()):
			return fmt.Sprintf("%s, an address of %q", a.Prefix.Addr(), link.Name)
		case network.Contains(a.Peer):
			return fmt.Sprintf("%s, an address of %q's peer", a.Peer, link.Name)
		}
	}
	for _, r := range d.snapshot.Routes {
		if r.Table == netstate.TableLocal {
			continue
		}
		if r.Dst.Bits() >= network.Bits() && network.Contains(r.Dst.Addr()) {
			return fmt.Sprintf("%s, to which the pod has a route", r.Dst)
		}
		vias := []netip.Addr{r.Via}
		for _, hop := range r.NextHops {
			vias = append(vias, hop.Via)
		}
		for _, via := range vias {
			if network.Contains(via) {
				return fmt.Sprintf("%s, a gateway of the pod", via)
			}
		}
	}
	for _, addr := range d.told {
		if network.Contains(addr) {
			return fmt.Sprintf("%s, a server that the guest is to be told of", addr)
		}
	}
	return ""
}

// by are the routes of a guest whose gateway is the pod: to everywhere by the pod's
// primary interface, and by another one to where the pod goes by that, so that a
// guest with several answers by the one that it was asked on.
func (d *discovery) by(gateway netip.Addr) []lease.Route {
	everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if gateway.Is4() {
		everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if d.primary() {
		return []lease.Route{{Dst: everywhere, Via: gateway}}
	}
	var out []lease.Route
	for _, r := range d.snapshot.RoutesOf(d.link.Index) {
		dst := r.Dst.Masked()
		ofGuest := r.Table == netstate.TableMain && r.Type == netstate.TypeUnicast && dst.Addr().Is4() == gateway.Is4() &&
			!dst.Addr().IsLinkLocalUnicast() && !dst.Addr().IsMulticast()
		if ofGuest {
			out = append(out, lease.Route{Dst: dst, Via: gateway, Metric: r.Priority})
		}
	}
	slices.SortStableFunc(out, defaultsLast)
	return slices.CompactFunc(out, func(a, b lease.Route) bool { return a.Dst == b.Dst })
}

// defaultsLast orders routes of which all have the same gateway; equal ones come beside
// one another, the better metric first.
func defaultsLast(a, b lease.Route) int {
	rank := func(r lease.Route) int {
		if r.Default() {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Dst.Bits(), b.Dst.Bits()), cmp.Compare(a.Metric, b.Metric))
}
