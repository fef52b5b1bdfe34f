package discover

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

func TestInterfaces(t *testing.T) {
	second := netstate.Link{Index: 3, Name: "net1", Kind: "veth", MAC: netstate.MAC{2, 0, 0, 0, 0, 3}, MTU: 1500, Up: true}
	withNet1 := func(s netstate.Snapshot) netstate.Snapshot {
		s.Links = append(slices.Clone(s.Links), second)
		s.Addrs = append(slices.Clone(s.Addrs), netstate.Addr{Link: 3, Prefix: netip.MustParsePrefix("10.5.0.7/24")})
		return s
	}
	net1Default := metric(shapes.Route("0.0.0.0/0", "10.5.0.1"), 10)
	net1Default.Link = 3
	kind := func(kind string) netstate.Snapshot {
		s := shapes.Bridge()
		s.Links = slices.Clone(s.Links)
		s.Links[1].Kind = kind
		return s
	}
	port := shapes.Bridge()
	port.Links = slices.Clone(port.Links)
	port.Links[1].Master = 9

	tests := []struct {
		name  string
		in    netstate.Snapshot
		names []string
		want  string
		err   string
	}{
		{name: "the default route's", in: withNet1(shapes.Bridge()), want: "eth0"},
		{name: "the better default route's", in: shapes.With(withNet1(shapes.With(shapes.Pod("10.244.1.7/24"), metric(shapes.Route("0.0.0.0/0", "10.244.1.1"), 100))), net1Default), want: "net1"},
		{name: "that of an IPv6 default route", in: withNet1(shapes.With(shapes.Pod("fd00::7/64"), shapes.Route("::/0", "fe80::1"))), want: "eth0"},
		{name: "the only one with a global address", in: shapes.Pod("10.244.1.7/24"), want: "eth0"},
		{name: "several without a default route", in: withNet1(shapes.Pod("10.244.1.7/24")), err: "--interface"},
		{name: "none", in: shapes.Pod(), err: "no link has a default route or a global address; there is eth0"},
		{name: "named", in: withNet1(shapes.Bridge()), names: []string{"net1", "eth0"}, want: "net1 eth0"},
		{name: "named and not there", in: shapes.Bridge(), names: []string{"eth7"}, err: `"eth7" does not exist; there is eth0`},
		{name: "the loopback", in: shapes.Bridge(), names: []string{"lo"}, err: "loopback"},
		{name: "a macvlan", in: kind("macvlan"), err: "macvlan"},
		{name: "an ipvlan", in: kind("ipvlan"), err: "ipvlan"},
		{name: "somebody's bridge port", in: port, err: "already a port of link 9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			links, err := Interfaces(tt.in, tt.names, config.Bridge)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("err = %v, want one that says %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range links {
				got = append(got, l.Name)
			}
			want(t, strings.Join(got, " "), tt.want)
		})
	}
}

// TestBindingsAndKindsOfLinks: what a binding refuses, it says another for.
func TestBindingsAndKindsOfLinks(t *testing.T) {
	const bridge, tc, masquerade = config.Bridge, config.TC, config.Masquerade
	tests := []struct {
		kind string
		set  func(*netstate.Snapshot)
		want map[config.Binding]string // what is said; nothing where it is wired
	}{
		{kind: "veth"},
		{kind: ""},
		{kind: "macvlan", want: map[config.Binding]string{bridge: "is a macvlan, which passes no frames of another MAC than its own, so it is no port of a bridge: use --binding tc or masquerade"}},
		{kind: "ipvlan", want: map[config.Binding]string{bridge: "use --binding masquerade", tc: "use --binding masquerade"}},
		{kind: "macvtap"},
		{kind: "macvtap", set: noAddress},
		{kind: "veth", set: noAddress, want: map[config.Binding]string{masquerade: "no global address, by which its guest would be reached: use --binding bridge or tc"}},
		{kind: "macvlan", set: noAddress, want: map[config.Binding]string{bridge: "use --binding tc", masquerade: "use --binding tc"}},
		{kind: "ipvlan", set: noAddress, want: map[config.Binding]string{bridge: "masquerade", tc: "masquerade", masquerade: "give it one"}},
		{
			kind: "sit", set: func(s *netstate.Snapshot) { s.Links[1].MAC = netstate.MAC{} },
			want: map[config.Binding]string{bridge: "no Ethernet address, so a guest cannot take its place: use --binding masquerade", tc: "use --binding masquerade"},
		},
		{
			kind: "veth", set: func(s *netstate.Snapshot) { s.Links[1].Master = 9 },
			want: map[config.Binding]string{bridge: "already a port of link 9", tc: "already a port", masquerade: "already a port"},
		},
		{
			kind: "macvtap", set: func(s *netstate.Snapshot) { s.Links[1].Master = 9 },
			want: map[config.Binding]string{bridge: "already a port", tc: "already a port", masquerade: "already a port"},
		},
		{
			kind: "", set: func(s *netstate.Snapshot) { s.Links[1].Loopback = true },
			want: map[config.Binding]string{bridge: "loopback", tc: "loopback", masquerade: "loopback"},
		},
	}
	for _, tt := range tests {
		for _, b := range []config.Binding{bridge, tc, masquerade} {
			s := shapes.Bridge()
			s.Links = slices.Clone(s.Links)
			s.Links[1].Kind = tt.kind
			if tt.set != nil {
				tt.set(&s)
			}
			links, err := Interfaces(s, []string{"eth0"}, b)
			says := tt.want[b]
			switch {
			case says == "" && (err != nil || len(links) != 1):
				t.Errorf("%q by %s: %v, %v", tt.kind, b, links, err)
			case says != "" && (err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n")):
				t.Errorf("%q by %s: err = %v, want one line that says %q", tt.kind, b, err, says)
			}
		}
	}
}

func noAddress(s *netstate.Snapshot) { s.Addrs = nil }

// TestAllGoesByTheBinding: a macvtap is taken as it is, beside one that is asked for.
func TestAllGoesByTheBinding(t *testing.T) {
	s := two()
	s.Links = slices.Clone(s.Links)
	s.Links[2].Kind = "macvtap"
	s.Addrs = slices.DeleteFunc(slices.Clone(s.Addrs), func(a netstate.Addr) bool { return a.Link == 3 })
	names, _, err := All(s, nil, nil, config.Masquerade)
	if err != nil || !slices.Equal(names, []string{"eth0", "net1"}) {
		t.Errorf("%v, %v", names, err)
	}
	s.Links[2].Kind = "veth"
	if _, _, err := All(s, nil, nil, config.Masquerade); err == nil || !strings.Contains(err.Error(), "name the others with --interface") {
		t.Errorf("a veth without an address: %v", err)
	}
}
