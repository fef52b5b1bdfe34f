package ra

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/pkg/lease"
)

// bigLease has so many routes, nameservers and domains.
func bigLease(routes, servers, domains int) lease.Lease {
	l := podLease()
	for i := range routes {
		l.Routes = append(l.Routes, via(fmt.Sprintf("fd10:%x::/%d fe80::1", i, 32+i%2*96)))
	}
	for i := range servers {
		l.DNS = append(l.DNS, addr(fmt.Sprintf("fd53::%x", i+1)))
	}
	for i := range domains {
		l.Search = append(l.Search, fmt.Sprintf("%s.n%d.example", strings.Repeat("long", 12), i))
	}
	return l
}

func TestMessagesFit(t *testing.T) {
	tests := []struct {
		name      string
		lease     lease.Lease
		mtu, most int // octets of the packet
		count     int
		repeated  bool // all but the routes
	}{
		{"a usual one", podLease(), 1450, 1450, 1, true},
		{"200 routes", bigLease(200, 0, 0), 1450, 1450, 4, true},
		{"an MTU below IPv6's least", bigLease(200, 0, 0), 576, 1280, 4, true},
		{"an unknown MTU", bigLease(200, 0, 0), 0, 1280, 4, true},
		{"an MTU that some client's buffer is not made for", bigLease(200, 0, 0), 9000, 1500, 3, true},
		{"an MTU that is no multiple of 8", bigLease(200, 0, 0), 1501, 1500, 3, true},
		{"routes, nameservers and domains", bigLease(200, 8, 4), 1450, 1450, 5, true},
		{"a list that leaves the routes no room is said once", bigLease(50, 8, 32), 1450, 1450, 3, false},
		{"more nameservers than an option has room for", bigLease(0, 300, 0), 1450, 1450, 5, false},
		{"more domains than an option has room for", bigLease(0, 0, 100), 1450, 1450, 6, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.lease.MTU = tt.mtu
			got := Advertise(tt.lease)
			if len(got) != tt.count {
				t.Errorf("%d messages, want %d", len(got), tt.count)
			}
			whole := messagesOf(tt.lease)[0]
			heard := map[string]int{}
			for _, a := range got {
				if n := len(a.Payload) + ipv6Len; n > tt.most {
					t.Errorf("a packet of %d octets", n)
				}
				if !bytes.Equal(a.Payload[:fixedLen], whole.header()) {
					t.Errorf("header % x", a.Payload[:fixedLen])
				}
				for _, s := range read(t, a)[1:] {
					heard[s.what]++
				}
			}
			want := map[string]int{}
			times := map[bool]int{true: tt.count, false: 1}[tt.repeated]
			want["prefix fd00::/64"] = times
			if tt.mtu >= 1280 {
				want[fmt.Sprint("mtu ", tt.mtu)] = times
			}
			for _, a := range tt.lease.DNSOf(false) {
				want["dns "+a.String()] = times
			}
			for _, name := range tt.lease.Search {
				want["search "+name] = times
			}
			for _, r := range tt.lease.RoutesOf(false) {
				if !r.Default() {
					want["route "+r.Dst.String()+" medium"] = 1
				}
			}
			if diff := cmp.Diff(want, heard); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheLongestNameFits(t *testing.T) {
	name := strings.Repeat(strings.Repeat("x", 62)+".", 4)[:251]
	l := podLease()
	l.Search = []string{name, name[:249], "svc"}
	got := text(t, infinite, Advertise(l))
	for _, name := range l.Search {
		if !slices.Contains(got, "search "+name) {
			t.Errorf("%d octets: not said", len(name))
		}
	}
}

func TestWithdraw(t *testing.T) {
	tests := []struct {
		name   string
		change func(l *lease.Lease)
		want   string
	}{
		{"nothing, where nothing changed", func(*lease.Lease) {}, ""},
		{"nothing, where there is more", func(l *lease.Lease) {
			l.Addrs = append(l.Addrs, netip.MustParsePrefix("fd01::7/64"))
			l.DNS, l.Search = append(l.DNS, addr("fd00::b")), append(l.Search, "cluster.local")
			l.Routes = append(l.Routes, via("fd00:8::/48 fe80::1"))
		}, ""},
		{"nothing, where the new one says it of what stays", func(l *lease.Lease) {
			l.MTU = 1400
			l.Routes = slices.Delete(l.Routes, 2, 3) // the default route
		}, ""},
		{
			"a router", func(l *lease.Lease) { l.Routers = nil },
			"fe80::1: router medium 0, prefix fd00::/64, dns fd00::a, search svc, route fd00:9::/48 medium",
		},
		{"a route", func(l *lease.Lease) { l.Routes = l.Routes[1:] }, "fe80::1: router medium 65535, route fd00:9::/48 medium"},
		{"a prefix", func(l *lease.Lease) { l.Addrs = prefixes("fd00::7/128") }, "fe80::1: router medium 65535, prefix fd00::/64"},
		{"a nameserver", func(l *lease.Lease) { l.DNS = addrs("fd00::b") }, "fe80::1: router medium 65535, dns fd00::a"},
		{"a domain", func(l *lease.Lease) { l.Search = nil }, "fe80::1: router medium 65535, search svc"},
		{
			"a prefix that is now behind the gateway", func(l *lease.Lease) { l.Routes = append(l.Routes, via("fd00::/64 fe80::1")) },
			"fe80::1: router medium 65535, prefix fd00::/64",
		},
		{"what another router says now", func(l *lease.Lease) {
			l.Routers = slices.Insert(l.Routers, 0, router("fe80::2", "fe80::2"))
			l.Routes = routes("fd00:9::/48 fe80::2", "::/0 fe80::2 100", "::/0 fe80::1 200")
		}, "fe80::1: router low 65535, prefix fd00::/64, dns fd00::a, search svc, route fd00:9::/48 medium"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := podLease()
			tt.change(&l)
			if diff := cmp.Diff(tt.want, strings.Join(text(t, 0, Withdraw(podLease(), l)), ", ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithdrawalsFit(t *testing.T) {
	old := bigLease(200, 0, 0)
	old.MTU = 1500
	now := podLease()
	now.MTU = 1300
	all := Withdraw(old, now)
	for _, a := range all {
		if n := len(a.Payload) + ipv6Len; n > 1300 {
			t.Errorf("a packet of %d octets", n)
		}
	}
	if got := len(text(t, 0, all)) - len(all); got != 200 {
		t.Errorf("%d routes taken back", got)
	}
}

// randomLease draws from so few values that two leases have much in common.
func randomLease(r *rand.Rand) lease.Lease {
	some := func(all []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(string) bool { return r.IntN(2) == 0 })
	}
	l := lease.Lease{MTU: []int{0, 1280, 1500}[r.IntN(3)], Search: some([]string{"svc", "cluster.local", "example"})}
	l.Addrs, l.DNS = prefixes(some([]string{"fd00::7/64", "fd01::7/64"})...), addrs(some([]string{"fd00::a", "fd00::b"})...)
	for _, gw := range some([]string{"fe80::1", "fe80::2", "fe80::3"}) {
		l.Routers = append(l.Routers, router(gw, gw))
		for _, dst := range some([]string{"::/0", "fd00:8::/48", "fd00:9::/48", "fd00::/64"}) {
			l.Routes = append(l.Routes, via(fmt.Sprintf("%s %s %d", dst, gw, r.IntN(2))))
		}
	}
	for range r.IntN(2) * 150 {
		l.Routes = append(l.Routes, via(fmt.Sprintf("fd10:%x::/32 fe80::1", r.IntN(200))))
	}
	r.Shuffle(len(l.Routers), func(i, j int) { l.Routers[i], l.Routers[j] = l.Routers[j], l.Routers[i] })
	return l
}

// heard is what a guest holds after some messages. It holds what it is told by
// each router for itself, or, as some do, prefixes and DNS for the link at large.
type heard map[string]uint32

func (h heard) hear(t testing.TB, atLarge bool, all []Advertisement) {
	t.Helper()
	for _, a := range all {
		for i, s := range read(t, a) {
			kind, _, _ := strings.Cut(s.what, " ")
			key, value := a.Src.String()+" "+s.what, s.lifetime
			switch {
			case i == 0: // the preference is no part of what it is told about
				key = a.Src.String()
			case kind == "mtu":
				continue
			case kind == "route":
				key = strings.TrimSuffix(strings.TrimSuffix(key, " low"), " medium")
			case atLarge:
				key = s.what
			}
			if delete(h, key); value > 0 {
				h[key] = value
			}
		}
	}
}

// TestAGuestEndsAsIfItHadHeardTheNewLeaseAlone is what Withdraw is for.
func TestAGuestEndsAsIfItHadHeardTheNewLeaseAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 150 {
		old, now := randomLease(r), randomLease(r)
		for _, atLarge := range []bool{false, true} {
			got, want := heard{}, heard{}
			got.hear(t, atLarge, slices.Concat(Advertise(old), Withdraw(old, now), Advertise(now)))
			want.hear(t, atLarge, Advertise(now))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("pair %d, at large %v (-want +got):\n%s", i, atLarge, diff)
			}
		}
	}
}

func BenchmarkAdvertise(b *testing.B) {
	for name, l := range map[string]lease.Lease{"usual": podLease(), "200 routes": bigLease(200, 8, 4)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(Advertise(l)) == 0 {
					b.Fatal("silence")
				}
			}
		})
	}
}
