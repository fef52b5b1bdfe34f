//go:build linux

package kernel

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/netstate"
)

// farMAC is that of the node's end of the pod's link.
func (p *pod) farMAC(t *testing.T) netstate.MAC {
	t.Helper()
	l, err := open(t, p.node.Path).link(t.Context(), "veth0")
	if err != nil {
		t.Fatal(err)
	}
	return l.MAC
}

// resolve asks for addresses for as long as a whole answer may take.
func (p *pod) resolve(t *testing.T, within time.Duration, addrs ...netip.Addr) map[netip.Addr]netstate.MAC {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	got, err := p.k.Resolve(ctx, "eth0", addrs)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var (
	gateway4 = netip.MustParseAddr("10.244.1.1")
	gateway6 = netip.MustParseAddr("fd00::1")
	nobody4  = netip.MustParseAddr("10.244.1.99")
	nobody6  = netip.MustParseAddr("fd00::99")
)

func TestNeighboursAreAskedForInBothFamilies(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.node.Addr(t, "veth0", "10.244.1.1/24")
	p.node.Addr(t, "veth0", "fd00::1/64")
	far := p.farMAC(t)
	lladdr := far.LinkLocal()
	before := p.state(t)
	got := p.resolve(t, 10*time.Second, gateway4, gateway6, lladdr)
	want := map[netip.Addr]netstate.MAC{gateway4: far, gateway6: far, lladdr: far}
	if diff := cmp.Diff(want, got, asValues); diff != "" {
		t.Errorf("got (-want +got):\n%s", diff)
	}
	p.wantState(t, before)
	if n := p.changes(func() { p.resolve(t, 10*time.Second, gateway4, gateway6, lladdr) }); n > 0 {
		t.Errorf("to ask for what is known takes %d changes", n)
	}
}

func TestNeighboursThatDoNotAnswerAreMissing(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.node.Addr(t, "veth0", "10.244.1.1/24")
	before := p.state(t)
	start := time.Now()
	got := p.resolve(t, 300*time.Millisecond, gateway4, nobody4, nobody6)
	if diff := cmp.Diff(map[netip.Addr]netstate.MAC{gateway4: p.farMAC(t)}, got, asValues); diff != "" {
		t.Errorf("got (-want +got):\n%s", diff)
	}
	if took := time.Since(start); took < 300*time.Millisecond || took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	p.wantState(t, before)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := p.k.Resolve(ended, "eth0", []netip.Addr{gateway4}); err != nil || len(got) > 0 {
		t.Errorf("after the end of its context: %v, %v", got, err)
	}
}

func TestNeighboursThatAreKnownAreTakenWithoutCapability(t *testing.T) {
	t.Parallel()
	p := newPod(t, append(dualStack[:2:2],
		"neigh add 10.244.1.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0",
		"neigh add 10.244.1.2 lladdr 02:00:00:00:00:02 nud stale dev eth0",
		"neigh add 10.244.1.3 lladdr 02:00:00:00:00:03 nud noarp dev eth0",
		"neigh add fd00::4 lladdr 02:00:00:00:00:04 nud reachable dev eth0",
	))
	want := map[netip.Addr]netstate.MAC{}
	for i, a := range []string{"10.244.1.1", "10.244.1.2", "10.244.1.3", "fd00::4"} {
		want[netip.MustParseAddr(a)] = netstate.MAC{2, 0, 0, 0, 0, byte(i + 1)}
	}
	var addrs []netip.Addr
	for a := range want {
		addrs = append(addrs, a)
	}
	p.inside(t, func(k *Kernel) {
		got, err := k.Resolve(t.Context(), "eth0", addrs)
		if diff := cmp.Diff(want, got, asValues); diff != "" || err != nil {
			t.Errorf("%v; got (-want +got):\n%s", err, diff)
		}
		_, err = k.Resolve(t.Context(), "eth0", []netip.Addr{nobody4})
		wantExplained(t, "asking", err)
	}, unix.CAP_NET_ADMIN)
}

// The neighbour comes late, after the kernel has given up: it asks three times, a
// second apart.
func TestNeighboursAreAskedForUntilTheyAnswer(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.Do(t, func() {
		for _, family := range []string{"ipv4", "ipv6"} {
			if err := os.WriteFile("/proc/sys/net/"+family+"/neigh/eth0/retrans_time_ms", []byte("50"), 0); err != nil {
				t.Error(err)
			}
		}
	})
	type answer struct {
		got map[netip.Addr]netstate.MAC
		err error
	}
	done := make(chan answer)
	go func() {
		got, err := p.k.Resolve(t.Context(), "eth0", []netip.Addr{gateway4, gateway6})
		done <- answer{got, err}
	}()
	until(t, "the kernel to give up", func() bool {
		return strings.Contains(p.Run(t, "ip", "neigh", "show", "nud", "failed"), "10.244.1.1")
	})
	p.node.Addr(t, "veth0", "10.244.1.1/24")
	p.node.Addr(t, "veth0", "fd00::1/64")
	if a := <-done; a.err != nil || len(a.got) != 2 {
		t.Errorf("got %v, %v", a.got, a.err)
	}
}

// A pod is often wired while its own addresses are being looked for: the kernel
// has no source for a question before.
func TestNeighboursAreAskedForOnceThePodHasAnAddress(t *testing.T) {
	t.Parallel()
	p := &pod{NS: netnstest.New(t), node: netnstest.New(t)}
	netnstest.Veth(t, p.NS, "eth0", p.node, "veth0")
	p.k = open(t, p.Path)
	p.Addr(t, "eth0", "fd00::7/64")
	p.node.Addr(t, "veth0", "fd00::1/64")
	if got := p.resolve(t, 10*time.Second, gateway6); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestWhatCannotBeAskedForIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, shape := range map[string][]string{
		"no source":           {"link set eth0 addrgenmode none", "addr flush dev eth0", "addr add fd00::7/64 dev eth0"},
		"no IPv6":             {"link set eth0 mtu 576"},
		"a link that is down": {"link set eth0 down"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, shape)
			if got, err := p.k.Resolve(t.Context(), "eth0", []netip.Addr{gateway6}); err != nil || len(got) > 0 {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	p := newPod(t, nil)
	_, err := p.k.Resolve(t.Context(), "eth9", []netip.Addr{gateway6})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link that is not there: %v", err)
	}
}
