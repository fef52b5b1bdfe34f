package discover

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/internal/golden"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/resolvconf"
)

func cluster() Host {
	return Host{Hostname: "vm-0", ResolvConf: resolvconf.Config{
		Nameservers: []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		Search:      []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
	}}
}

func eth0(t *testing.T, s netstate.Snapshot) netstate.Link {
	t.Helper()
	link, ok := s.LinkByName("eth0")
	if !ok {
		t.Fatal("the shape has no eth0")
	}
	return link
}

func discoverEth0(t *testing.T, s netstate.Snapshot, host Host, c config.Config) Found {
	t.Helper()
	found, err := Discover(s, eth0(t, s), host, c)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func as(b config.Binding) config.Config {
	c := config.Default()
	c.Binding = b
	return c
}

func told(t *testing.T, found Found) string {
	t.Helper()
	text, err := json.MarshalIndent(map[string]any{"lease": found.Lease, "warnings": found.Warnings}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// TestShapes holds what each CNI layout's guest is told where it takes the pod's
// place, which is the same whatever joins it to the pod interface.
func TestShapes(t *testing.T) {
	for _, shape := range shapes.All() {
		t.Run(shape.Name, func(t *testing.T) {
			bridge := told(t, discoverEth0(t, shape.Snapshot, cluster(), as(config.Bridge)))
			golden.Check(t, shape.Name+".lease.json", bridge)
			if diff := cmp.Diff(bridge, told(t, discoverEth0(t, shape.Snapshot, cluster(), as(config.TC)))); diff != "" {
				t.Errorf("bridge and tc (-bridge +tc):\n%s", diff)
			}
			macvtap := shapes.With(shape.Snapshot)
			macvtap.Links = slices.Clone(macvtap.Links)
			macvtap.Links[1].Kind, macvtap.Links[1].TxQLen = "macvtap", 500
			if diff := cmp.Diff(bridge, told(t, discoverEth0(t, macvtap, cluster(), as(config.Masquerade)))); diff != "" {
				t.Errorf("bridge and macvtap (-bridge +macvtap):\n%s", diff)
			}
		})
	}
}

func routesText(found Found) []string {
	var out []string
	for _, r := range found.Lease.Routes {
		out = append(out, strings.TrimSuffix(r.Dst.String()+" "+r.Via.String(), " invalid IP"))
	}
	return out
}

func metric(r netstate.Route, m uint32) netstate.Route {
	r.Priority = m
	return r
}

func ofType(r netstate.Route, kind uint8) netstate.Route {
	r.Type, r.Link, r.Scope = kind, 0, 0
	return r
}

func TestRoutes(t *testing.T) {
	base := shapes.Pod("10.244.1.7/24")
	multipath := shapes.Route("0.0.0.0/0", "")
	multipath.Link, multipath.Scope = 0, 0
	multipath.NextHops = []netstate.NextHop{
		{Link: shapes.Index, Via: netip.MustParseAddr("10.244.1.1"), Weight: 1},
		{Link: shapes.Index, Via: netip.MustParseAddr("10.244.1.2"), Weight: 5},
		{Link: 9, Via: netip.MustParseAddr("10.9.9.9"), Weight: 50},
	}
	inet6 := shapes.Route("10.9.0.0/16", "fe80::1")
	policy := shapes.With(base)
	policy.Rules = append(slices.Clone(policy.Rules), netstate.Rule{Priority: 100, Table: 7, Text: "100: from 10.244.1.7 lookup 7"})
	otherTable := shapes.Route("10.8.0.0/16", "10.244.1.1")
	otherTable.Table = 7
	otherLink := shapes.Route("10.7.0.0/16", "10.7.0.1")
	otherLink.Link = 9

	tests := []struct {
		name string
		in   netstate.Snapshot
		want []string
		warn []string
	}{
		{
			name: "on-link routes to gateways first, default last, metrics kept in order",
			in: shapes.With(base,
				shapes.Route("0.0.0.0/0", "192.168.5.1"),
				metric(shapes.Route("10.3.0.0/16", "10.244.1.3"), 300),
				metric(shapes.Route("10.2.0.0/16", "10.244.1.2"), 200),
				shapes.Route("172.16.0.0/12", ""),
				shapes.Route("192.168.5.0/24", "")),
			want: []string{"192.168.5.0/24", "172.16.0.0/12", "10.2.0.0/16 10.244.1.2", "10.3.0.0/16 10.244.1.3", "0.0.0.0/0 192.168.5.1"},
		},
		{
			name: "a gateway outside every on-link prefix gets a host route",
			in:   shapes.With(base, shapes.Route("0.0.0.0/0", "169.254.1.1"), shapes.Route("10.2.0.0/16", "169.254.1.1")),
			want: []string{"169.254.1.1/32", "10.2.0.0/16 169.254.1.1", "0.0.0.0/0 169.254.1.1"},
		},
		{
			name: "the better of two defaults comes first and the other is named",
			in: shapes.With(base, metric(shapes.Route("0.0.0.0/0", "10.244.1.2"), 200),
				metric(shapes.Route("0.0.0.0/0", "10.244.1.1"), 100)),
			want: []string{"0.0.0.0/0 10.244.1.1", "0.0.0.0/0 10.244.1.2"},
			warn: []string{"default via 10.244.1.2 metric 200 stands behind"},
		},
		{
			name: "of a multipath route the guest gets the best hop of its link",
			in:   shapes.With(base, multipath),
			want: []string{"0.0.0.0/0 10.244.1.2"},
			warn: []string{"multipath"},
		},
		{
			name: "what cannot be told is named and stops nothing",
			in: shapes.With(base, shapes.Route("0.0.0.0/0", "10.244.1.1"),
				ofType(shapes.Route("10.66.0.0/16", ""), netstate.TypeBlackhole),
				ofType(shapes.Route("10.67.0.0/16", ""), netstate.TypeUnreachable),
				ofType(shapes.Route("10.68.0.0/16", ""), netstate.TypeProhibit)),
			want: []string{"0.0.0.0/0 10.244.1.1"},
			warn: []string{"blackhole", "unreachable", "prohibit"},
		},
		{
			name: "a gateway of the other family that keeps silent has a stand-in, too",
			in:   shapes.With(base, inet6),
			want: []string{"169.254.75.2/32", "10.9.0.0/16 169.254.75.2"},
			warn: []string{"has not said its MAC"},
		},
		{
			name: "policy rules are named",
			in:   policy,
			warn: []string{"100: from 10.244.1.7 lookup 7"},
		},
		{
			name: "other tables and other links are no matter of this guest",
			in:   shapes.With(base, otherTable, otherLink),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := discoverEth0(t, tt.in, cluster(), config.Default())
			if diff := cmp.Diff(tt.want, routesText(found)); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			wantWarnings(t, found.Warnings, tt.warn)
		})
	}
}

func wantWarnings(t *testing.T, got, parts []string) {
	t.Helper()
	if len(got) != len(parts) {
		t.Fatalf("warnings = %q, want %d", got, len(parts))
	}
	for i, part := range parts {
		if !strings.Contains(got[i], part) {
			t.Errorf("warning %d = %q, want it to say %q", i, got[i], part)
		}
	}
}

func TestLeaseDetails(t *testing.T) {
	fe := shapes.Bridge()
	fe.Links = slices.Clone(fe.Links)
	fe.Links[1].MAC[0] = 0xfe
	twoAddrs := shapes.With(shapes.Pod("10.244.1.7/24", "10.244.1.8/24"), shapes.Route("0.0.0.0/0", "10.244.1.1"))
	idTaken := shapes.With(shapes.Pod("10.244.1.7/24"), shapes.Route("0.0.0.0/0", "169.254.75.1"))
	jumbo := shapes.Bridge()
	jumbo.Links = slices.Clone(jumbo.Links)
	jumbo.Links[1].MTU = 65536

	tests := []struct {
		name  string
		in    netstate.Snapshot
		host  Host
		set   func(*config.Config)
		check func(t *testing.T, f Found)
		warn  []string
	}{
		{
			name: "a MAC that begins with fe gets 02 there",
			in:   fe, host: cluster(),
			check: func(t *testing.T, f Found) { want(t, f.Lease.MAC.String(), "02:58:0a:f4:01:07") },
			warn:  []string{"begins with fe"},
		},
		{
			name: "a MAC that is asked for",
			in:   shapes.Bridge(), host: cluster(),
			set:   func(c *config.Config) { c.MAC = netstate.MAC{2, 0, 0, 0, 0, 9} },
			check: func(t *testing.T, f Found) { want(t, f.Lease.MAC.String(), "02:00:00:00:00:09") },
		},
		{
			name: "further IPv4 addresses are named",
			in:   twoAddrs, host: cluster(),
			check: func(t *testing.T, f Found) { want(t, len(f.Lease.Addrs), 2) },
			warn:  []string{"10.244.1.8"},
		},
		{
			name: "the server identifier avoids what is taken",
			in:   idTaken, host: cluster(),
			check: func(t *testing.T, f Found) { want(t, f.Lease.Server.ID.String(), "169.254.75.2") },
		},
		{
			name: "an MTU that no tap takes is cut",
			in:   jumbo, host: cluster(),
			check: func(t *testing.T, f Found) { want(t, f.Lease.MTU, 65521) },
		},
		{
			name: "the MTU of the default route, where that is smaller",
			in: shapes.With(shapes.Pod("10.244.1.7/24"), func() netstate.Route {
				r := shapes.Route("0.0.0.0/0", "10.244.1.1")
				r.Attrs = []netstate.Attr{{Type: 8, Data: binary.NativeEndian.AppendUint32(
					binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, 8), 2), 1400)}}
				return r
			}()),
			host:  cluster(),
			check: func(t *testing.T, f Found) { want(t, f.Lease.MTU, 1400) },
			warn:  []string{"the guest is told 1400"},
		},
		{
			name: "a smaller MTU that is asked for",
			in:   shapes.Bridge(), host: cluster(),
			set:   func(c *config.Config) { c.MTU = 1400 },
			check: func(t *testing.T, f Found) { want(t, f.Lease.MTU, 1400) },
		},
		{
			name: "the domain of a full host name",
			in:   shapes.Bridge(), host: Host{Hostname: "VM-0.sub.example", ResolvConf: cluster().ResolvConf},
			check: func(t *testing.T, f Found) {
				want(t, f.Lease.Hostname, "vm-0.sub.example")
				want(t, f.Lease.Domain, "sub.example")
			},
		},
		{
			name: "the first search domain is the domain",
			in:   shapes.Bridge(), host: cluster(),
			check: func(t *testing.T, f Found) { want(t, f.Lease.Domain, "default.svc.cluster.local") },
		},
		{
			name: "a host name that is none is left out",
			in:   shapes.Bridge(), host: Host{Hostname: "not a name", ResolvConf: cluster().ResolvConf},
			check: func(t *testing.T, f Found) { want(t, f.Lease.Hostname, "") },
			warn:  []string{`"not a name"`},
		},
		{
			name:  "nameservers inside the pod are left out",
			in:    shapes.Bridge(),
			host:  Host{Hostname: "vm", ResolvConf: resolvconf.Config{Nameservers: []netip.Addr{netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("::1")}}},
			check: func(t *testing.T, f Found) { want(t, len(f.Lease.DNS), 0) },
			warn:  []string{"127.0.0.11", "::1", "no nameserver"},
		},
		{
			name: "what is asked for beats resolv.conf",
			in:   shapes.Bridge(), host: cluster(),
			set: func(c *config.Config) {
				c.DNS = []netip.Addr{netip.MustParseAddr("10.1.1.1")}
				c.Search = []string{"x.example"}
				c.Hostname, c.Domain = "other", "dom.example"
			},
			check: func(t *testing.T, f Found) {
				want(t, f.Lease.DNS[0].String(), "10.1.1.1")
				want(t, strings.Join(f.Lease.Search, " "), "x.example")
				want(t, f.Lease.Hostname+" "+f.Lease.Domain, "other dom.example")
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			if tt.set != nil {
				tt.set(&c)
			}
			found := discoverEth0(t, tt.in, tt.host, c)
			tt.check(t, found)
			wantWarnings(t, found.Warnings, tt.warn)
		})
	}
}

func want[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMTUBeyondTheLinkIsRefused(t *testing.T) {
	c := config.Default()
	c.MTU = shapes.MTU + 1
	s := shapes.Bridge()
	if _, err := Discover(s, eth0(t, s), cluster(), c); err == nil || !strings.Contains(err.Error(), "1450") {
		t.Errorf("err = %v, want one that names the link's MTU", err)
	}
}
