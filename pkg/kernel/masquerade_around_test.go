//go:build linux

package kernel

import (
	"net/netip"
	"testing"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/plan"
)

// Who shares the pod's link could else reach at the guest what --port keeps from
// everybody, and what listens in the pod at the gateway's address.
func TestNobodyGoesRoundTheTranslation(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, withPorts(config.Ports{Protocol: "tcp", First: 80, Last: 80}))
	serve(t, m.guestK, "guest", "[::]:80")
	serve(t, m.guestK, "guest", "[::]:22")
	serve(t, m.k, "pod", "[::]:22")
	m.node.IP(t, "route add 10.0.2.0/24 via "+pods, "-6 route add fd10:0:2::/120 via "+pods6)
	wantAnswer(t, m.nodeK, "tcp", at(pods, 80), "guest to "+nodeIP)
	wantAnswer(t, m.nodeK, "tcp", at(pods6, 80), "guest to "+nodeIP6)
	for _, addr := range []string{guestIP.String(), guestIP6.String(), gateIP.String(), gateIP6.String()} {
		if got := asked(t, m.nodeK, "tcp", at(addr, 22), inAWhile); got != timedOut {
			t.Errorf("%s: %q", addr, got)
		}
	}
}

// A pod that was no router becomes one for its guest alone.
func TestThePodRoutesForItsGuestAlone(t *testing.T) {
	t.Parallel()
	m := newMasked(t, nil)
	other := netnstest.New(t)
	withoutDAD(t, other)
	netnstest.Veth(t, m.NS, "net1", other, "nic1")
	m.IP(t, "addr add 10.99.0.7/24 dev net1", "addr add 2001:db8:9::7/64 dev net1 nodad")
	other.IP(t, "addr add 10.99.0.1/24 dev nic1", "addr add 2001:db8:9::1/64 dev nic1 nodad",
		"route add default via 10.99.0.7", "-6 route add default via 2001:db8:9::7")
	otherK := open(t, other.Path)
	m.steps = m.planned(t, nil)
	m.do(t, m.steps...)
	m.settled(t)
	serve(t, otherK, "other", "[::]:80")
	serve(t, m.nodeK, "node", "[::]:80")
	m.node.IP(t, "route add 10.99.0.0/24 via "+pods, "-6 route add 2001:db8:9::/64 via "+pods6)

	wantAnswer(t, m.guestK, "tcp", at("10.99.0.1", 80), "other to 10.99.0.7")
	wantAnswer(t, m.guestK, "tcp", at("2001:db8:9::1", 80), "other to 2001:db8:9::7")
	for _, addr := range []string{"10.99.0.1", "2001:db8:9::1"} {
		if got := asked(t, m.nodeK, "tcp", at(addr, 80), inAWhile); got != timedOut {
			t.Errorf("from the node to %s: %q", addr, got)
		}
	}
	for _, addr := range []string{nodeIP, nodeIP6} {
		if got := asked(t, otherK, "tcp", at(addr, 80), inAWhile); got != timedOut {
			t.Errorf("from the other network to %s: %q", addr, got)
		}
	}
}

// What is the pod's own is set back by the last of several.
func TestOptionsStayWhileAnotherGuestNeedsThem(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	m.Run(t, "nft", "add table inet "+plan.TablePrefix+"net1")
	m.undo(t, m.steps...)
	s := m.snapshot(t)
	if link, _ := s.LinkByName("eth0"); !s.Forwarding6 || !link.Forwarding {
		t.Errorf("IPv6 is forwarded: %v, IPv4: %v", s.Forwarding6, link.Forwarding)
	}
	m.Run(t, "nft", "delete table inet "+plan.TablePrefix+"net1")
	m.undo(t, m.steps...)
	s = m.snapshot(t)
	if link, _ := s.LinkByName("eth0"); s.Forwarding6 || link.Forwarding {
		t.Errorf("IPv6 is forwarded: %v, IPv4: %v", s.Forwarding6, link.Forwarding)
	}
}

// A guest that has one family alone sends nothing of the other one.
func TestTheFamilyThatTheGuestHasNotStaysIn(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	wantEchoes(t, m)
	alone := plan.Chain{Name: "raw", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []plan.Rule{
		{In: "tap-eth0", Family: "ip6", Do: plan.Drop},
	}}
	m.do(t, plan.Translate{Link: "eth0", Index: m.Index(t, "eth0"), Table: "podwire-eth0", Chains: []plan.Chain{alone}})
	wire, nic := m.node.Packet(t, "veth0"), m.guest.Packet(t, "nic")
	own := netip.MustParseAddr("fd00:10:244:1::66")
	nic.Send(t, m.fromGuest(t, ipv6(17, own, netip.MustParseAddr(nodeIP6), summed6(own, nodeIP6))))
	nic.Send(t, m.fromGuest(t, addressed(udp(9, 4242, 0, 0), guestIP, netip.MustParseAddr(nodeIP))))
	if frame := wire.Next(t, soon, isTo4242); frame == nil || !sourceOf(frame).Is4() {
		t.Errorf("what leaves is %x", frame)
	}
}
