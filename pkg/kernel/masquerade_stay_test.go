//go:build linux

package kernel

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/plan"
)

// Steps are undone without a trace, also with what the guest has left behind.
func TestMasqueradeIsUndone(t *testing.T) {
	t.Parallel()
	m := newMasked(t, nil)
	serve(t, m.nodeK, "node", "[::]:7")
	m.do(t, m.steps...)
	wantAnswer(t, m.guestK, "tcp", at(nodeIP, 7), "node to "+pods)
	after := m.snapshot(t)
	m.do(t, m.steps...)
	if n := m.changes(func() { m.do(t, m.steps...) }); n != 0 {
		t.Errorf("doing it again asks for %d changes", n)
	}
	if len(after.Tables) != 1 || !after.Forwarding6 {
		t.Errorf("tables %+v, IPv6 is forwarded: %v", after.Tables, after.Forwarding6)
	}
	m.undo(t, m.steps...)
	m.undo(t, m.steps...)
	m.Delete(t, "tap-eth0")
	m.undo(t, m.steps...)
	m.wantState(t, m.before)
}

// A smaller link on the way, or the tap itself: who sends too much is told.
func TestPacketsThatAreTooBigAreToldOf(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	far := netnstest.New(t)
	netnstest.Veth(t, m.node, "further", far, "back")
	m.node.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	m.node.IP(t, "link set further mtu 1300", "addr add 203.0.113.1/24 dev further", "addr add fd00:113::1/64 dev further nodad")
	far.IP(t, "addr add 203.0.113.9/24 dev back", "addr add fd00:113::9/64 dev back nodad")
	wantTold(t, m.guest, m.guestK, "203.0.113.9", "mtu 1300")
	wantTold(t, m.guest, m.guestK, "fd00:113::9", "mtu 1300")
	m.IP(t, "link set tap-eth0 mtu 1350")
	wantTold(t, m.node, m.nodeK, pods, "mtu 1350")
	wantTold(t, m.node, m.nodeK, pods6, "mtu 1350")
}

// wantTold sends too much and waits until the sender knows how much is not.
func wantTold(t *testing.T, ns *netnstest.NS, k *Kernel, to, what string) {
	t.Helper()
	c := dialed(t, k, "udp", at(to, 80))
	until(t, "an error to come from the way to "+to, func() bool {
		_, _ = c.Write(make([]byte, 1390))
		return strings.Contains(ns.Run(t, "ip", "route", "get", to), what)
	})
}

func TestErrorsOfTheNetworkReachTheGuest(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	for _, network := range transports {
		for _, addr := range []string{nodeIP, nodeIP6} {
			if got := asked(t, m.guestK, network, at(addr, 81), soon); got != "connection refused" {
				t.Errorf("%s %s: %q", network, addr, got)
			}
		}
	}
}

func dialed(t *testing.T, k *Kernel, network, addr string) net.Conn {
	t.Helper()
	c, err := k.DialContext(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantSaid(t *testing.T, when string, c net.Conn, want string) {
	t.Helper()
	if got := say(c, soon); got != want {
		t.Errorf("%s: %q, not %q", when, got, want)
	}
}

// The pod is somebody's already when its guest comes: what it talks of goes on,
// whether the kernel has followed it or not.
func TestConnectionsThatThePodHasGoOn(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]string{
		"not followed": "add table inet other",
		"followed":     "add table inet other; add chain inet other c { type nat hook prerouting priority 0; }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMasked(t, nil)
			m.Run(t, "nft", others)
			serve(t, m.nodeK, "node", "[::]:7")
			serve(t, m.k, "pod", "[::]:80")
			serve(t, m.guestK, "guest", "[::]:80")
			had := map[string]net.Conn{
				"node to " + pods:   dialed(t, m.k, "tcp", at(nodeIP, 7)),
				"node to " + pods6:  dialed(t, m.k, "tcp", at(nodeIP6, 7)),
				"pod to " + nodeIP:  dialed(t, m.nodeK, "tcp", at(pods, 80)),
				"pod to " + nodeIP6: dialed(t, m.nodeK, "tcp", at(pods6, 80)),
			}
			for want, c := range had {
				wantSaid(t, "before", c, want)
			}
			m.do(t, m.steps...)
			for want, c := range had {
				wantSaid(t, "behind the table", c, want)
			}
			wantAnswer(t, m.nodeK, "tcp", at(pods, 80), "guest to "+nodeIP)
			m.undo(t, m.steps...)
			for want, c := range had {
				wantSaid(t, "undone", c, want)
			}
		})
	}
}

func TestConnectionsOfTheGuestLiveThroughASecondRun(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	serve(t, m.nodeK, "node", "[::]:7")
	serve(t, m.guestK, "guest", "[::]:80")
	had := map[string]net.Conn{}
	for _, network := range transports {
		had[network+" node to "+pods] = dialed(t, m.guestK, network, at(nodeIP, 7))
		had[network+" node to "+pods6] = dialed(t, m.guestK, network, at(nodeIP6, 7))
		had[network+" guest to "+nodeIP] = dialed(t, m.nodeK, network, at(pods, 80))
		had[network+" guest to "+nodeIP6] = dialed(t, m.nodeK, network, at(pods6, 80))
		had[network+" guest to 10.0.2.1"] = dialed(t, m.k, network, at("127.0.0.1", 80))
		had[network+" guest to fd10:0:2::1"] = dialed(t, m.k, network, at("::1", 80))
	}
	all := func(when string) {
		t.Helper()
		for want, c := range had {
			wantSaid(t, when+", "+want, c, want[4:])
		}
	}
	all("first")
	m.do(t, m.steps...)
	all("after a second run")
	m.Run(t, "nft", "add rule inet podwire-eth0 inbound return")
	m.do(t, m.steps...)
	all("after the table was replaced")
}

// A router takes no advertisements, and forgets those that it has taken, unless it
// is told otherwise before.
func TestAdvertisedRoutesOfThePodStay(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]bool{"as planned": true, "without accept_ra": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0"})
			p.accepting(t, "1")
			p.flood(t)
			until(t, "the pod to take an advertisement", func() bool { return p.autoconfigured(t) })
			m := &masked{pod: p}
			m.steps = slices.DeleteFunc(m.planned(t, nil), func(s plan.Step) bool {
				o, ok := s.(plan.SetOption)
				return !ok || !o.IPv6 || !keep && o.Option == plan.OptionAcceptRA
			})
			if len(m.steps) == 0 {
				t.Fatal("IPv6 is not to be forwarded")
			}
			p.do(t, m.steps...)
			if p.autoconfigured(t) != keep || !p.snapshot(t).Forwarding6 {
				t.Errorf("it has its route: %v", !keep)
			}
			p.undo(t, m.steps...)
			if l, _ := p.snapshot(t).LinkByName("eth0"); l.AcceptRA != 1 || p.snapshot(t).Forwarding6 {
				t.Errorf("link is %+v", l)
			}
		})
	}
}
