//go:build linux

package kernel

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/netstate"
)

var dualStack = []string{
	"addr add 10.244.1.7/24 dev eth0",
	"addr add fd00::7/64 dev eth0",
	"route add default via 10.244.1.1",
	"-6 route add default via fd00::1 src fd00::7",
}

// With duplicate address detection as it is by default: it takes a second, and
// the addresses that come back must be usable at once all the same.
func TestAddressesComeBackSettled(t *testing.T) {
	t.Parallel()
	pod := &pod{NS: netnstest.New(t), node: netnstest.New(t)}
	netnstest.Veth(t, pod.NS, "eth0", pod.node, "veth0")
	pod.k = open(t, pod.Path)
	pod.IP(t, dualStack[:2]...)
	pod.settle(t)
	pod.IP(t, dualStack[2:]...)
	before, step := pod.snapshot(t), takeStep(pod.snapshot(t))
	pod.do(t, step)
	pod.undo(t, step)
	after := pod.snapshot(t)
	if diff := cmp.Diff(timeless(before).Addrs, timeless(after).Addrs, asValues); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// The router of a pod's network may be advertising; the kernel may be about to
// finish an address.
func TestAddressThatTheLinkHasMadeItselfSinceIsTakenToo(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{"link set eth0 addrgenmode none", "addr flush dev eth0", "addr add 10.244.1.7/24 dev eth0"})
	step := takeStep(p.snapshot(t))
	p.IP(t, "addr add fe80::99/64 dev eth0 nodad", "addr add 10.99.0.1/24 dev eth0")
	p.do(t, step)
	link, _ := p.snapshot(t).LinkByName("eth0")
	addrs := p.snapshot(t).AddrsOf(link.Index)
	if len(addrs) != 1 || addrs[0].Prefix.String() != "10.99.0.1/24" {
		t.Errorf("left are %+v, want only what somebody else has added", addrs)
	}
}

func TestLinkStaysWithoutAddressesAfterItsCarrierComesBack(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	step := takeStep(p.snapshot(t))
	p.do(t, step)
	p.node.Down(t, "veth0")
	p.node.Up(t, "veth0")
	p.IP(t, "link set eth0 down", "link set eth0 up")
	until(t, "eth0 to have its carrier", func() bool {
		return strings.Contains(p.Run(t, "ip", "link", "show", "eth0"), "state UP")
	})
	link, _ := p.snapshot(t).LinkByName("eth0")
	if addrs := p.snapshot(t).AddrsOf(link.Index); len(addrs) > 0 {
		t.Errorf("it has %+v", addrs)
	}
}

func TestLifetimesRunOnWhileTheAddressIsAway(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{
		"addr add 10.244.1.7/24 dev eth0 valid_lft 5000 preferred_lft 500",
		"addr add 10.244.2.7/24 dev eth0 valid_lft 900 preferred_lft 900",
		"addr add fd00::7/64 dev eth0 valid_lft 5000 preferred_lft 500",
		"addr add fd00::8/64 dev eth0 valid_lft 900 preferred_lft 900",
		"addr add fd00::9/64 dev eth0",
		"-6 route add fd01::/64 via fd00::1 expires 900",
		"-6 route add fd02::/64 via fd00::1 expires 5000",
	})
	step := takeStep(p.snapshot(t))
	step.Uptime -= int64(1000 * time.Second)
	p.do(t, step)
	p.undo(t, step)
	left := map[string][2]uint32{}
	for _, a := range p.snapshot(t).AddrsOf(step.Index) {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			left[a.Prefix.String()] = [2]uint32{a.ValidLft, a.PreferredLft}
		}
	}
	for prefix, want := range map[string][2]uint32{
		"10.244.1.7/24": {4000, 0}, "fd00::7/64": {4000, 0}, "fd00::9/64": {netstate.Forever, netstate.Forever},
	} {
		got, ok := left[prefix]
		if !ok || want[0]-got[0] > 5 || got[1] != want[1] {
			t.Errorf("%s has %d seconds left, want %d", prefix, got, want)
		}
		delete(left, prefix)
	}
	if len(left) > 0 {
		t.Errorf("expired, but there: %v", left)
	}
	routes := p.Run(t, "ip", "-6", "route")
	if strings.Contains(routes, "fd01::/64") || !strings.Contains(routes, "fd02::/64") {
		t.Errorf("routes are\n%s", routes)
	}
}

// The gateway of a route may be reached by an address alone that has run off.
func TestARouteByWayOfAnExpiredAddressIsNoFailure(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{
		"addr add 10.244.1.7/24 dev eth0 valid_lft 900 preferred_lft 900",
		"addr add 10.244.2.7/24 dev eth0",
		"route add default via 10.244.1.1",
		"route add 10.9.0.0/16 via 10.244.2.1",
	})
	step := takeStep(p.snapshot(t))
	step.Uptime -= int64(1000 * time.Second)
	p.do(t, step)
	p.undo(t, step)
	routes := p.Run(t, "ip", "route")
	if strings.Contains(routes, "default") || !strings.Contains(routes, "10.9.0.0/16") {
		t.Errorf("routes are\n%s", routes)
	}
}

// Somebody may have put an address back by hand, wrongly, or in another order.
func TestAddressesThatAreThereAreMadeWhatTheyWere(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"one of them":        {"addr add 10.244.1.8/24 dev eth0"},
		"another label":      {"addr add 10.244.1.7/24 dev eth0 label eth0:9"},
		"another scope":      {"addr add 10.244.1.7/24 dev eth0 scope link"},
		"another metric":     {"addr add 10.244.1.7/24 dev eth0 metric 900"},
		"all, other order":   {"addr add 10.244.1.8/24 dev eth0", "addr add 10.244.1.7/24 dev eth0"},
		"IPv6 of no routes":  {"addr add fd00::7/64 dev eth0 noprefixroute nodad"},
		"IPv6, other order":  {"addr add fd00::8/64 dev eth0", "addr add fd00::7/64 dev eth0"},
		"all as they were":   {"addr add 10.244.1.7/24 dev eth0", "addr add 10.244.1.8/24 dev eth0", "addr add fd00::7/64 dev eth0", "addr add fd00::8/64 dev eth0"},
		"a route":            {"addr add 10.244.1.7/24 dev eth0", "route add default via 10.244.1.1"},
		"a neighbour":        {"neigh add 10.244.1.1 lladdr 02:00:00:00:00:77 nud permanent dev eth0"},
		"mode of generation": {"link set eth0 addrgenmode eui64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, []string{
				"addr add 10.244.1.7/24 dev eth0", "addr add 10.244.1.8/24 dev eth0",
				"addr add fd00::7/64 dev eth0", "addr add fd00::8/64 dev eth0",
				"route add default via 10.244.1.1",
				"neigh add 10.244.1.1 lladdr 02:00:00:00:00:78 nud permanent dev eth0",
			})
			before, step := p.state(t), takeStep(p.snapshot(t))
			p.do(t, step)
			p.IP(t, lines...)
			p.undo(t, step)
			p.wantState(t, before)
		})
	}
}

func TestAddressOfAnotherStays(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	step := takeStep(p.snapshot(t))
	p.do(t, step)
	p.IP(t, "addr add 10.99.0.1/24 dev eth0", "route add 10.98.0.0/16 via 10.99.0.2", "addr add fd99::1/64 dev eth0")
	p.undo(t, step)
	addrs, routes := p.Run(t, "ip", "addr", "show", "eth0"), p.Run(t, "ip", "route")
	for _, want := range []string{"10.99.0.1/24", "fd99::1/64"} {
		if !strings.Contains(addrs, want) {
			t.Errorf("no %s in\n%s", want, addrs)
		}
	}
	for _, want := range []string{"10.98.0.0/16", "10.99.0.0/24"} {
		if !strings.Contains(routes, want) {
			t.Errorf("no %s in\n%s", want, routes)
		}
	}
}

func TestRouteThatCannotBeGivenBackIsAnErrorAndTheOthersAre(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before, step := p.state(t), takeStep(p.snapshot(t))
	p.do(t, step)
	bad := netstate.Route{
		Link: step.Index, Dst: netip.MustParsePrefix("10.1.0.0/16"), Via: netip.MustParseAddr("192.0.2.99"),
		Table: netstate.TableMain, Protocol: unix.RTPROT_BOOT, Type: netstate.TypeUnicast,
	}
	good := step.Routes
	step.Routes = append([]netstate.Route{bad}, slices.Clone(good)...)
	err := p.k.Undo(t.Context(), step)
	if !errors.Is(err, unix.ENETUNREACH) || !strings.Contains(err.Error(), "10.1.0.0/16 via 192.0.2.99") {
		t.Errorf("got %v", err)
	}
	step.Routes = good
	p.undo(t, step)
	p.wantState(t, before)
}

func TestAddressesOfALinkThatIsGoneAreAnError(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	step := takeStep(p.snapshot(t))
	p.Delete(t, "eth0")
	if err := p.k.Do(t.Context(), step); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("doing: %v", err)
	}
	if err := p.k.Undo(t.Context(), step); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("undoing: %v", err)
	}
}

// The sandbox's network was made anew under the same name.
func TestAnotherLinkOfTheNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	step := takeStep(p.snapshot(t))
	p.Delete(t, "eth0")
	netnstest.Veth(t, p.NS, "eth0", p.node, "veth0")
	p.Addr(t, "eth0", "10.244.1.9/24")
	before := p.Run(t, "ip", "-4", "addr")
	for _, err := range []error{p.k.Do(t.Context(), step), p.k.Undo(t.Context(), step)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
	if diff := cmp.Diff(before, p.Run(t, "ip", "-4", "addr")); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// A link with a smaller MTU than IPv6 needs (RFC 8200 §5) has no IPv6, and so has
// none in a kernel that was booted with ipv6.disable=1; with the sysctl it has, but
// no address.
func TestLinkWithoutIPv6(t *testing.T) {
	t.Parallel()
	for name, shape := range map[string]struct {
		mtu     string
		off     []string
		without bool
	}{
		"MTU 1200":                    {"1200", nil, true},
		"MTU 576":                     {"576", nil, true},
		"off for the link":            {"1450", []string{"eth0"}, false},
		"off for the pod":             {"1450", []string{"all", "default"}, false},
		"off for the pod and MTU 576": {"576", []string{"all", "default"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, []string{
				"link set eth0 mtu " + shape.mtu, "addr add 10.244.1.7/24 dev eth0", "route add default via 10.244.1.1",
				"neigh add 10.244.1.1 lladdr 02:00:00:00:00:78 nud permanent dev eth0",
			})
			p.Do(t, func() {
				for _, link := range shape.off {
					if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("1"), 0); err != nil {
						t.Error(err)
					}
				}
			})
			before, s := p.state(t), p.snapshot(t)
			link, _ := s.LinkByName("eth0")
			if without := link.AddrGenMode == ""; without != shape.without {
				t.Fatalf("it has %+v", link)
			}
			if ll := slices.ContainsFunc(s.AddrsOf(link.Index), func(a netstate.Addr) bool { return a.Prefix.Addr().Is6() }); ll {
				t.Fatal("it has an IPv6 address")
			}
			steps := p.planned(t)
			p.do(t, steps...)
			until(t, "the bridge to have its carrier", func() bool {
				return strings.Contains(p.Run(t, "ip", "link", "show", "pw-eth0"), "state UP")
			})
			p.wantNoIPv6(t, "wired")
			for _, name := range []string{"eth0", "tap-eth0", "pw-eth0"} {
				if l, _ := p.snapshot(t).LinkByName(name); !l.Up || l.MTU != link.MTU {
					t.Errorf("link %q is %+v", name, l)
				}
			}
			after := p.state(t)
			p.do(t, steps...)
			p.wantState(t, after)
			p.undo(t, steps...)
			p.wantState(t, before)
			p.undo(t, steps...)
			p.wantState(t, before)
		})
	}
}

func TestStepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before := p.state(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, s := range bridgeSteps(p.snapshot(t)) {
		if err := p.k.Do(ctx, s); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", s.Kind(), err)
		}
	}
	p.wantState(t, before)
}
