package discover

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

// status is what Multus writes.
const status = `[{
    "name": "kindnet", "interface": "eth0", "ips": ["10.244.1.7"], "mac": "0a:58:0a:f4:01:07", "default": true, "dns": {}, "gateway": ["10.244.1.1"]
},{
    "name": "default/storage", "interface": "net1", "ips": ["192.168.5.7"], "dns": {"nameservers": ["192.168.5.53", "x"], "search": ["storage.example", "-"]}
},{
    "name": "default/vfio", "device-info": {"type": "pci"}, "dns": {}
}]`

// two has a second interface, as Multus makes it.
func two() netstate.Snapshot {
	s := shapes.Bridge()
	s.Links = append(slices.Clone(s.Links), netstate.Link{Index: 3, Name: "net1", Kind: "veth", MAC: netstate.MAC{2, 0, 0, 0, 0, 9}, MTU: 1500, Up: true})
	s.Addrs = append(slices.Clone(s.Addrs), netstate.Addr{Link: 3, Prefix: netip.MustParsePrefix("192.168.5.7/24"), ValidLft: netstate.Forever})
	onLink := shapes.Route("192.168.5.0/24", "")
	onLink.Link = 3
	return shapes.With(s, onLink)
}

func networks(t *testing.T) []Network {
	t.Helper()
	out, err := ParseNetworks([]byte(status))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseNetworks(t *testing.T) {
	want := []Network{
		{Name: "kindnet", Interface: "eth0", Default: true},
		{Name: "default/storage", Interface: "net1", Nameservers: []string{"192.168.5.53", "x"}, Search: []string{"storage.example", "-"}},
		{Name: "default/vfio"},
	}
	if diff := cmp.Diff(want, networks(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, empty := range []string{"", "[]", "null"} {
		if _, err := ParseNetworks([]byte(empty)); !errors.Is(err, ErrNoNetworks) {
			t.Errorf("%q: err = %v", empty, err)
		}
	}
	for _, bad := range []string{"x", "{}", `[{"interface": 7}]`, `[{"interface": "eth0"}, {"interface": "eth0"}]`} {
		if _, err := ParseNetworks([]byte(bad)); err == nil || errors.Is(err, ErrNoNetworks) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: err = %v", bad, err)
		}
	}
}

func TestAll(t *testing.T) {
	inside := two()
	for i, kind := range []string{"bridge", "dummy", "sit", "tun", "vlan"} {
		inside.Links = append(inside.Links, netstate.Link{Index: 10 + i, Name: kind + "0", Kind: kind, MAC: netstate.MAC{2, 0, 0, 0, 1, byte(i)}})
	}
	wired := two()
	wired.Links = slices.Clone(wired.Links)
	wired.Links[1].Master = 20
	wired.Links = append(wired.Links, netstate.Link{Index: 20, Name: "pw-eth0", Kind: "bridge"}, netstate.Link{Index: 21, Name: "tap-eth0", Kind: "tun", Master: 20})
	macvlan := two()
	macvlan.Links = slices.Clone(macvlan.Links)
	macvlan.Links[2].Kind = "macvlan"
	made := two()
	made.Links = slices.Clone(made.Links)
	made.Links[2].Index = 1 << 20
	slices.Reverse(made.Links)

	tests := []struct {
		name     string
		in       netstate.Snapshot
		networks []Network
		wired    []string
		want     []string
		missing  []string
		err      string
	}{
		{name: "every veth and device", in: two(), want: []string{"eth0", "net1"}},
		{name: "in the order in which they were made", in: made, want: []string{"eth0", "net1"}},
		{name: "what was made in the pod is not the pod's", in: inside, want: []string{"eth0", "net1"}},
		{name: "those of the annotation", in: inside, networks: networks(t), want: []string{"eth0", "net1"}, missing: []string{"default/vfio"}},
		{name: "in its order", in: two(), networks: []Network{{Interface: "net1"}, {Interface: "eth0"}}, want: []string{"net1", "eth0"}},
		{name: "what is wired stays", in: wired, wired: []string{"eth0"}, want: []string{"eth0", "net1"}},
		{name: "one that cannot be wired is refused", in: macvlan, err: `interface "net1" is a macvlan`},
		{name: "no interface at all", in: netstate.Snapshot{}, err: "no pod interface found"},
		{name: "a port of somebody's bridge is left alone", in: wired, want: []string{"net1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, missing, err := All(tt.in, tt.networks, tt.wired, config.Bridge)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("err = %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.missing, missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNamesGoWithTheirInterface has a pod with two interfaces.
func TestNamesGoWithTheirInterface(t *testing.T) {
	tests := []struct {
		name        string
		link        string
		networks    []Network
		nameservers []string
		set         func(*config.Config)
		dns, search []string
		warn        string
	}{
		{name: "the primary one has the pod's", link: "eth0", nameservers: []string{"10.96.0.10"}, dns: []string{"10.96.0.10"}, search: []string{"pods.example"}},
		{name: "the other one none", link: "net1", nameservers: []string{"10.96.0.10"}},
		{
			name: "nobody else was spoken of", link: "net1", nameservers: []string{"10.96.0.10"},
			set: func(c *config.Config) { c.Interfaces = []string{"net1"} }, warn: `reached by "eth0" and not by "net1"`,
		},
		{name: "one that is reached by it", link: "net1", nameservers: []string{"192.168.5.3", "10.96.0.10"}, dns: []string{"192.168.5.3"}, search: []string{"pods.example"}},
		{name: "one that is not reached at all", link: "eth0", nameservers: []string{"2001:db8::1"}, dns: []string{"2001:db8::1"}, search: []string{"pods.example"}},
		{
			name: "its network's own", link: "net1", nameservers: []string{"10.96.0.10"}, networks: networks(t),
			dns: []string{"192.168.5.53"}, search: []string{"storage.example"}, warn: `nameserver "x" is no IP address`,
		},
		{
			name: "what somebody asks for", link: "net1", nameservers: []string{"10.96.0.10"},
			set: func(c *config.Config) { c.DNS = []netip.Addr{netip.MustParseAddr("10.1.1.1")} },
			dns: []string{"10.1.1.1"}, search: []string{"pods.example"},
		},
		{
			name: "the default network is the one that is called so", link: "net1", nameservers: []string{"127.0.0.11"},
			networks: []Network{{Name: "a", Interface: "eth0"}, {Name: "b", Interface: "net1", Default: true}},
			search:   []string{"pods.example"}, warn: "--dns-forward",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := two()
			link, _ := s.LinkByName(tt.link)
			host := Host{Hostname: "vm-0", Networks: tt.networks}
			host.ResolvConf.Search = []string{"pods.example"}
			for _, ns := range tt.nameservers {
				host.ResolvConf.Nameservers = append(host.ResolvConf.Nameservers, netip.MustParseAddr(ns))
			}
			c := config.Default()
			c.All = tt.set == nil
			if tt.set != nil {
				tt.set(&c)
			}
			found, err := Discover(s, link, host, c)
			if err != nil {
				t.Fatal(err)
			}
			var dns []string
			for _, addr := range found.Lease.DNS {
				dns = append(dns, addr.String())
			}
			if diff := cmp.Diff(tt.dns, dns); diff != "" {
				t.Errorf("nameservers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.search, found.Lease.Search); diff != "" {
				t.Errorf("search (-want +got):\n%s", diff)
			}
			if all := strings.Join(found.Warnings, "\n"); (tt.warn == "") != (all == "") || !strings.Contains(all, tt.warn) {
				t.Errorf("warnings %q, want %q", found.Warnings, tt.warn)
			}
		})
	}
}

func TestForwardedDNS(t *testing.T) {
	tests := []struct {
		name          string
		in            netstate.Snapshot
		nameservers   []string
		dnsFlag       string // --dns
		dns, upstream []string
		server        []string // where it is not dns
		routes        []string
		warn          string
	}{
		{
			name: "IPv4", in: shapes.Bridge(), nameservers: []string{"127.0.0.11"},
			dns: []string{"169.254.75.1"}, upstream: []string{"127.0.0.11"},
			routes: []string{"169.254.75.1/32", "0.0.0.0/0 10.244.1.1"},
		},
		{
			name: "both families", in: shapes.Dual(), nameservers: []string{"127.0.0.11", "10.96.0.10"},
			dns: []string{"169.254.75.1", "fd25:925d:bc6b::35", "10.96.0.10"}, upstream: []string{"127.0.0.11"},
			server: []string{"169.254.75.1", "fd25:925d:bc6b::35"},
			routes: []string{"169.254.75.1/32", "fd25:925d:bc6b::35/128", "0.0.0.0/0 10.244.1.1", "::/0 fd00:10:244:1::1"},
		},
		{
			name: "nobody to ask", in: shapes.Bridge(),
			dns: []string{"169.254.75.1"}, routes: []string{"169.254.75.1/32", "0.0.0.0/0 10.244.1.1"}, warn: "no nameserver to relay",
		},
		{
			// The relay, which asks from a pod without addresses, would not reach it.
			name: "what the guest reaches by itself is told to it", in: shapes.Bridge(), nameservers: []string{"10.96.0.10"},
			dns: []string{"10.96.0.10"}, server: []string{"169.254.75.1"},
			routes: []string{"169.254.75.1/32", "0.0.0.0/0 10.244.1.1"}, warn: "nothing is relayed",
		},
		{
			name: "what another interface reaches is relayed", in: two(), dnsFlag: "192.168.5.53",
			dns: []string{"169.254.75.1"}, upstream: []string{"192.168.5.53"},
			routes: []string{"169.254.75.1/32", "0.0.0.0/0 10.244.1.1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			c.DNSForward = true
			host := Host{Hostname: "vm-0"}
			for _, ns := range tt.nameservers {
				host.ResolvConf.Nameservers = append(host.ResolvConf.Nameservers, netip.MustParseAddr(ns))
			}
			if tt.dnsFlag != "" {
				c.DNS = []netip.Addr{netip.MustParseAddr(tt.dnsFlag)}
			}
			if tt.server == nil {
				tt.server = tt.dns
			}
			found := discoverEth0(t, tt.in, host, c)
			l := found.Lease
			texts := func(addrs []netip.Addr) (out []string) {
				for _, a := range addrs {
					out = append(out, a.String())
				}
				return out
			}
			for _, d := range []struct {
				what      string
				want, got []string
			}{
				{"nameservers", tt.dns, texts(l.DNS)},
				{"server", tt.server, texts(l.Server.DNS)},
				{"upstream", tt.upstream, texts(l.Upstream)},
				{"routes", tt.routes, routesText(found)},
			} {
				if diff := cmp.Diff(d.want, d.got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", d.what, diff)
				}
			}
			if all := strings.Join(found.Warnings, "\n"); (tt.warn == "") != (all == "") || !strings.Contains(all, tt.warn) {
				t.Errorf("warnings %q, want %q", found.Warnings, tt.warn)
			}
		})
	}
}

// TestOneInterfaceIsThePrimaryOne has a pod without a default route: two that both
// took the pod's nameservers would both relay at the same address.
func TestOneInterfaceIsThePrimaryOne(t *testing.T) {
	s := two()
	s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), netstate.Route.Default)
	s.Addrs = slices.DeleteFunc(slices.Clone(s.Addrs), func(a netstate.Addr) bool { return a.Link == shapes.Index }) // wired
	host := Host{Hostname: "vm-0"}
	host.ResolvConf.Nameservers = []netip.Addr{netip.MustParseAddr("127.0.0.11")}
	for _, tt := range []struct {
		name  string
		link  string
		alone bool
		want  bool
	}{
		{"the first", "eth0", false, true},
		{"not the second", "net1", false, false},
		{"but where nobody spoke of others", "net1", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			c.DNSForward, c.All = true, !tt.alone
			link, _ := s.LinkByName(tt.link)
			found, err := Discover(s, link, host, c)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(found.Lease.Upstream) > 0; got != tt.want {
				t.Errorf("upstream %v", found.Lease.Upstream)
			}
		})
	}
}

func TestRelayIsForThePrimaryInterfaceAlone(t *testing.T) {
	s := two()
	link, _ := s.LinkByName("net1")
	c := config.Default()
	c.DNSForward, c.Interfaces = true, []string{"net1"}
	found, err := Discover(s, link, Host{Hostname: "vm-0"}, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Lease.Server.DNS) > 0 || !strings.Contains(strings.Join(found.Warnings, "\n"), "not the pod's primary interface") {
		t.Errorf("relay %v, warnings %q", found.Lease.Server.DNS, found.Warnings)
	}
}
