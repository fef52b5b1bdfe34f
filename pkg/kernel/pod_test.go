//go:build linux

package kernel

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// pod is a namespace with an eth0 whose other end is on a node.
type pod struct {
	*netnstest.NS
	node *netnstest.NS
	k    *Kernel
}

// newPod makes a pod of a shape, which is in lines of ip(8), and waits until its
// addresses have settled.
func newPod(t *testing.T, shape []string, opts ...Option) *pod {
	t.Helper()
	p := &pod{NS: netnstest.New(t), node: netnstest.New(t)}
	for _, ns := range []*netnstest.NS{p.NS, p.node} {
		withoutDAD(t, ns)
	}
	netnstest.Veth(t, p.NS, "eth0", p.node, "veth0")
	p.k = open(t, p.Path, opts...)
	// A route with a source takes an address that has settled.
	routes := slices.IndexFunc(shape, func(line string) bool {
		return !strings.HasPrefix(line, "addr ") && !strings.HasPrefix(line, "link ")
	})
	if routes < 0 {
		routes = len(shape)
	}
	p.IP(t, append([]string{"link set eth0 mtu 1450"}, shape[:routes]...)...)
	p.settle(t)
	p.IP(t, shape[routes:]...)
	return p
}

// withoutDAD makes duplicate address detection take no time.
func withoutDAD(t *testing.T, ns *netnstest.NS) {
	t.Helper()
	ns.Do(t, func() {
		// The first probe waits for a random part of the second setting.
		for _, name := range []string{"dad_transmits", "router_solicitation_delay"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte("0"), 0); err != nil {
				t.Error(err)
			}
		}
	})
}

func open(t testing.TB, path string, opts ...Option) *Kernel {
	t.Helper()
	k, err := Open(path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// settle waits until each end of a veth has its link-local address, if it makes
// itself one.
func (p *pod) settle(t *testing.T) {
	t.Helper()
	until(t, "links to make themselves addresses", func() bool {
		s := p.settled(t)
		return !slices.ContainsFunc(s.Links, func(l netstate.Link) bool {
			waits := l.Kind == "veth" && l.Up && l.AddrGenMode == "eui64"
			return waits && !slices.ContainsFunc(s.AddrsOf(l.Index), func(a netstate.Addr) bool {
				return a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast()
			})
		})
	})
}

// settled is a snapshot in which no address is tentative and each is known to be
// the host's own: with IPv6 the kernel does both a moment later.
func (p *pod) settled(t testing.TB) (s netstate.Snapshot) {
	t.Helper()
	until(t, "addresses to settle", func() bool {
		s = p.snapshot(t)
		return !slices.ContainsFunc(s.Addrs, func(a netstate.Addr) bool {
			own := slices.ContainsFunc(s.Routes, func(r netstate.Route) bool {
				return r.Table == netstate.TableLocal && r.Dst == netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen())
			})
			return a.Prefix.Addr().Is6() && (a.Flags&unix.IFA_F_TENTATIVE != 0 || !own)
		})
	})
	return s
}

// until waits for a condition.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited ten seconds in vain for %s", what)
		}
	}
}

func (p *pod) snapshot(t testing.TB) netstate.Snapshot {
	t.Helper()
	s, err := p.k.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *pod) do(t testing.TB, steps ...plan.Step) {
	t.Helper()
	for _, s := range steps {
		if err := p.k.Do(t.Context(), s); err != nil {
			t.Fatalf("doing %s: %v", s.Kind(), err)
		}
	}
}

func (p *pod) undo(t testing.TB, steps ...plan.Step) {
	t.Helper()
	for _, s := range slices.Backward(steps) {
		if err := p.k.Undo(t.Context(), s); err != nil {
			t.Fatalf("undoing %s: %v", s.Kind(), err)
		}
	}
}

// changes counts the changes that f asks the kernel for.
func (p *pod) changes(f func()) (n int) {
	real := p.k.route.execute
	defer func() { p.k.route.execute = real }()
	p.k.route.execute = func(req *nl.NetlinkRequest) ([][]byte, error) {
		if req.Flags&unix.NLM_F_ACK != 0 {
			n++
		}
		return real(req)
	}
	f()
	return n
}

// running are the numbers that change by themselves.
var running = regexp.MustCompile(`\b\d+sec|timer +\d+\.\d+`)

// dump is all that the tools of the namespace's owner can see of it, without
// times, which run.
func (p *pod) dump(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, line := range []string{
		"ip -d link", "ip -d addr", "ip -4 -d route show table all", "ip -6 -d route show table all",
		"ip -4 rule", "ip -6 rule", "ip -d neigh show nud permanent", "tc qdisc", "bridge -d link",
	} {
		words := strings.Fields(line)
		b.WriteString("$ " + line + "\n" + p.Run(t, words[0], words[1:]...))
	}
	return running.ReplaceAllString(b.String(), "TIME")
}

// timeless is a snapshot without what time alone changes.
func timeless(s netstate.Snapshot) netstate.Snapshot {
	s.Uptime = 0
	s.Addrs = slices.Clone(s.Addrs)
	for i := range s.Addrs {
		for _, lft := range []*uint32{&s.Addrs[i].ValidLft, &s.Addrs[i].PreferredLft} {
			if *lft != netstate.Forever {
				*lft = min(*lft, 1)
			}
		}
	}
	s.Routes = slices.Clone(s.Routes)
	for i := range s.Routes {
		s.Routes[i].Attrs = lasting(s.Routes[i].Attrs)
	}
	return s
}

// state is everything that must be put back.
type state struct {
	Snapshot netstate.Snapshot
	Dump     []string
}

func (p *pod) state(t testing.TB) state {
	t.Helper()
	return state{timeless(p.settled(t)), strings.Split(p.dump(t), "\n")}
}

// wantState waits for the state that is wanted: some of it the kernel does a
// moment later.
func (p *pod) wantState(t testing.TB, want state) {
	t.Helper()
	diff := ""
	for range 3 {
		if diff = cmp.Diff(want, p.state(t), asValues); diff == "" {
			return
		}
	}
	t.Errorf("state differs (-want +got):\n%s", diff)
}

// asValues compares addresses as the values they are, and takes no list for an
// empty one.
var asValues = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

var (
	tapMAC    = netstate.MAC{0x02, 0, 0, 0, 0, 0x11}
	bridgeMAC = netstate.MAC{0x02, 0, 0, 0, 0, 0x22}
	portMAC   = netstate.MAC{0x02, 0, 0, 0, 0, 0x33}
)

// bridgeSteps are what the bridge binding does to eth0.
func bridgeSteps(s netstate.Snapshot) plan.Steps {
	link, _ := s.LinkByName("eth0")
	return plan.Steps{
		plan.CreateTap{Name: "tap-eth0", MAC: tapMAC, MTU: link.MTU, Queues: 1, Owner: &plan.Owner{UID: 107, GID: -1}},
		plan.CreateBridge{Name: "pw-eth0", MAC: bridgeMAC, MTU: link.MTU},
		plan.AddFilter{Link: "pw-eth0", Name: "deaf", Drop: []plan.Match{{Kind: plan.MatchAll}}},
		plan.AddFilter{Link: "tap-eth0", Name: "guest", Drop: []plan.Match{{Kind: plan.MatchDHCPClient}}},
		plan.AddFilter{Link: "eth0", Name: "foreign", Drop: []plan.Match{{Kind: plan.MatchDHCPServer}}, TxQLen: &link.TxQLen},
		takeStep(s),
		plan.SetMAC{Link: "eth0", MAC: portMAC, Was: link.MAC},
		plan.AttachPort{Link: "eth0", Bridge: "pw-eth0", WasUp: link.Up},
		plan.AttachPort{Link: "tap-eth0", Bridge: "pw-eth0"},
	}
}

func takeStep(s netstate.Snapshot) plan.TakeAddresses {
	link, _ := s.LinkByName("eth0")
	return plan.TakeAddresses{
		Link: "eth0", Index: link.Index, AddrGenMode: link.AddrGenMode, Uptime: int64(s.Uptime),
		Addrs: s.AddrsOf(link.Index), Routes: s.RoutesOf(link.Index), Neighbors: s.NeighborsOf(link.Index),
	}
}
