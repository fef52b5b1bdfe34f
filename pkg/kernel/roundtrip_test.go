//go:build linux

package kernel

import (
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// shapes are pods as CNI plugins leave them, and odder ones.
var shapes = []struct {
	name  string
	lines []string
}{
	{"bridge plugin", []string{
		"addr add 10.244.1.7/24 brd 10.244.1.255 dev eth0",
		"route add default via 10.244.1.1",
	}},
	{"ptp plugin", []string{
		"addr add 10.244.1.7/24 brd 10.244.1.255 dev eth0",
		"route del 10.244.1.0/24 dev eth0",
		"route add 10.244.1.1 dev eth0 scope link src 10.244.1.7",
		"route add 10.244.1.0/24 via 10.244.1.1 src 10.244.1.7",
		"route add default via 10.244.1.1",
	}},
	{"calico", []string{
		"addr add 10.65.0.2/32 dev eth0",
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1",
		"neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0",
	}},
	{"aws", []string{
		"addr add 10.0.3.9/32 dev eth0",
		"route add 169.254.1.1 dev eth0 scope link",
		"route add default via 169.254.1.1",
		"neigh add 169.254.1.1 lladdr 0e:00:00:00:00:01 nud permanent dev eth0",
	}},
	{"labels and secondaries", []string{
		"addr add 10.244.1.7/24 brd + dev eth0",
		"addr add 10.244.1.8/24 brd + dev eth0 label eth0:vip",
		"addr add 192.0.2.5/25 dev eth0 label eth0:x scope link",
		"addr add 10.244.1.9/24 dev eth0",
		"addr add 198.51.100.1 peer 198.51.100.2/32 dev eth0",
		"addr add 203.0.113.4/24 dev eth0 metric 77",
		"addr add 203.0.114.4/24 dev eth0 noprefixroute",
		"route add default via 10.244.1.1 src 10.244.1.8",
	}},
	{"finite lifetimes", []string{
		"addr add 10.244.1.7/24 dev eth0 valid_lft 3600 preferred_lft 1800",
		"addr add fd00::7/64 dev eth0 valid_lft 7200 preferred_lft 3600",
		"addr add fd00::8/64 dev eth0 valid_lft 7200 preferred_lft 0",
		"route add default via 10.244.1.1",
		"-6 route add fd01::/64 via fd00::1 expires 5000",
	}},
	{"routes with attributes", []string{
		"addr add 10.244.1.7/24 dev eth0",
		"addr add 10.244.1.8/24 dev eth0",
		"route add default via 10.244.1.1 metric 100 src 10.244.1.8 proto static mtu 1400 advmss 1360",
		"route add default via 10.244.1.2 metric 200 initcwnd 20 rto_min 50ms",
		"route add 172.16.0.0/12 via 10.244.1.1 table 100",
		"route add 172.16.0.0/12 via 10.9.9.9 dev eth0 onlink table 1000 realm 5",
		"route add 172.17.0.0/16 nexthop via 10.244.1.1 dev eth0 weight 3 nexthop via 10.244.1.2 dev eth0",
		"route add 172.18.0.0/16 via 10.244.1.1 tos 0x10",
		"route append 172.19.0.0/16 via 10.244.1.1",
		"route append 172.19.0.0/16 via 10.244.1.2",
		"route add 172.20.0.0/16 via 172.16.5.5 dev eth0 onlink",
		"route add 172.21.0.0/16 via inet6 fe80::99 dev eth0",
		"route add blackhole 172.30.0.0/16",
		"route add unreachable 172.31.0.0/16 metric 9",
		"route add local 10.77.0.0/16 dev eth0 table local proto static",
		"route add 10.50.0.0/16 dev eth0 scope link proto 99 mtu lock 1300",
		"rule add from 10.244.1.8 lookup 100 priority 500",
	}},
	{"gateway behind a gateway", []string{
		"addr add 10.244.1.7/32 dev eth0",
		"route add 10.0.0.1 dev eth0 scope link",
		"route add 10.1.0.0/16 via 10.0.0.1",
		"route add default via 10.0.0.1 onlink dev eth0",
	}},
	{"dual stack", []string{
		"addr add 10.244.1.7/24 brd 10.244.1.255 dev eth0",
		"addr add fd00:10:244:1::7/64 dev eth0",
		"addr add fd00:10:244:1::8/64 dev eth0",
		"addr add fd00:10:244:2::9/128 dev eth0 nodad",
		"addr add 2001:db8::5 peer 2001:db8::6 dev eth0",
		"addr add fe80::1234/64 dev eth0",
		"route add default via 10.244.1.1",
		"-6 route add default via fd00:10:244:1::1",
		"-6 route add fd00:20::/64 via fe80::1 dev eth0 src fd00:10:244:1::8 metric 7 pref high",
		"-6 route add fd00:21::/64 nexthop via fd00:10:244:1::1 nexthop via fd00:10:244:1::2 weight 4",
		"-6 route add fd00:22::/64 dev eth0 mtu 1300 table 77",
		"-6 route add unreachable fd00:23::/64",
		"-6 route add fd00:24::/64 from fd00:10:244:1::/64 via fd00:10:244:1::1",
		"neigh add fd00:10:244:1::1 lladdr 0e:00:00:00:00:02 nud permanent dev eth0",
		"neigh add 10.244.1.1 lladdr 0e:00:00:00:00:01 nud permanent dev eth0 router",
	}},
	{"IPv6 ptp plugin", []string{
		"addr add fd00::7/64 dev eth0 nodad",
		"-6 route del fd00::/64 dev eth0",
		"-6 route add fd00::1 dev eth0 src fd00::7",
		"-6 route add fd00::/64 via fd00::1 src fd00::7",
		"-6 route add default via fd00::1",
	}},
	{"IPv6 calico", []string{
		"addr add fd00:65::2/128 dev eth0",
		"-6 route add fe80::ecee:eeff:feee:eeee dev eth0",
		"-6 route add default via fe80::ecee:eeff:feee:eeee dev eth0",
	}},
	{"no addresses generated", []string{
		"link set eth0 addrgenmode none",
		"addr flush dev eth0 scope link",
		"addr add fd00::7/64 dev eth0",
	}},
	{"next hop objects", []string{
		"addr add 10.244.1.7/24 dev eth0",
		"nexthop add id 5 via 10.244.1.1 dev eth0",
		"route add 10.60.0.0/16 nhid 5",
	}},
	{"no queue", []string{
		"link set eth0 txqueuelen 0",
		"addr add 10.244.1.7/24 dev eth0",
	}},
	{"no address", nil},
}

func TestUndoingEveryStepLeavesThePodAsItWas(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, shape.lines)
			before, steps := p.state(t), throughFile(t, bridgeSteps(p.snapshot(t)))

			p.do(t, steps...)
			p.wantTaken(t)
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

// throughFile is the steps as a teardown reads them.
func throughFile(t *testing.T, steps plan.Steps) plan.Steps {
	t.Helper()
	b, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	var out plan.Steps
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// wantTaken checks that the pod has nothing left of its own, and is wired.
func (p *pod) wantTaken(t *testing.T) {
	t.Helper()
	until(t, "the bridge to have its carrier", func() bool {
		return strings.Contains(p.Run(t, "ip", "link", "show", "pw-eth0"), "state UP")
	})
	s := p.snapshot(t)
	bridge, _ := s.LinkByName("pw-eth0")
	for _, name := range []string{"eth0", "tap-eth0", "pw-eth0"} {
		l, ok := s.LinkByName(name)
		if !ok || !l.Up || l.MTU != 1450 || l.AddrGenMode != "none" {
			t.Errorf("link %q is %+v", name, l)
		}
		if name != "pw-eth0" && (l.Master != bridge.Index || !l.NoLearning) {
			t.Errorf("port %q is %+v", name, l)
		}
		if addrs := s.AddrsOf(l.Index); len(addrs) > 0 {
			t.Errorf("%q has addresses: %+v", name, addrs)
		}
		if neighbors := s.NeighborsOf(l.Index); len(neighbors) > 0 {
			t.Errorf("%q has neighbours: %+v", name, neighbors)
		}
		for _, r := range s.RoutesOf(l.Index) {
			if !r.Dst.Addr().IsMulticast() {
				t.Errorf("%q has a route: %+v", name, r)
			}
		}
	}
}

// A run that is killed stops between two requests to the kernel: here, before
// each one of them in turn.
func TestAStepThatWasCutOffIsFinishedOrTakenBack(t *testing.T) {
	for _, shape := range shapes {
		if shape.name != "dual stack" && shape.name != "ptp plugin" && shape.name != "labels and secondaries" {
			continue
		}
		for _, undoing := range []bool{false, true} {
			name := shape.name + " doing"
			if undoing {
				name = shape.name + " undoing"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := newPod(t, shape.lines)
				steps := bridgeSteps(p.snapshot(t))
				before := p.settled(t)
				p.do(t, steps...)
				done := p.settled(t)
				p.undo(t, steps...)
				for requests := 0; ; requests++ {
					if undoing {
						p.do(t, steps...)
					}
					finished := p.cutOff(t, requests, steps, undoing)
					if !undoing && requests%3 == 0 {
						p.do(t, steps...)
						compareWired(t, done, p.settled(t))
					}
					p.undo(t, steps...)
					compare(t, before, p.settled(t))
					if finished {
						break
					}
					if t.Failed() {
						t.Fatalf("cut off after %d requests", requests)
					}
				}
			})
		}
	}
}

var errCutOff = errors.New("cut off")

// cutOff takes steps until so many changes were asked for, and reports whether
// all were taken.
func (p *pod) cutOff(t *testing.T, requests int, steps plan.Steps, undoing bool) bool {
	t.Helper()
	real := p.k.route.execute
	defer func() { p.k.route.execute = real }()
	p.k.route.execute = func(req *nl.NetlinkRequest) ([][]byte, error) {
		if req.Flags&unix.NLM_F_ACK == 0 {
			return real(req)
		}
		if requests--; requests < 0 {
			return nil, errCutOff
		}
		return real(req)
	}
	order, take := slices.Values(steps), p.k.Do
	if undoing {
		order, take = values(slices.Backward(steps)), p.k.Undo
	}
	for s := range order {
		err := take(t.Context(), s)
		if errors.Is(err, errCutOff) {
			return false
		}
		if err != nil {
			t.Fatalf("%s: %v", s.Kind(), err)
		}
	}
	return true
}

func values[K, V any](pairs iter.Seq2[K, V]) iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, v := range pairs {
			if !yield(v) {
				return
			}
		}
	}
}

func compare(t *testing.T, want, got netstate.Snapshot) {
	t.Helper()
	if diff := cmp.Diff(timeless(want), timeless(got), asValues); diff != "" {
		t.Errorf("snapshot differs (-want +got):\n%s", diff)
	}
}

// compareWired compares pods in which bridge and tap were made anew, and have
// other numbers.
func compareWired(t *testing.T, want, got netstate.Snapshot) {
	t.Helper()
	numbers := map[int]int{}
	for _, l := range got.Links {
		if w, ok := want.LinkByName(l.Name); ok {
			numbers[l.Index] = w.Index
		}
	}
	for i := range got.Links {
		got.Links[i].Index = numbers[got.Links[i].Index]
		got.Links[i].Master = numbers[got.Links[i].Master]
	}
	byIndex := func(a, b netstate.Link) int { return a.Index - b.Index }
	slices.SortFunc(got.Links, byIndex)
	slices.SortFunc(want.Links, byIndex)
	for i := range got.Routes {
		got.Routes[i].Link = numbers[got.Routes[i].Link]
	}
	for i := range got.Filters {
		got.Filters[i].Link = numbers[got.Filters[i].Link]
	}
	for i := range got.Qdiscs {
		got.Qdiscs[i].Link = numbers[got.Qdiscs[i].Link]
	}
	compare(t, want, got)
}
