package discover

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

func TestPortsOfAMacvtap(t *testing.T) {
	s := shapes.Bridge()
	s.Links = slices.Clone(s.Links)
	c := as(config.Masquerade)
	c.ExcludeFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	wantWarnings(t, discoverEth0(t, s, cluster(), c).Warnings, nil)
	s.Links[1].Kind, s.Links[1].TxQLen = "macvtap", 500
	wantWarnings(t, discoverEth0(t, s, cluster(), c).Warnings, []string{"--exclude-from keep nothing from its guest"})
}

// TestAMacvtapThatCarriesNothingIsNamed: nothing is done to it, so that somebody else
// must see to it.
func TestAMacvtapThatCarriesNothingIsNamed(t *testing.T) {
	s := shapes.Bridge()
	s.Links = slices.Clone(s.Links)
	s.Links[1].Kind, s.Links[1].TxQLen, s.Links[1].Up = "macvtap", 0, false
	wantWarnings(t, discoverEth0(t, s, cluster(), as(config.Bridge)).Warnings, []string{"it is down", "queue of length 0"})
}

// TestNameserversBehindThePod: those that a guest behind the pod does not reach are
// left out, or relayed to.
func TestNameserversBehindThePod(t *testing.T) {
	all := []string{"127.0.0.11", "fe80::53", "fd00::53", "169.254.20.10"}
	tests := []struct {
		name    string
		in      netstate.Snapshot
		forward bool
		dns     string
		up      string
		warn    []string
	}{
		{name: "IPv4", in: shapes.Bridge(), dns: "169.254.20.10", warn: []string{"127.0.0.11 is inside", "fe80::53 is on the pod's link", "fd00::53 is of a family"}},
		{name: "both families", in: shapes.Dual(), dns: "fd00::53 169.254.20.10", warn: []string{"127.0.0.11 is inside", "fe80::53 is on"}},
		{name: "IPv4, relayed", in: shapes.Bridge(), forward: true, dns: "169.254.75.1 169.254.20.10", up: "127.0.0.11 fe80::53 fd00::53"},
		{name: "both, relayed", in: shapes.Dual(), forward: true, dns: "169.254.75.1 fd25:925d:bc6b::35 fd00::53 169.254.20.10", up: "127.0.0.11 fe80::53"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := as(config.Masquerade)
			c.DNSForward = tt.forward
			host := Host{Hostname: "vm-0"}
			for _, ns := range all {
				host.ResolvConf.Nameservers = append(host.ResolvConf.Nameservers, netip.MustParseAddr(ns))
			}
			found := discoverEth0(t, tt.in, host, c)
			want(t, addrsText(found.Lease.DNS), tt.dns)
			want(t, addrsText(found.Lease.Upstream), tt.up)
			wantWarnings(t, found.Warnings, tt.warn)
			for i, addr := range found.Lease.Server.DNS {
				if r := found.Lease.Routes[i]; r.Dst != netip.PrefixFrom(addr, addr.BitLen()) || !r.OnLink() {
					t.Errorf("route %d is %v, want one to the relay %s", i, r, addr)
				}
			}
		})
	}
}

func addrsText(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

func TestMACs(t *testing.T) {
	asked := netstate.MAC{2, 0, 0, 0, 0, 9}
	fe := netstate.MAC{0xfe, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	tests := []struct {
		name    string
		kind    string
		mac     netstate.MAC // the link's
		binding config.Binding
		asked   netstate.MAC
		want    string
		says    string
	}{
		{name: "masquerade keeps the link's", kind: "veth", mac: shapes.MAC, binding: config.Masquerade, want: "0a:58:0a:f4:01:07"},
		{name: "or has what is asked for", kind: "macvlan", mac: shapes.MAC, binding: config.Masquerade, asked: asked, want: "02:00:00:00:00:09"},
		{name: "but for what libvirt refuses", kind: "veth", mac: fe, binding: config.Masquerade, want: "02:58:0a:f4:01:07"},
		{name: "one for a link that has none", kind: "tun", binding: config.Masquerade, want: "02:70:77:00:00:02"},
		{name: "and for one that has the gateway's", kind: "veth", mac: lease.GatewayMAC, binding: config.Masquerade, want: "02:70:77:00:00:02"},
		{name: "a macvlan by tc", kind: "macvlan", mac: shapes.MAC, binding: config.TC, want: "0a:58:0a:f4:01:07"},
		{name: "a macvlan passes its own alone", kind: "macvlan", mac: shapes.MAC, binding: config.TC, asked: asked, says: `--mac 02:00:00:00:00:09: "eth0" is a macvlan`},
		{name: "a macvlan whose own libvirt refuses", kind: "macvlan", mac: fe, binding: config.TC, says: "begins with fe"},
		{name: "a veth by tc", kind: "veth", mac: shapes.MAC, binding: config.TC, asked: asked, want: "02:00:00:00:00:09"},
		{name: "a macvtap", kind: "macvtap", mac: shapes.MAC, binding: config.Bridge, want: "0a:58:0a:f4:01:07"},
		{name: "its own, asked for", kind: "macvtap", mac: shapes.MAC, binding: config.Bridge, asked: shapes.MAC, want: "0a:58:0a:f4:01:07"},
		{name: "and no other", kind: "macvtap", mac: shapes.MAC, binding: config.Masquerade, asked: asked, says: `"eth0" is a macvtap`},
		{name: "a macvtap whose own libvirt refuses", kind: "macvtap", mac: fe, binding: config.Bridge, says: "begins with fe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := shapes.Bridge()
			s.Links = slices.Clone(s.Links)
			s.Links[1].Kind, s.Links[1].MAC, s.Links[1].TxQLen = tt.kind, tt.mac, 500
			c := as(tt.binding)
			c.MAC = tt.asked
			found, err := Discover(s, s.Links[1], cluster(), c)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s, err = %v, want one that says %q", found.Lease.MAC, err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want(t, found.Lease.MAC.String(), tt.want)
			wantWarnings(t, found.Warnings, nil)
		})
	}
}
