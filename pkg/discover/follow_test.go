package discover

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

// taken is what is left of a snapshot where podwire has the addresses of eth0.
func taken(s netstate.Snapshot) netstate.Snapshot {
	s.Addrs = slices.DeleteFunc(slices.Clone(s.Addrs), func(a netstate.Addr) bool { return a.Link == shapes.Index })
	s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r netstate.Route) bool { return r.Uses(shapes.Index) })
	return s
}

// dual is a pod of both families, to which can be added without changing it.
func dual() netstate.Snapshot {
	s := shapes.Dual()
	s.Addrs, s.Routes, s.Neighbors = slices.Clip(s.Addrs), slices.Clip(s.Routes), slices.Clip(s.Neighbors)
	return s
}

// withoutRoute is a snapshot without its routes to a destination.
func withoutRoute(s netstate.Snapshot, dst string) netstate.Snapshot {
	s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r netstate.Route) bool { return r.Dst == netip.MustParsePrefix(dst) })
	return s
}

func withoutAddr(s netstate.Snapshot, addr string) netstate.Snapshot {
	p := netip.MustParsePrefix(addr)
	s.Addrs = slices.DeleteFunc(slices.Clone(s.Addrs), func(a netstate.Addr) bool { return a.Prefix == p })
	return shapes.Without(s, p.Masked().String())
}

// changed is a snapshot with another link or address of its own.
func changed(s netstate.Snapshot, change func(*netstate.Snapshot)) netstate.Snapshot {
	s.Links, s.Addrs, s.Neighbors = slices.Clone(s.Links), slices.Clone(s.Addrs), slices.Clone(s.Neighbors)
	change(&s)
	return s
}

func linkOf(s *netstate.Snapshot) *netstate.Link {
	return &s.Links[slices.IndexFunc(s.Links, func(l netstate.Link) bool { return l.Index == shapes.Index })]
}

func lastAddr(s *netstate.Snapshot) *netstate.Addr { return &s.Addrs[len(s.Addrs)-1] }

// TestFollow has a pod's network change in many ways, and says what the guest is to be
// told of it; where that is nothing new, the lease is that of before.
func TestFollow(t *testing.T) {
	was := dual()
	const old, moved = "10.244.1.7/24", "10.244.1.77/24"
	keeps := Following{Link: "eth0"}
	takes := Following{Link: "eth0", Taken: true}
	wired := func(f Following) Following { f.Wired = true; return f }
	held := Following{Link: "eth0", Held: []netip.Addr{netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:10:244:1::7")}}
	gatewayMoved := shapes.With(withoutRoute(was, "0.0.0.0/0"), shapes.Route("0.0.0.0/0", "10.244.1.254"))
	heard, worse := shapes.Route("2001:db8::/32", "fe80::9"), shapes.Route("0.0.0.0/0", "10.244.1.254")
	heard.Protocol, worse.Priority = protocolRA, 9
	byRouter := shapes.Route("0.0.0.0/0", "10.244.1.254")
	byRouter.Protocol = protocolRA
	tests := []struct {
		name string
		now  netstate.Snapshot
		f    Following
		want string // in the lease's addresses, routes and MTU; empty for what it was
		not  string
	}{
		{"nothing", was, keeps, "", ""},
		{"nothing, taken", taken(was), takes, "", ""},
		{"nothing, for a setup", taken(was), wired(takes), "", ""},
		{"another address", shapes.WithAddr(withoutAddr(was, old), moved), keeps, moved, old},
		{"another address, taken", shapes.WithAddr(taken(was), moved), takes, "", ""},
		{"another address, taken, for a setup", shapes.WithAddr(taken(was), moved), wired(takes), old + " " + moved, ""},
		{"another address and a gateway, taken", shapes.With(shapes.WithAddr(taken(was), moved), shapes.Route("0.0.0.0/0", "10.244.1.1")), takes, moved, old},
		{"another address, and a gateway that it does not reach, taken", shapes.With(shapes.WithAddr(taken(was), "192.0.2.7/24"), shapes.Route("0.0.0.0/0", "10.244.1.1")), takes, "", ""},
		{"another address, and a gateway that nobody has set, taken", shapes.With(shapes.WithAddr(taken(was), moved), byRouter), takes, "", ""},
		{"another address, and the other family's gateway, taken", shapes.With(shapes.WithAddr(taken(was), moved), shapes.Route("::/0", "fd00:10:244:1::1")), takes, "", ""},
		{"an address put back and another", shapes.WithAddr(shapes.WithAddr(taken(was), old), moved), takes, "", ""},
		{"an address put back and another, for a setup", shapes.WithAddr(shapes.WithAddr(taken(was), old), moved), wired(takes), old + " " + moved, ""},
		{"a route by an address more, taken", shapes.With(shapes.WithAddr(taken(was), "192.0.2.7/24"), shapes.Route("10.9.0.0/16", "192.0.2.1")), takes, "", ""},
		{"a route by an address more, taken, for a setup", shapes.With(shapes.WithAddr(taken(was), "192.0.2.7/24"), shapes.Route("10.9.0.0/16", "192.0.2.1")), wired(takes), "10.9.0.0/16 192.0.2.1", ""},
		{"an address more, of a guest that is held", shapes.WithAddr(was, moved), held, "", ""},
		{"another address, of a guest that is held", shapes.WithAddr(withoutAddr(was, old), moved), held, "", ""},
		{"another network, of a guest that is held", shapes.With(shapes.WithAddr(withoutRoute(withoutAddr(was, old), "0.0.0.0/0"), "192.0.2.7/24"), shapes.Route("0.0.0.0/0", "192.0.2.1")), held, "", ""},
		{"another gateway, of a guest that is held", gatewayMoved, held, "0.0.0.0/0 10.244.1.254", "0.0.0.0/0 10.244.1.1"},
		{"an address more, of a guest that is held, for a setup", shapes.WithAddr(was, moved), wired(held), old + " " + moved, ""},
		{"another address, whose gateway is yet to come", shapes.WithAddr(withoutRoute(withoutAddr(was, old), "0.0.0.0/0"), moved), keeps, "", ""},
		{"another address, whose gateway is yet to come, for a setup", shapes.WithAddr(withoutRoute(withoutAddr(was, old), "0.0.0.0/0"), moved), wired(keeps), "", ""},
		{"another address, of a link that is down", changed(shapes.WithAddr(withoutAddr(was, old), moved), func(s *netstate.Snapshot) { linkOf(s).Up = false }), wired(keeps), "", ""},
		{"an address put back", shapes.WithAddr(taken(was), old), takes, "", ""},
		{"an address more", shapes.WithAddr(was, moved), keeps, old + " " + moved, ""},
		{"an address gone, with all of its family", withoutAddr(was, old), keeps, "", ""},
		{"an address gone, with all of its family, for a setup", withoutAddr(was, old), wired(keeps), "", ""},
		{"one of another prefix length", shapes.WithAddr(withoutAddr(was, old), "10.244.1.7/16"), keeps, "10.244.1.7/16", ""},
		{"an address with a lifetime", changed(shapes.WithAddr(was, moved), func(s *netstate.Snapshot) { lastAddr(s).ValidLft = 600 }), keeps, "", ""},
		{
			"a temporary one", changed(shapes.WithAddr(was, "fd00:10:244:1::99/64"), func(s *netstate.Snapshot) { lastAddr(s).Flags = netstate.AddrTemporary }),
			keeps, "", "",
		},
		{
			"one that may be another host's", changed(shapes.WithAddr(was, "fd00:10:244:1::99/64"), func(s *netstate.Snapshot) { lastAddr(s).Flags = netstate.AddrTentative }),
			keeps, "", "",
		},
		{
			"one that may be another host's, for a setup", changed(shapes.WithAddr(was, "fd00:10:244:1::99/64"), func(s *netstate.Snapshot) { lastAddr(s).Flags = netstate.AddrTentative }),
			wired(keeps), "fd00:10:244:1::99/64", "",
		},
		{
			"another host's", changed(shapes.WithAddr(was, "fd00:10:244:1::99/64"), func(s *netstate.Snapshot) { lastAddr(s).Flags = netstate.AddrDADFailed }),
			wired(keeps), "", "",
		},
		{"a link-local one", shapes.WithAddr(was, "fe80::99/64"), keeps, "", ""},
		{"another network altogether", shapes.With(shapes.WithAddr(taken(was), "192.0.2.7/24"), shapes.Route("0.0.0.0/0", "192.0.2.1")), takes, "0.0.0.0/0 192.0.2.1", "10.244.1."},
		{"another network, whose routes are not there yet", shapes.WithAddr(taken(was), "192.0.2.7/24"), takes, "", ""},
		{"another network, whose routes are not there yet, for a setup", shapes.WithAddr(taken(was), "192.0.2.7/24"), wired(takes), old + " 192.0.2.7/24", ""},
		{"another gateway", gatewayMoved, keeps, "0.0.0.0/0 10.244.1.254", "0.0.0.0/0 10.244.1.1"},
		{"another gateway, taken", shapes.With(taken(was), shapes.Route("0.0.0.0/0", "10.244.1.254")), takes, "0.0.0.0/0 10.244.1.254", "0.0.0.0/0 10.244.1.1"},
		{"no gateway", withoutRoute(was, "0.0.0.0/0"), keeps, "", ""},
		{"no gateway, for a setup", withoutRoute(was, "0.0.0.0/0"), wired(keeps), "", ""},
		{"no gateway of one family, and another of the other, for a setup", shapes.With(withoutRoute(withoutRoute(was, "0.0.0.0/0"), "::/0"), shapes.Route("::/0", "fe80::9")), wired(keeps), "::/0 fe80::9", "::/0 fd00"},

		{"a gateway more, worse", shapes.With(was, worse), keeps, "0.0.0.0/0 10.244.1.254", ""},
		{"a route more", shapes.With(was, shapes.Route("10.9.0.0/16", "10.244.1.9")), keeps, "10.9.0.0/16 10.244.1.9", ""},
		{"a router's route", shapes.With(was, heard), keeps, "", ""},
		{"less MTU", changed(was, func(s *netstate.Snapshot) { linkOf(s).MTU = 1400 }), keeps, "mtu 1400", ""},
		{"more MTU", changed(was, func(s *netstate.Snapshot) { linkOf(s).MTU = 9000 }), keeps, "", ""},
		{"more MTU, for a setup", changed(was, func(s *netstate.Snapshot) { linkOf(s).MTU = 9000 }), wired(keeps), "mtu 9000", ""},
		{"another MAC", changed(was, func(s *netstate.Snapshot) { linkOf(s).MAC[5]++ }), wired(keeps), "", ""},
		{"the link down, without IPv6", changed(withoutAddr(withoutAddr(was, "fd00:10:244:1::7/64"), "fe80::858:aff:fef4:107/64"), func(s *netstate.Snapshot) { linkOf(s).Up = false }), wired(keeps), "", ""},
		{"another link of the name", changed(shapes.WithAddr(was, moved), func(s *netstate.Snapshot) { linkOf(s).Index = 9 }), wired(keeps), "", ""},
		{"no link", changed(was, func(s *netstate.Snapshot) { s.Links = s.Links[:1] }), wired(keeps), "", ""},
		{"a neighbour by hand", changed(was, func(s *netstate.Snapshot) {
			s.Neighbors = append(s.Neighbors, netstate.Neighbor{
				Link: shapes.Index, Addr: netip.MustParseAddr("10.244.1.1"), MAC: netstate.MAC{2, 0, 0, 0, 0, 9}, State: netstate.NeighborPermanent,
			})
		}), keeps, "02:00:00:00:00:09", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			followed, news := Follow(was, tt.now, tt.f)
			before, after := leaseText(t, was), leaseText(t, followed)
			if news != (tt.want != "") {
				t.Errorf("it is a change: %v; the lease becomes\n%s", news, after)
			}
			if tt.want == "" && before != after {
				t.Errorf("the lease (-before +after):\n%s", cmp.Diff(before, after))
			}
			if !strings.Contains(after, tt.want) || tt.not != "" && strings.Contains(after, tt.not) {
				t.Errorf("want %q and not %q in the lease:\n%s", tt.want, tt.not, after)
			}
			if again, more := Follow(followed, tt.now, tt.f); more {
				t.Errorf("the second time it is a change again:\n%s", leaseText(t, again))
			}
			if moved := Moved(was, tt.now, tt.f); news && len(moved) == 0 {
				t.Error("it is a change, and nobody says so")
			}
		})
	}
}

// leaseText is what a lease says, in a form that can be searched.
func leaseText(t *testing.T, s netstate.Snapshot) string {
	t.Helper()
	l := discoverEth0(t, s, cluster(), config.Default()).Lease
	var b strings.Builder
	for _, p := range l.Addrs {
		b.WriteString(p.String() + " ")
	}
	for _, r := range l.Routes {
		b.WriteString("\n" + r.Dst.String() + " " + r.Via.String())
	}
	b.WriteString("\nmtu ")
	text, err := json.Marshal(l.MTU)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(text)
	for _, n := range l.Neighbors {
		b.WriteString("\n" + n.Addr.String() + " " + n.MAC.String())
	}
	return b.String()
}

// TestAFamilyIsNotLost, whatever of the pod's network is gone, one thing or several at once.
func TestAFamilyIsNotLost(t *testing.T) {
	was := dual()
	own := was.AddrsOf(shapes.Index)
	for gone := range 1 << len(own) {
		now := was
		for i, a := range own {
			if gone&(1<<i) != 0 {
				now = withoutAddr(now, a.Prefix.String())
			}
		}
		for _, f := range []Following{{Link: "eth0"}, {Link: "eth0", Wired: true}, {Link: "eth0", Taken: true}, {Link: "eth0", Taken: true, Wired: true}} {
			followed, _ := Follow(was, now, f)
			l := discoverEth0(t, followed, cluster(), config.Default()).Lease
			if len(l.AddrsOf(true)) != 1 || len(l.AddrsOf(false)) != 1 || len(l.Gateways()) != 2 {
				t.Errorf("%+v without %b: the guest has %v by %v", f, gone, l.Addrs, l.Gateways())
			}
		}
	}
}

// TestHostAddressesAreFollowed where the gateway is by a route of its own.
func TestHostAddressesAreFollowed(t *testing.T) {
	const old, moved = "192.168.77.9/32", "192.168.77.99/32"
	for name, was := range map[string]netstate.Snapshot{"calico": shapes.Calico(), "aws": shapes.AWS()} {
		was.Addrs, was.Routes = slices.Clip(was.Addrs), slices.Clip(was.Routes)
		gateway := []netstate.Route{shapes.Route("169.254.1.1/32", ""), shapes.Route("0.0.0.0/0", "169.254.1.1")}
		for _, f := range []Following{{Link: "eth0", Taken: true}, {Link: "eth0", Taken: true, Wired: true}, {Link: "eth0"}, {Link: "eth0", Wired: true}} {
			stray := shapes.WithAddr(taken(was), moved)
			want := old
			switch {
			case f.Taken && f.Wired:
				want = old + " " + moved
			case !f.Taken:
				stray = shapes.WithAddr(withoutAddr(was, old), moved)
				stray.Routes = nil // as Linux drops those of a link without addresses
			}
			if followed, _ := Follow(was, stray, f); ownText(followed) != want {
				t.Errorf("%s: %+v: without a gateway the addresses are %s, want %s", name, f, ownText(followed), want)
			}
			followed, _ := Follow(was, shapes.With(stray, gateway...), f)
			l := discoverEth0(t, followed, cluster(), config.Default()).Lease
			if ownText(followed) != moved || len(l.Gateways()) != 1 {
				t.Errorf("%s: %+v: with a gateway the addresses are %s by %v, want %s", name, f, ownText(followed), l.Gateways(), moved)
			}
		}
	}
}

func ownText(s netstate.Snapshot) string {
	var all []string
	for _, a := range s.AddrsOf(shapes.Index) {
		all = append(all, a.Prefix.String())
	}
	return strings.Join(all, " ")
}

// TestMoved says what is not as it was, in words, each once.
func TestMoved(t *testing.T) {
	was := dual()
	now := changed(shapes.With(shapes.WithAddr(withoutAddr(was, "10.244.1.7/24"), "10.244.1.77/24"), shapes.Route("10.9.0.0/16", "10.244.1.1")), func(s *netstate.Snapshot) {
		*linkOf(s) = netstate.Link{Index: shapes.Index, Name: "eth0", Kind: "veth", MAC: netstate.MAC{2, 0, 0, 0, 0, 1}, MTU: 1400}
	})
	now = withoutRoute(now, "0.0.0.0/0")
	want := []string{
		`"eth0" has an MTU of 1400, not 1450`,
		`"eth0" has the MAC 02:00:00:00:00:01, not 0a:58:0a:f4:01:07`,
		`"eth0" is down`,
		`"eth0" has the new address 10.244.1.77/24`,
		`"eth0" has lost its address 10.244.1.7/24`,
		`"eth0" has the new route 10.9.0.0/16 via 10.244.1.1`,
		`"eth0" has lost its route default via 10.244.1.1`,
	}
	if diff := cmp.Diff(want, Moved(was, now, Following{Link: "eth0"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Moved(was, changed(was, func(s *netstate.Snapshot) { s.Links = s.Links[:1] }), Following{Link: "eth0"}); len(got) != 1 || got[0] != `the pod interface "eth0" is gone` {
		t.Errorf("without the link: %q", got)
	}
	if got := Moved(was, taken(was), Following{Link: "eth0", Taken: true}); len(got) != 0 {
		t.Errorf("what podwire has taken: %q", got)
	}
}
