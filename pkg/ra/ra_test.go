package ra

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAdvertisementOctetByOctet has one of each: header, prefix, MTU, nameserver,
// search list, route.
func TestAdvertisementOctetByOctet(t *testing.T) {
	want := []Advertisement{{Src: addr("fe80::1"), Payload: unhex(t, `
		86 00 0000 40 c0 ffff 00000000 00000000
		03 04 40 80 ffffffff ffffffff 00000000 fd000000000000000000000000000000
		05 01 0000 000005aa
		19 03 0000 ffffffff fd00000000000000000000000000000a
		1f 02 0000 ffffffff 03 737663 00 000000
		18 02 30 00 ffffffff fd00000900000000`)}}
	if diff := cmp.Diff(want, Advertise(podLease()), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRouteInformationIsAsLongAsItsPrefix(t *testing.T) {
	tests := []struct{ dst, want string }{
		{"8000::/1", "18 02 01 00 ffffffff 8000000000000000"},
		{"fd00:9::/60", "18 02 3c 00 ffffffff fd00000900000000"},
		{"fd00:9:0:7::/64", "18 02 40 00 ffffffff fd00000900000007"},
		{"fd00:9::8000:0:0:0/65", "18 03 41 00 ffffffff fd00000900000000 8000000000000000"},
		{"fd00:9::1/128", "18 03 80 00 ffffffff fd00000900000000 0000000000000001"},
	}
	for _, tt := range tests {
		t.Run(tt.dst, func(t *testing.T) {
			m := message{routes: []route{{dst: netip.MustParsePrefix(tt.dst)}}}
			if diff := cmp.Diff(unhex(t, tt.want), slices.Concat(m.routeOptions(infinite)...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdvertise(t *testing.T) {
	const link = "prefix fd00::/64, mtu 1450, dns fd00::a, search svc"
	tests := []struct {
		name   string
		change func(l *lease.Lease)
		want   string
	}{
		{
			"a usual pod", func(*lease.Lease) {},
			"fe80::1: router medium 65535, " + link + ", route fd00:9::/48 medium",
		},
		{"a guest without IPv6 hears nothing", func(l *lease.Lease) { l.Routers = nil }, ""},
		{
			"no gateway: the server says what the link is, and is no router",
			func(l *lease.Lease) {
				l.Routes = nil
				l.Routers = []lease.Router{{Addr: l.Server.LinkLocal}}
			},
			"fe80::11:22ff:fe33:4455: router medium 0, " + link,
		},
		{
			"a gateway of routes, but not of the default route",
			func(l *lease.Lease) { l.Routes = l.Routes[:2] },
			"fe80::1: router medium 0, " + link + ", route fd00:9::/48 medium",
		},
		{
			"a stand-in has the routes of the gateways that it stands for",
			func(l *lease.Lease) {
				l.Routes = routes("fd00:9::/48 fd00::1", "fd00:8::/48 fd00::2", "::/0 fd00::1")
				l.Routers = []lease.Router{router("fe80::5", "fd00::1", "fd00::2")}
			},
			"fe80::5: router medium 65535, " + link + ", route fd00:9::/48 medium, route fd00:8::/48 medium",
		},
		{
			"the link is said by the first router alone, and the second best is low",
			func(l *lease.Lease) {
				l.Routes = routes("fd00:9::/48 fe80::2 10", "fd00:9::/48 fe80::1 20", "::/0 fe80::1 100", "::/0 fe80::2 200")
				l.Routers = append(l.Routers, router("fe80::2", "fe80::2"))
			},
			"fe80::1: router medium 65535, " + link + ", route fd00:9::/48 low, fe80::2: router low 65535, route fd00:9::/48 medium",
		},
		{
			"equals are equal",
			func(l *lease.Lease) {
				l.Routes = routes("::/0 fe80::1 100", "::/0 fe80::2 100")
				l.Routers = append(l.Routers, router("fe80::2", "fe80::2"))
			},
			"fe80::1: router medium 65535, " + link + ", fe80::2: router medium 65535",
		},
		{
			"one router with several gateways is as good as the best, in any order",
			func(l *lease.Lease) {
				l.Routes = routes("fd00:9::/48 fd00::2 20", "fd00:9::/48 fd00::1 10", "::/0 fd00::2 20", "::/0 fd00::1 10")
				l.Routers = []lease.Router{router("fe80::5", "fd00::1", "fd00::2")}
			},
			"fe80::5: router medium 65535, " + link + ", route fd00:9::/48 medium",
		},
		{
			"a router that is none is medium",
			func(l *lease.Lease) {
				l.Routes = routes("fd00:9::/48 fe80::1 20", "fd00:9::/48 fe80::2 10", "::/0 fe80::2")
				l.Routers = append(l.Routers, router("fe80::2", "fe80::2"))
			},
			"fe80::1: router medium 0, " + link + ", route fd00:9::/48 low, fe80::2: router medium 65535, route fd00:9::/48 medium",
		},
		{
			"on-link routes are prefixes, each once; addresses alone are none",
			func(l *lease.Lease) {
				l.Addrs = prefixes("fd00::7/64", "fd00::8/64", "fd01::7/128")
				l.Routes = routes("fd02::/64", "fd00::/64", "fd03::1/128", "::/0 fe80::1")
			},
			"fe80::1: router medium 65535, prefix fd00::/64, prefix fd02::/64, prefix fd03::1/128, mtu 1450, dns fd00::a, search svc",
		},
		{
			"neighbours behind the gateway, as ptp and kindnet have it",
			func(l *lease.Lease) {
				l.Routes = routes("fd00::1/128", "fd00::/64 fd00::1", "::/0 fd00::1")
				l.Routers = []lease.Router{router("fe80::5", "fd00::1")}
			},
			"fe80::5: router medium 65535, prefix fd00::1/128, mtu 1450, dns fd00::a, search svc, route fd00::/64 medium",
		},
		{
			"a default route on the link comes as all that is assigned",
			func(l *lease.Lease) {
				l.Addrs, l.Routes = prefixes("fd00::7/128"), routes("::/0")
				l.Routers = []lease.Router{{Addr: l.Server.LinkLocal}}
			},
			"fe80::11:22ff:fe33:4455: router medium 0, prefix 2000::/3, prefix fc00::/7, prefix 64::/16, mtu 1450, dns fd00::a, search svc",
		},
		{
			"what is on the link in reserve of a gateway is left out",
			func(l *lease.Lease) {
				l.Routes = routes("fd00:9::/48 fe80::1 10", "fd00:9::/48", "fd00:8::/48 fe80::1 10", "::/0 fe80::1 10", "::/0")
				l.Routes[1].Metric, l.Routes[4].Metric = 20, 20
			},
			"fe80::1: router medium 65535, " + link + ", route fd00:9::/48 medium, route fd00:8::/48 medium",
		},
		{
			"a route by a gateway that nobody stands for",
			func(l *lease.Lease) {
				l.Routes = append(routes("fd00:7::/48 fd00::9", "fd00::/64 fd00::9"), l.Routes...)
			},
			"fe80::1: router medium 65535, " + link + ", route fd00:9::/48 medium",
		},
		{
			"destinations that no router is to speak of",
			func(l *lease.Lease) {
				l.Addrs = append(l.Addrs, netip.MustParsePrefix("fe80::7/64"))
				l.Routes = append(routes("fe80::/64", "ff00::/8", "ff00::/8 fe80::1", "fe80:1::/32 fe80::1", "::ffff:0:0/96 fe80::1"), l.Routes...)
			},
			"fe80::1: router medium 65535, " + link + ", route fd00:9::/48 medium",
		},
		{
			"a gateway of :: is none, and destinations are masked",
			func(l *lease.Lease) { l.Routes = routes("fd00:8::7/48 ::", "fd00:9::7/48 fe80::1", "::/0 fe80::1") },
			"fe80::1: router medium 65535, prefix fd00::/64, prefix fd00:8::/48, mtu 1450, dns fd00::a, search svc, route fd00:9::/48 medium",
		},
		{
			"an MTU below IPv6's least, IPv4 nameservers and what is no name are not said",
			func(l *lease.Lease) {
				l.MTU, l.DNS, l.Search = 1279, addrs("10.96.0.10"), []string{"", "a..b", "-x.y"}
			},
			"fe80::1: router medium 65535, prefix fd00::/64, route fd00:9::/48 medium",
		},
		{
			"a router that is not link-local would not be heeded",
			func(l *lease.Lease) {
				l.Routers = slices.Insert(l.Routers, 0, router("fd00::1", "fd00::1"), router("169.254.1.1"), lease.Router{})
			},
			"fe80::1: router medium 65535, " + link + ", route fd00:9::/48 medium",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := podLease()
			tt.change(&l)
			if diff := cmp.Diff(tt.want, strings.Join(text(t, infinite, Advertise(l)), ", ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// solicit is a router solicitation of the guest, changed.
func solicit(change func(*frame.ICMP6)) frame.ICMP6 {
	m := frame.ICMP6{
		SrcMAC: guest, DstMAC: frame.MulticastMAC(netip.IPv6LinkLocalAllRouters()),
		Src: addr("fe80::7"), Dst: netip.IPv6LinkLocalAllRouters(),
		Payload: []byte{133, 0, 0, 0, 0, 0, 0, 0},
	}
	change(&m)
	return m
}

func TestSolicited(t *testing.T) {
	sourceLinkAddr := append([]byte{1, 1}, guest[:]...)
	tests := []struct {
		name   string
		change func(*frame.ICMP6)
		want   string // no answer where empty
	}{
		{"from its link-local address", func(*frame.ICMP6) {}, "fe80::7"},
		{"with its link-layer address", func(m *frame.ICMP6) { m.Payload = append(m.Payload, sourceLinkAddr...) }, "fe80::7"},
		{"before it has an address", func(m *frame.ICMP6) { m.Src = addr("::") }, "::"},
		{"before it has an address, but with a link-layer address", func(m *frame.ICMP6) {
			m.Src, m.Payload = addr("::"), append(m.Payload, sourceLinkAddr...)
		}, ""},
		{"from another MAC", func(m *frame.ICMP6) { m.SrcMAC = netstate.MAC{0x0a, 1, 2, 3, 4, 5} }, ""},
		{"forwarded", func(m *frame.ICMP6) { m.HopLimit = 64 }, ""},
		{"with a code", func(m *frame.ICMP6) { m.Payload[1] = 1 }, ""},
		{"too short", func(m *frame.ICMP6) { m.Payload = m.Payload[:7] }, ""},
		{"an option of length 0", func(m *frame.ICMP6) { m.Payload = append(m.Payload, make([]byte, 8)...) }, ""},
		{"an advertisement", func(m *frame.ICMP6) { m.Payload[0] = 134 }, ""},
		{"a neighbor solicitation", func(m *frame.ICMP6) { m.Payload = append([]byte{135}, make([]byte, 23)...) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, ok := Solicited(podLease(), frame.AppendICMP6(nil, solicit(tt.change)))
			if ok != (tt.want != "") || ok && src != addr(tt.want) {
				t.Errorf("got %v, %v", src, ok)
			}
		})
	}
	if _, ok := Solicited(podLease(), frame.AppendARP(nil, frame.ARP{SenderIP: addr("10.0.0.7"), TargetIP: addr("10.0.0.1")})); ok {
		t.Error("an ARP packet is taken for a solicitation")
	}
}

func TestCameUp(t *testing.T) {
	l := podLease()
	probe := func(change func(*frame.ICMP6)) []byte {
		own := l.MAC.LinkLocal().As16()
		m := frame.ICMP6{
			SrcMAC: l.MAC, Src: netip.IPv6Unspecified(), Dst: addr("ff02::1:ff00:1"),
			Payload: append([]byte{frame.NeighborSolicitation, 0, 0, 0, 0, 0, 0, 0}, own[:]...),
		}
		change(&m)
		return frame.AppendICMP6(nil, m)
	}
	tests := []struct {
		name   string
		change func(*frame.ICMP6)
		want   bool
	}{
		{"the probe for its own address", func(*frame.ICMP6) {}, true},
		{"for another", func(m *frame.ICMP6) { m.Payload[23] ^= 1 }, false},
		{"from another MAC", func(m *frame.ICMP6) { m.SrcMAC[5] ^= 1 }, false},
		{"a question from an address", func(m *frame.ICMP6) { m.Src = addr("fe80::1") }, false},
		{"a router solicitation", func(m *frame.ICMP6) { m.Payload[0] = frame.RouterSolicitation }, false},
		{"cut short", func(m *frame.ICMP6) { m.Payload = m.Payload[:16] }, false},
	}
	for _, tt := range tests {
		if got := CameUp(l, probe(tt.change)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if CameUp(l, nil) {
		t.Error("nothing at all")
	}
}

func FuzzSolicited(f *testing.F) {
	for _, change := range []func(*frame.ICMP6){
		func(*frame.ICMP6) {},
		func(m *frame.ICMP6) { m.Src = addr("::") },
		func(m *frame.ICMP6) { m.Payload = append(m.Payload, 1, 1, 2, 3, 4, 5, 6, 7, 14, 2) },
	} {
		m := solicit(change)
		src := m.Src.As16()
		f.Add(src[:], uint8(255), m.Payload)
		f.Add(src[:], uint8(255), frame.AppendICMP6(nil, m))
	}
	l := podLease()
	f.Fuzz(func(t *testing.T, src []byte, hops uint8, message []byte) {
		_, _ = Solicited(l, message) // as a whole frame
		from, _ := netip.AddrFromSlice(src)
		m := solicit(func(m *frame.ICMP6) { m.Src, m.HopLimit, m.Payload = from, hops, message })
		got, ok := Solicited(l, frame.AppendICMP6(nil, m))
		if ok && (got != from || got.IsMulticast() || hops != 255 && hops != 0 || message[0] != 133 || len(message)%8 != 0) {
			t.Errorf("from %v, hop limit %d: % x gives %v", from, hops, message, got)
		}
		m.SrcMAC = server
		if _, ok := Solicited(l, frame.AppendICMP6(nil, m)); ok {
			t.Error("another MAC is heeded")
		}
	})
}
