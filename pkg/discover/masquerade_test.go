package discover

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/internal/golden"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// TestMasqueradedShapes holds what a guest behind the pod of each CNI layout is told.
func TestMasqueradedShapes(t *testing.T) {
	for _, shape := range shapes.All() {
		t.Run(shape.Name, func(t *testing.T) {
			link := eth0(t, shape.Snapshot)
			found, err := Discover(shape.Snapshot, link, cluster(), as(config.Masquerade))
			if shape.Name == "no-address" {
				if err == nil {
					t.Errorf("a guest behind no address is told %+v", found.Lease)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, shape.Name+".masquerade.json", told(t, found))
			if got := Unresolved(shape.Snapshot, link, config.Masquerade); got != nil {
				t.Errorf("the gateways %v are of no matter to the guest", got)
			}
		})
	}
}

// TestMasqueradedLeaseIsWhole: what the guest is told of, it is told how to reach.
func TestMasqueradedLeaseIsWhole(t *testing.T) {
	for _, shape := range shapes.All() {
		link := eth0(t, shape.Snapshot)
		found, err := Discover(shape.Snapshot, link, cluster(), as(config.Masquerade))
		if err != nil {
			continue
		}
		l := found.Lease
		if len(l.Addrs) != len(l.Server.Gateways) || len(l.Neighbors) > 0 {
			t.Errorf("%s: %v behind %v, neighbours %v", shape.Name, l.Addrs, l.Server.Gateways, l.Neighbors)
		}
		for i, gateway := range l.Server.Gateways {
			if !slices.Contains(l.Gateways(), gateway.Addr()) || gateway.Masked() != l.Addrs[i].Masked() || gateway == l.Addrs[i] {
				t.Errorf("%s: the gateway %s of %s is not that of a default route", shape.Name, gateway, l.Addrs[i])
			}
		}
		for _, ns := range l.DNS {
			if len(l.RoutesOf(ns.Is4())) == 0 {
				t.Errorf("%s: there is no way to the nameserver %s", shape.Name, ns)
			}
		}
		if has6 := len(l.AddrsOf(false)) > 0; has6 != l.Server.LinkLocal.IsValid() || has6 != (len(l.Routers) == 1) {
			t.Errorf("%s: server %v, routers %v", shape.Name, l.Server, l.Routers)
		}
	}
}

func masqueraded(set ...func(*config.Config)) config.Config {
	c := as(config.Masquerade)
	for _, f := range set {
		f(&c)
	}
	return c
}

func network4(text string) func(*config.Config) {
	return func(c *config.Config) { c.VMNetwork = netip.MustParsePrefix(text) }
}

func network6(text string) func(*config.Config) {
	return func(c *config.Config) { c.VMNetwork6 = netip.MustParsePrefix(text) }
}

func no4(c *config.Config) { c.VMNetwork = netip.Prefix{} }
func no6(c *config.Config) { c.VMNetwork6 = netip.Prefix{} }

// networkText is one line for each address of the guest's: itself and its gateway.
func networkText(l lease.Lease) []string {
	var out []string
	for i, p := range l.Addrs {
		out = append(out, p.String()+" "+l.Server.Gateways[i].String())
	}
	return out
}

func TestGuestNetworks(t *testing.T) {
	tests := []struct {
		name string
		in   netstate.Snapshot
		set  []func(*config.Config)
		want []string
		warn []string
	}{
		{
			name: "those of one's own choice", in: shapes.Dual(), set: []func(*config.Config){network4("172.20.0.0/30"), network6("fd99::/126")},
			want: []string{"172.20.0.2/30 172.20.0.1/30", "fd99::2/126 fd99::1/126"},
		},
		{name: "no IPv4", in: shapes.Dual(), set: []func(*config.Config){no4}, want: []string{"fd10:0:2::2/120 fd10:0:2::1/120"}, warn: []string{"10.96.0.10 is of a family", "no nameserver"}},
		{name: "no IPv6", in: shapes.Dual(), set: []func(*config.Config){no6}, want: []string{"10.0.2.2/24 10.0.2.1/24"}},
		{name: "neither is the other's", in: shapes.Bridge(), set: []func(*config.Config){no6}, want: []string{"10.0.2.2/24 10.0.2.1/24"}},
		{
			name: "a wider route that covers it is named once", in: shapes.With(shapes.Bridge(), shapes.Route("10.0.0.0/16", ""), metric(shapes.Route("10.0.0.0/16", "10.244.1.1"), 7)),
			want: []string{"10.0.2.2/24 10.0.2.1/24"}, warn: []string{"10.0.2.0/24 lies in 10.0.0.0/16"},
		},
		{
			name: "what the pod's kernel does is nothing to warn of", in: policyAndMultipath(), want: []string{"10.0.2.2/24 10.0.2.1/24"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := discoverEth0(t, tt.in, cluster(), masqueraded(tt.set...))
			if diff := cmp.Diff(tt.want, networkText(found.Lease)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			wantWarnings(t, found.Warnings, tt.warn)
		})
	}
}

// policyAndMultipath is a pod of which a guest in its place could not be told all.
func policyAndMultipath() netstate.Snapshot {
	multipath := shapes.Route("0.0.0.0/0", "")
	multipath.Link = 0
	multipath.NextHops = []netstate.NextHop{
		{Link: shapes.Index, Via: netip.MustParseAddr("10.244.1.1"), Weight: 1},
		{Link: shapes.Index, Via: netip.MustParseAddr("10.244.1.2"), Weight: 5},
	}
	s := shapes.With(shapes.Pod("10.244.1.7/24", "10.244.1.8/24"), multipath, ofType(shapes.Route("10.66.0.0/16", ""), netstate.TypeBlackhole))
	s.Addrs[0].ValidLft = 60
	s.Rules = append(slices.Clone(s.Rules), netstate.Rule{Priority: 100, Table: 7, Text: "100: from 10.244.1.7 lookup 7"})
	return s
}

func TestMasqueradeIsRefused(t *testing.T) {
	duplicate := shapes.Pod("10.244.1.7/24")
	duplicate.Addrs[0].Flags |= netstate.AddrDADFailed
	hop := shapes.Route("0.0.0.0/0", "")
	hop.NextHops = []netstate.NextHop{{Link: shapes.Index, Via: netip.MustParseAddr("10.0.2.9"), Weight: 1}}
	otherTable := shapes.Route("10.0.2.64/26", "10.244.1.1")
	otherTable.Table = 7
	left := shapes.Bridge()
	left.Links = append(slices.Clone(left.Links), netstate.Link{Index: 9, Name: "tap-eth0", Kind: "tun", MAC: lease.GatewayMAC})
	left.Addrs = append(slices.Clone(left.Addrs), netstate.Addr{Link: 9, Prefix: netip.MustParsePrefix("10.0.2.1/24")})
	peer := shapes.Pod("10.244.1.7/32")
	peer.Addrs[0].Peer = netip.MustParseAddr("10.0.2.1")

	tests := []struct {
		name string
		in   netstate.Snapshot
		host Host
		set  []func(*config.Config)
		says string
	}{
		{name: "no address", in: shapes.Pod(), says: `no global address of "eth0"`},
		{name: "an address that is another's", in: duplicate, says: `no global address of "eth0"`},
		{name: "no network for the pod's family", in: shapes.Bridge(), set: []func(*config.Config){no4}, says: "give one with --vm-network-cidr"},
		{name: "nor for the other", in: shapes.Pod("fd00::7/64"), set: []func(*config.Config){no6}, says: "give one with --vm-ipv6-network-cidr"},
		{name: "no network at all", in: shapes.Dual(), set: []func(*config.Config){no4, no6}, says: "give one with --vm-network-cidr or --vm-ipv6-network-cidr"},
		{name: "the pod's own address", in: shapes.Pod("10.0.2.15/24"), says: `10.0.2.0/24 holds 10.0.2.15, an address of "eth0": give another with --vm-network-cidr`},
		{name: "of IPv6 as well", in: shapes.Pod("fd10:0:2::7/64"), says: `holds fd10:0:2::7, an address of "eth0": give another with --vm-ipv6-network-cidr`},
		{name: "its peer's", in: peer, says: `holds 10.0.2.1, an address of "eth0"'s peer`},
		{name: "another guest's", in: left, says: `holds 10.0.2.1, an address of "tap-eth0", the gateway of another guest`},
		{name: "the same route", in: shapes.With(shapes.Bridge(), shapes.Route("10.0.2.0/24", "10.244.1.1")), says: "holds 10.0.2.0/24, to which the pod has a route"},
		{name: "a more specific one, of any table", in: shapes.With(shapes.Bridge(), otherTable), says: "holds 10.0.2.64/26, to which"},
		{name: "a gateway", in: shapes.With(shapes.Pod("10.0.1.7/16"), shapes.Route("0.0.0.0/0", "10.0.2.1")), says: "holds 10.0.2.1, a gateway of the pod"},
		{name: "one of several", in: shapes.With(shapes.Pod("10.0.1.7/16"), hop), says: "holds 10.0.2.9, a gateway of the pod"},
		{name: "a nameserver", in: shapes.Bridge(), set: []func(*config.Config){network4("10.96.0.0/24")}, says: "holds 10.96.0.10, a server"},
		{
			name: "that of the interface's network", in: shapes.Bridge(), host: Host{Networks: []Network{{Interface: "eth0", Nameservers: []string{"10.0.2.53"}}}},
			says: "holds 10.0.2.53, a server",
		},
		{
			name: "the gateway's MAC", in: shapes.Bridge(), set: []func(*config.Config){func(c *config.Config) { c.MAC = lease.GatewayMAC }},
			says: "--mac 02:70:77:00:00:01 is the gateway's",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.host.Networks == nil {
				tt.host = cluster()
			}
			found, err := Discover(tt.in, eth0(t, tt.in), tt.host, masqueraded(tt.set...))
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v, err = %v, want one line that says %q", found.Lease, err, tt.says)
			}
		})
	}
}

// TestNetworksOfAPodDoNotCollide has each interface know its place, whoever else is
// wired, and when.
func TestNetworksOfAPodDoNotCollide(t *testing.T) {
	pod := two()
	pod.Links = append(pod.Links,
		netstate.Link{Index: 4, Name: "l2", Kind: "veth", MAC: netstate.MAC{2, 0, 0, 0, 0, 10}, MTU: 1500}, // without an address
		netstate.Link{Index: 5, Name: "tap-eth0", Kind: "tun", MAC: lease.GatewayMAC, MTU: 1450},
		netstate.Link{Index: 6, Name: "net2", Kind: "veth", MAC: netstate.MAC{2, 0, 0, 0, 0, 11}, MTU: 1500})
	for index, text := range map[int]string{1: "203.0.113.1/32", 3: "fd77::7/64", 5: "198.51.100.1/32", 6: "192.168.6.7/24"} {
		pod.Addrs = append(pod.Addrs, netstate.Addr{Link: index, Prefix: netip.MustParsePrefix(text), ValidLft: netstate.Forever})
	}

	tests := []struct {
		name string
		link string
		set  []func(*config.Config)
		want []string
		says string
	}{
		{name: "the first", link: "eth0", want: []string{"10.0.2.2/24 10.0.2.1/24"}},
		{name: "the second", link: "net1", want: []string{"10.0.3.2/24 10.0.3.1/24", "fd10:0:2::102/120 fd10:0:2::101/120"}},
		{name: "the third: neither one without an address nor a tap counts", link: "net2", want: []string{"10.0.4.2/24 10.0.4.1/24"}},
		{name: "of another size", link: "net2", set: []func(*config.Config){network4("10.0.255.248/30")}, want: []string{"10.1.0.2/30 10.1.0.1/30"}},
		{name: "no more room in the private networks", link: "net1", set: []func(*config.Config){network4("10.0.0.0/8")}, says: "--vm-network-cidr"},
		{name: "nor behind the last address", link: "net1", set: []func(*config.Config){network6("ff00::/8")}, says: "--vm-ipv6-network-cidr"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			link, _ := pod.LinkByName(tt.link)
			found, err := Discover(pod, link, cluster(), masqueraded(tt.set...))
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), "no room") || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("err = %v, want one that says %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, networkText(found.Lease)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSecondMasqueradedInterface: the guest answers by the one that it was asked on,
// and its default route is the primary one's.
func TestSecondMasqueradedInterface(t *testing.T) {
	s := two()
	via := shapes.Route("10.7.0.0/16", "192.168.5.1")
	backup, backupDefault := metric(via, 100), metric(shapes.Route("0.0.0.0/0", "192.168.5.1"), 100)
	multicast := shapes.Route("224.0.0.0/4", "")
	for _, r := range []*netstate.Route{&via, &backup, &backupDefault, &multicast} {
		r.Link = 3
	}
	s = shapes.With(s, backupDefault, backup, via, multicast)
	link, _ := s.LinkByName("net1")
	found, err := Discover(s, link, cluster(), masqueraded(func(c *config.Config) { c.All = true }))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10.7.0.0/16 10.0.3.1", "192.168.5.0/24 10.0.3.1", "0.0.0.0/0 10.0.3.1"}
	if diff := cmp.Diff(want, routesText(found)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if last := found.Lease.Routes[2]; last.Metric != 100 {
		t.Errorf("the default route has lost the pod's metric: %+v", last)
	}
	wantWarnings(t, found.Warnings, nil)
	if len(found.Lease.DNS) > 0 {
		t.Errorf("nameservers %v are the primary interface's", found.Lease.DNS)
	}
}
