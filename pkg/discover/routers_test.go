package discover

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

const (
	global  = "fd00:10:244:1::1"
	standIn = "fe80::ecee:eeff:feee:eeee" // of shapes.GatewayMAC
)

func pod6(routes ...netstate.Route) netstate.Snapshot {
	return shapes.With(shapes.Pod("fd00:10:244:1::7/64"), routes...)
}

// routersText is one line a router: its address, and what it stands for.
func routersText(l lease.Lease) []string {
	var out []string
	for _, r := range l.Routers {
		text := r.Addr.String()
		for _, gateway := range r.Gateways {
			text += " " + gateway.String()
		}
		out = append(out, text)
	}
	return out
}

func TestRouters(t *testing.T) {
	own := shapes.MAC.Derive("server").LinkLocal().String()
	silent := shapes.MAC.Derive("gateway " + global).LinkLocal().String()
	multipath := shapes.Route("::/0", "")
	multipath.Link = 0
	multipath.NextHops = []netstate.NextHop{
		{Link: shapes.Index, Via: netip.MustParseAddr("fe80::1"), Weight: 1},
		{Link: shapes.Index, Via: netip.MustParseAddr("fe80::2"), Weight: 2},
	}
	tests := []struct {
		name     string
		in       netstate.Snapshot
		want     []string
		standFor []string // neighbours: address and what it stands for
		warn     string
	}{
		{
			name: "a link-local gateway advertises itself",
			in:   pod6(shapes.Route("::/0", "fe80::1")),
			want: []string{"fe80::1 fe80::1"},
		},
		{
			name:     "a global one has a stand-in with its MAC",
			in:       shapes.Known(pod6(shapes.Route("::/0", global)), global),
			want:     []string{standIn + " " + global},
			standFor: []string{standIn + " " + global},
		},
		{
			name:     "one that did not answer is named, and has one without a MAC",
			in:       pod6(shapes.Route("::/0", global)),
			want:     []string{silent + " " + global},
			standFor: []string{silent + " " + global},
			warn:     "the gateway " + global + " of default has not said its MAC",
		},
		{
			name: "no gateway: podwire advertises what there is",
			in:   pod6(),
			want: []string{own},
		},
		{
			name: "an on-link default needs no router",
			in:   pod6(shapes.Route("::/0", "")),
			want: []string{own},
		},
		{
			name: "several routers, that of the best default first",
			in: pod6(shapes.Route("fd00:2::/64", "fe80::2"), metric(shapes.Route("::/0", "fe80::3"), 2048),
				metric(shapes.Route("::/0", "fe80::1"), 1024)),
			want: []string{"fe80::1 fe80::1", "fe80::3 fe80::3", "fe80::2 fe80::2"},
		},
		{
			name: "one machine with two addresses is one router",
			in: shapes.Known(shapes.Known(pod6(shapes.Route("fd00:2::/64", "fd00:10:244:1::2"), shapes.Route("::/0", global)), global),
				"fd00:10:244:1::2"),
			want:     []string{standIn + " " + global + " fd00:10:244:1::2"},
			standFor: []string{standIn + " " + global},
		},
		{
			name: "a stand-in that is a gateway of the pod's too is not answered for",
			in:   shapes.Known(pod6(shapes.Route("fd00:2::/64", standIn), shapes.Route("::/0", global)), global),
			want: []string{standIn + " " + global + " " + standIn},
		},
		{
			name: "of a multipath default the best",
			in:   pod6(multipath),
			want: []string{"fe80::2 fe80::2"},
			warn: "multipath",
		},
		{
			name: "IPv4 alone has none",
			in:   shapes.Bridge(),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := discoverEth0(t, tt.in, cluster(), config.Default())
			if diff := cmp.Diff(tt.want, routersText(found.Lease)); diff != "" {
				t.Errorf("routers (-want +got):\n%s", diff)
			}
			var standFor []string
			for _, n := range found.Lease.Neighbors {
				standFor = append(standFor, n.Addr.String()+" "+n.StandsFor.String())
				if known := n.Addr.String() != silent; known && n.MAC != shapes.GatewayMAC || !known && !n.MAC.IsZero() {
					t.Errorf("%s has the MAC %s", n.Addr, n.MAC)
				}
			}
			if diff := cmp.Diff(tt.standFor, standFor); diff != "" {
				t.Errorf("stand-ins (-want +got):\n%s", diff)
			}
			if all := strings.Join(found.Warnings, "\n"); (tt.warn == "") != (all == "") || !strings.Contains(all, tt.warn) {
				t.Errorf("warnings %q, want %q", found.Warnings, tt.warn)
			}
		})
	}
}

func TestUnresolvedGateways(t *testing.T) {
	permanent := pod6(shapes.Route("::/0", global))
	permanent.Neighbors = []netstate.Neighbor{{Link: shapes.Index, Addr: netip.MustParseAddr(global), MAC: shapes.GatewayMAC, State: netstate.NeighborPermanent}}
	failed := pod6(shapes.Route("::/0", global))
	failed.Neighbors = []netstate.Neighbor{{Link: shapes.Index, Addr: netip.MustParseAddr(global)}}
	tests := []struct {
		name string
		in   netstate.Snapshot
		want []string
	}{
		{"a global gateway", pod6(shapes.Route("::/0", global), shapes.Route("fd00:2::/64", global)), []string{global}},
		{"one that the kernel knows", shapes.Known(pod6(shapes.Route("::/0", global)), global), nil},
		{"one that somebody set", permanent, nil},
		{"one that failed once", failed, []string{global}},
		{"a link-local gateway says it to the guest itself", pod6(shapes.Route("::/0", "fe80::1")), nil},
		{"but not for IPv4", shapes.With(shapes.Pod("10.0.0.7/32"), shapes.Route("0.0.0.0/0", "fe80::1")), []string{"fe80::1"}},
		{"IPv4 gateways answer the guest's ARP", shapes.Bridge(), nil},
	}
	for _, tt := range tests {
		var got []string
		for _, addr := range Unresolved(tt.in, eth0(t, tt.in), config.Bridge) {
			got = append(got, addr.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestIPv4GatewayOfTheOtherFamily is "default via inet6 fe80::1".
func TestIPv4GatewayOfTheOtherFamily(t *testing.T) {
	s := shapes.Known(shapes.With(shapes.Pod("10.9.0.7/32"), shapes.Route("10.8.0.0/16", "fe80::1"), shapes.Route("0.0.0.0/0", "fe80::1")), "fe80::1")
	found := discoverEth0(t, s, cluster(), config.Default())
	want := []string{"169.254.75.2/32", "10.8.0.0/16 169.254.75.2", "0.0.0.0/0 169.254.75.2"}
	if diff := cmp.Diff(want, routesText(found)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	neighbors := []lease.Neighbor{{Addr: netip.MustParseAddr("169.254.75.2"), MAC: shapes.GatewayMAC, StandsFor: netip.MustParseAddr("fe80::1")}}
	if diff := cmp.Diff(neighbors, found.Lease.Neighbors, byValue); diff != "" {
		t.Errorf("neighbours (-want +got):\n%s", diff)
	}
	if found.Lease.Server.ID != netip.MustParseAddr("169.254.75.1") || len(found.Warnings) > 0 {
		t.Errorf("server %v, warnings %q", found.Lease.Server, found.Warnings)
	}
}

// TestIPv4GatewayOfTheOtherFamilyThatIsSilent has its stand-in all the same.
func TestIPv4GatewayOfTheOtherFamilyThatIsSilent(t *testing.T) {
	s := shapes.With(shapes.Pod("10.9.0.7/32"), shapes.Route("10.8.0.0/16", "fe80::1"), shapes.Route("0.0.0.0/0", "fe80::1"))
	found := discoverEth0(t, s, cluster(), config.Default())
	neighbors := []lease.Neighbor{{Addr: netip.MustParseAddr("169.254.75.2"), StandsFor: netip.MustParseAddr("fe80::1")}}
	if diff := cmp.Diff(neighbors, found.Lease.Neighbors, byValue); diff != "" {
		t.Errorf("neighbours (-want +got):\n%s", diff)
	}
	if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], "fe80::1 of 10.8.0.0/16 has not said its MAC") {
		t.Errorf("warnings %q", found.Warnings)
	}
}

// TestStandInsOfTwoInterfacesDiffer: in a guest they are gateways in one table.
func TestStandInsOfTwoInterfacesDiffer(t *testing.T) {
	s := two()
	var of []netip.Addr
	for _, name := range []string{"eth0", "net1"} {
		link, _ := s.LinkByName(name)
		for _, via := range []string{"fe80::1", "fe80::2"} {
			r := shapes.Route("10.8.0.0/16", via)
			r.Link = link.Index
			s = shapes.With(s, r)
		}
		found, err := Discover(s, link, Host{}, config.Default())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range found.Lease.Neighbors {
			of = append(of, n.Addr)
		}
	}
	slices.SortFunc(of, netip.Addr.Compare)
	if len(slices.Compact(of)) != 4 {
		t.Errorf("stand-ins %v", of)
	}
}

func TestAddressThatRunsOutIsNamed(t *testing.T) {
	s := shapes.Pod("10.244.1.7/24")
	s.Addrs = slices.Clone(s.Addrs)
	s.Addrs[0].ValidLft = 600
	found := discoverEth0(t, s, cluster(), config.Default())
	if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], "10.244.1.7/24 of \"eth0\" runs out in 600 s") {
		t.Errorf("warnings %q", found.Warnings)
	}
}

// TestFurtherIPv4AddressesAreNamed: the kernel marks them as it marks temporary IPv6 ones.
func TestFurtherIPv4AddressesAreNamed(t *testing.T) {
	s := shapes.Pod("10.244.1.7/24", "10.244.1.200/24")
	s.Addrs = slices.Clone(s.Addrs)
	s.Addrs[1].Flags = netstate.AddrTemporary
	found := discoverEth0(t, s, cluster(), config.Default())
	want := []netip.Prefix{netip.MustParsePrefix("10.244.1.7/24"), netip.MustParsePrefix("10.244.1.200/24")}
	if diff := cmp.Diff(want, found.Lease.Addrs, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], "10.244.1.200") {
		t.Errorf("warnings %q", found.Warnings)
	}
}

func TestAddressesThatAreNotAGuests(t *testing.T) {
	s := shapes.Pod("fd00::7/64", "fd00::8/64", "fd00::9/64")
	s.Addrs = slices.Clone(s.Addrs)
	s.Addrs[1].Flags = netstate.AddrTemporary
	s.Addrs[2].Flags = netstate.AddrDADFailed
	found := discoverEth0(t, s, cluster(), config.Default())
	if diff := cmp.Diff([]netip.Prefix{netip.MustParsePrefix("fd00::7/64")}, found.Lease.Addrs, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], "fd00::9/64") {
		t.Errorf("warnings %q", found.Warnings)
	}
}
