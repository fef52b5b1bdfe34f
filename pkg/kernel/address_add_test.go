//go:build linux

package kernel

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var tapAddrs = plan.AddAddresses{Link: "tap-eth0", Addrs: prefixes("10.0.2.1/24", "fd10:0:2::1/120", "fe80::70:77ff:fe00:1/64", "::1/128")}

func TestAddressesAreInUseAtOnce(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before := p.state(t)
	tap := plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: 1450, Queues: 1, Up: true}
	p.do(t, tap, tapAddrs)
	for _, a := range p.snapshot(t).AddrsOf(p.Index(t, "tap-eth0")) {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 || a.ValidLft != netstate.Forever {
			t.Errorf("address %s is %+v", a.Prefix, a)
		}
	}
	for _, a := range tapAddrs.Addrs {
		c, err := p.k.ListenPacket(t.Context(), "udp", zoned(a.Addr(), "tap-eth0")+":0")
		if err != nil {
			t.Errorf("address %s cannot be used: %v", a, err)
			continue
		}
		c.Close()
	}
	after := p.state(t)
	if n := p.changes(func() { p.do(t, tapAddrs) }); n != 0 {
		t.Errorf("doing it again asks for %d changes", n)
	}
	p.wantState(t, after)
	p.undo(t, tap, tapAddrs)
	p.undo(t, tap, tapAddrs)
	p.wantState(t, before)
}

func TestAddressesThatAreMissingAreAdded(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	netnstest.Veth(t, p.NS, "tap-eth0", p.node, "far")
	p.IP(t, "link set tap-eth0 addrgenmode none", "addr flush dev tap-eth0", "addr add 192.0.2.1/24 dev tap-eth0")
	before := p.state(t)
	p.do(t, tapAddrs)
	p.settled(t)
	all := p.state(t)
	p.IP(t, "addr del fd10:0:2::1/120 dev tap-eth0")
	p.do(t, tapAddrs)
	compareAddrs(t, all.Snapshot, p.snapshot(t))
	p.undo(t, tapAddrs)
	p.wantState(t, before)
}

// Two guests in a pod are behind a tap each.
func TestLocalhostMayComeBySeveralLinks(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	netnstest.Veth(t, p.NS, "tap-eth0", p.node, "far0")
	netnstest.Veth(t, p.NS, "tap-net1", p.node, "far1")
	p.settle(t)
	before := p.state(t)
	steps := []plan.Step{
		plan.AddAddresses{Link: "tap-eth0", Addrs: []netip.Prefix{localhost6}},
		plan.AddAddresses{Link: "tap-net1", Addrs: []netip.Prefix{localhost6}},
	}
	p.do(t, steps...)
	p.do(t, steps...)
	var links []int
	for _, r := range p.snapshot(t).Routes {
		if r.Dst == localhost6 && r.Table == netstate.TableLocal {
			links = append(links, r.Link)
		}
	}
	if diff := cmp.Diff([]int{p.Index(t, "lo"), p.Index(t, "tap-eth0"), p.Index(t, "tap-net1")}, links); diff != "" {
		t.Errorf("links of ::1 (-want +got):\n%s", diff)
	}
	p.undo(t, steps[1])
	p.undo(t, steps[0])
	p.wantState(t, before)
}

func compareAddrs(t *testing.T, want, got netstate.Snapshot) {
	t.Helper()
	names := func(s netstate.Snapshot) map[string]uint32 {
		out := map[string]uint32{}
		for _, a := range s.Addrs {
			out[a.Prefix.String()] = a.Flags & settableFlags
		}
		return out
	}
	if diff := cmp.Diff(names(want), names(got)); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestAddressesOfATapThatIsGone(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	if err := p.k.Do(t.Context(), tapAddrs); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `adding addresses to "tap-eth0"`) {
		t.Errorf("doing: %v", err)
	}
	if err := p.k.Undo(t.Context(), tapAddrs); err != nil {
		t.Errorf("undoing: %v", err)
	}
}
