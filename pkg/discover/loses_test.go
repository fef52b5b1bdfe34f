package discover

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

// churn changes a pod's network somehow, as Linux would let somebody: addresses and routes
// come and go, and links flap.
func churn(r *rand.Rand, s netstate.Snapshot) netstate.Snapshot {
	addrs := []string{"10.244.1.7/24", "10.244.1.9/24", "192.168.99.5/24", "10.9.0.9/32", "fd00:10:244:1::9/64", "2001:db8::9/64", "2001:db8:1::9/128", "fe80::9/64"}
	routes := []netstate.Route{
		shapes.Route("0.0.0.0/0", "10.244.1.1"), shapes.Route("0.0.0.0/0", "192.168.99.1"), shapes.Route("0.0.0.0/0", ""),
		shapes.Route("169.254.1.1/32", ""), shapes.Route("0.0.0.0/0", "169.254.1.1"), shapes.Route("10.9.0.0/16", "10.244.1.1"),
		shapes.Route("::/0", "fd00:10:244:1::1"), shapes.Route("::/0", "fe80::1"), shapes.Route("2001:db8:2::/48", "2001:db8::1"),
	}
	for range r.IntN(6) {
		switch r.IntN(6) {
		case 0, 1:
			s = shapes.WithAddr(s, addrs[r.IntN(len(addrs))])
			if r.IntN(4) == 0 {
				lastAddr(&s).ValidLft = 600
			}
		case 2:
			if n := len(s.Addrs); n > 0 {
				s = withoutAddr(s, s.Addrs[r.IntN(n)].Prefix.String())
			}
		case 3, 4:
			s = shapes.With(s, routes[r.IntN(len(routes))])
			if r.IntN(4) == 0 {
				s.Routes[len(s.Routes)-1].Protocol = protocolRA
			}
		default:
			if n := len(s.Routes); n > 0 {
				i := r.IntN(n)
				s.Routes = slices.Delete(slices.Clone(s.Routes), i, i+1)
			}
		}
	}
	linkOf(&s).Up = r.IntN(6) > 0
	return s
}

// TestNothingIsLost changes the networks of all plugins at random, again and again, each time
// following what came of it. A family that had a way out has one and is told of it; and what a
// teardown would give back holds each address that the pod had, unless the kernel shows, or a
// default route that was set with another address says, that it was replaced.
func TestNothingIsLost(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	replaced := 0
	for n := range 6000 {
		shape := shapes.All()[n%len(shapes.All())]
		was := changed(shape.Snapshot, func(s *netstate.Snapshot) { s.Routes = slices.Clone(s.Routes) })
		f := Following{Link: "eth0", Taken: n&1 == 0, Wired: n&2 == 0}
		now := was
		for range 3 {
			if f.Taken { // as podwire leaves it
				now = taken(now)
			}
			now = changed(churn(r, changed(now, func(s *netstate.Snapshot) { s.Routes = slices.Clone(s.Routes) })), func(*netstate.Snapshot) {})
			followed, _ := Follow(was, now, f)
			for _, ipv4 := range []bool{true, false} {
				if lost(t, was, now, followed, f, ipv4) {
					replaced++
				}
			}
			if again, more := Follow(followed, now, f); more {
				t.Fatalf("%s: %+v: the second time it is a change again: %+v\nnow %+v\nfollowed %+v", shape.Name, f, again, now, followed)
			}
			if t.Failed() {
				t.Fatalf("%s, %d: %+v\nwas %+v %+v\nnow %+v %+v", shape.Name, n, f, was.Addrs, was.Routes, now.Addrs, now.Routes)
			}
			was = followed
		}
	}
	if replaced < 50 {
		t.Errorf("only %d replacements in all: the test tests little", replaced)
	}
}

// lost looks for what is lost of one family, and reports whether addresses were replaced.
func lost(t *testing.T, was, now, followed netstate.Snapshot, f Following, ipv4 bool) bool {
	t.Helper()
	of := func(s netstate.Snapshot, want func(netstate.Route) bool) bool {
		return slices.ContainsFunc(s.RoutesOf(shapes.Index), func(r netstate.Route) bool { return r.Dst.Addr().Is4() == ipv4 && leadsOut(r) && want(r) })
	}
	any := func(netstate.Route) bool { return true }
	if of(was, any) {
		gateways := 0
		for _, r := range discoverEth0(t, followed, cluster(), config.Default()).Lease.RoutesOf(ipv4) {
			if r.Default() {
				gateways++
			}
		}
		if gateways == 0 {
			t.Errorf("IPv4 %v: there is no default route any more", ipv4)
		}
	}
	gone, left := 0, 0
	for _, a := range was.AddrsOf(shapes.Index) {
		switch {
		case a.Prefix.Addr().Is4() != ipv4:
		case containsAddr(followed.AddrsOf(shapes.Index), a):
			left++
		default:
			gone++
			if containsAddr(now.AddrsOf(shapes.Index), a) {
				t.Errorf("%s is lost, and the kernel has it", a.Prefix)
			}
		}
	}
	if gone == 0 {
		return false
	}
	has := slices.ContainsFunc(followed.AddrsOf(shapes.Index), func(a netstate.Addr) bool { return a.Prefix.Addr().Is4() == ipv4 && lasting(a) })
	switch {
	case !has:
		t.Errorf("IPv4 %v: there is no address any more", ipv4)
	case f.Taken && !of(now, func(r netstate.Route) bool { return r.Protocol != protocolRA }):
		t.Errorf("IPv4 %v: %d addresses are lost, %d left, and no default route was set", ipv4, gone, left)
	case !f.Taken && of(was, any) && !of(now, any):
		t.Errorf("IPv4 %v: %d addresses are lost, %d left, and there is no default route", ipv4, gone, left)
	}
	return true
}
