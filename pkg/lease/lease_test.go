package lease

import (
	"fmt"
	"net/netip"
	"testing"
)

func route(dst, via string) Route {
	r := Route{Dst: netip.MustParsePrefix(dst)}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

func TestFamilies(t *testing.T) {
	l := Lease{
		Addrs:  []netip.Prefix{netip.MustParsePrefix("fd00::7/64"), netip.MustParsePrefix("10.0.0.7/24"), netip.MustParsePrefix("10.0.0.8/24")},
		Routes: []Route{route("10.9.0.0/16", "10.0.0.2"), route("0.0.0.0/0", "10.0.0.1"), route("::/0", "fe80::1"), route("0.0.0.0/0", "10.0.0.1")},
		DNS:    []netip.Addr{netip.MustParseAddr("fd00::a"), netip.MustParseAddr("10.0.0.10")},
	}
	if p, ok := l.IPv4(); !ok || p.String() != "10.0.0.7/24" {
		t.Errorf("IPv4 = %v, %v", p, ok)
	}
	if got := fmt.Sprint(l.Gateways()); got != "[10.0.0.1 fe80::1]" {
		t.Errorf("Gateways = %v", got)
	}
	if len(l.RoutesOf(true)) != 3 || len(l.RoutesOf(false)) != 1 {
		t.Error("RoutesOf")
	}
	if got := fmt.Sprint(l.DNSOf(true), l.DNSOf(false)); got != "[10.0.0.10] [fd00::a]" {
		t.Errorf("DNSOf = %v", got)
	}
	if _, ok := (Lease{}).IPv4(); ok {
		t.Error("an empty lease has an address")
	}
	if !route("10.0.0.0/8", "").OnLink() || route("10.0.0.0/8", "10.0.0.1").OnLink() {
		t.Error("OnLink")
	}
}
