//go:build linux

package kernel

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

func TestSnapshotReadsWhatWasSet(t *testing.T) {
	t.Parallel()
	p := newPod(t, []string{
		"link set eth0 address 0a:58:0a:f4:01:07 addrgenmode none",
		"addr flush dev eth0",
		"addr add 10.244.1.7/24 brd 10.244.1.255 dev eth0",
		"addr add 192.0.2.1 peer 192.0.2.2/31 dev eth0 label eth0:p scope link",
		"addr add fd00::7/64 dev eth0 nodad valid_lft 5000 preferred_lft 0",
		"route add default via 10.244.1.1 metric 5",
		"route add 10.8.0.0/16 nexthop via 10.244.1.1 weight 2 nexthop via inet6 fe80::1 dev eth0",
		"route add blackhole 10.9.0.0/16 table 9999",
		"-6 route add default via fe80::1 dev eth0",
		"neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0",
		"neigh add 169.254.1.2 lladdr ee:ee:ee:ee:ee:ee nud stale dev eth0",
	})
	s := p.snapshot(t)
	link, _ := s.LinkByName("eth0")
	i := link.Index
	want := netstate.Link{
		Index: i, Name: "eth0", Kind: "veth", MAC: guestMAC, MTU: 1450, TxQLen: 1000, Up: true, AcceptRA: 1, AddrGenMode: "none",
	}
	if diff := cmp.Diff(want, link, asValues); diff != "" {
		t.Errorf("link (-want +got):\n%s", diff)
	}
	if lo, _ := s.LinkByName("lo"); !lo.Loopback || !lo.Up || lo.Kind != "" {
		t.Errorf("lo is %+v", lo)
	}
	ip, prefix := netip.MustParseAddr, netip.MustParsePrefix
	forever := netstate.Forever
	wantAddrs := []netstate.Addr{
		{Link: i, Prefix: prefix("192.0.2.1/31"), Peer: ip("192.0.2.2"), Label: "eth0:p", Scope: netstate.ScopeLink, Flags: unix.IFA_F_PERMANENT, ValidLft: forever, PreferredLft: forever},
		{Link: i, Prefix: prefix("10.244.1.7/24"), Broadcast: ip("10.244.1.255"), Label: "eth0", Flags: unix.IFA_F_PERMANENT, ValidLft: forever, PreferredLft: forever},
		{Link: i, Prefix: prefix("fd00::7/64"), Flags: unix.IFA_F_NODAD | unix.IFA_F_DEPRECATED, ValidLft: 1},
	}
	if diff := cmp.Diff(wantAddrs, timeless(s).AddrsOf(i), asValues); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	wantRoutes(t, s, []netstate.Route{
		{Link: i, Dst: prefix("0.0.0.0/0"), Via: ip("10.244.1.1"), Priority: 5, Table: 254, Protocol: 3, Type: 1},
		{Dst: prefix("10.8.0.0/16"), Table: 254, Protocol: 3, Type: 1, NextHops: []netstate.NextHop{
			{Link: i, Via: ip("10.244.1.1"), Weight: 2}, {Link: i, Via: ip("fe80::1"), Weight: 1},
		}},
		{Dst: prefix("10.9.0.0/16"), Table: 9999, Protocol: 3, Type: netstate.TypeBlackhole},
		{Link: i, Dst: prefix("::/0"), Via: ip("fe80::1"), Priority: 1024, Table: 254, Protocol: 3, Type: 1},
		{Link: i, Dst: prefix("10.244.1.0/24"), PrefSrc: ip("10.244.1.7"), Table: 254, Protocol: 2, Scope: 253, Type: 1},
		{Link: i, Dst: prefix("10.244.1.7/32"), PrefSrc: ip("10.244.1.7"), Table: 255, Protocol: 2, Scope: 254, Type: netstate.TypeLocal},
	})
	wantNeighbors := []netstate.Neighbor{{
		Link: i, Addr: ip("169.254.1.1"), MAC: netstate.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}, State: netstate.NeighborPermanent,
	}}
	if diff := cmp.Diff(wantNeighbors, s.Neighbors, asValues); diff != "" {
		t.Errorf("neighbours (-want +got):\n%s", diff)
	}
}

// wantRoutes checks that routes are among those of a snapshot.
func wantRoutes(t *testing.T, s netstate.Snapshot, want []netstate.Route) {
	t.Helper()
	for _, w := range want {
		found := false
		for _, got := range s.Routes {
			got.Attrs = nil
			found = found || cmp.Equal(w, got, asValues)
		}
		if !found {
			t.Errorf("no route %+v in %+v", w, s.Routes)
		}
	}
}

func TestSnapshotReadsQdiscs(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.Run(t, "tc", "qdisc", "add", "dev", "eth0", "clsact")
	want := netstate.Qdisc{Link: p.Index(t, "eth0"), Kind: "clsact", Handle: 0xffff0000, Parent: 0xfffffff1}
	for _, q := range p.snapshot(t).Qdiscs {
		if q == want {
			return
		}
	}
	t.Errorf("no %+v in %+v", want, p.snapshot(t).Qdiscs)
}

func TestRulesAreSaidInTheWordsOfIP(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.IP(t,
		"rule add from 10.0.0.0/8 lookup 100 priority 10",
		"rule add from 10.1.1.1 to 10.2.0.0/16 iif eth0 oif lo lookup main priority 11",
		"rule add not fwmark 0x10/0xff lookup 200 priority 12",
		"rule add fwmark 0x20 lookup 200 suppress_prefixlength 0 priority 13",
		"rule add fwmark 0/0xf0 lookup 200 priority 13",
		"rule add from all nop protocol 201 priority 14",
		"rule add iif eth0 ipproto 250 lookup local priority 14",
		"rule add ipproto icmp lookup 9 protocol boot priority 14",
		"rule add to 192.0.2.0/24 tos 0x10 blackhole priority 14",
		"rule add unreachable priority 15",
		"rule add prohibit ipproto tcp dport 80 priority 16",
		"rule add ipproto udp sport 100-200 uidrange 5-6 lookup 7 priority 17",
		"rule add goto 17 priority 16",
		"rule add lookup 300 protocol static priority 18",
		"-6 rule add from fd00::/8 lookup 100 priority 20",
		"-6 rule add from fd00::1 ipproto ipv6-icmp lookup 101 priority 21",
	)
	var got []string
	for _, r := range p.snapshot(t).Rules {
		got = append(got, r.Text)
	}
	var want []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(p.Run(t, "ip", family, "rule")) {
			_, text, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			want = append(want, text)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-ip +podwire):\n%s", diff)
	}
	if r := p.snapshot(t).Rules[1]; r.Priority != 10 || r.Table != 100 || r.IPv6 {
		t.Errorf("got %+v", r)
	}
}

// A dump that is interrupted may be incomplete: it is not believed.
func TestInterruptedDumpIsReadAgain(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	want := p.snapshot(t)
	p.interrupt(3)
	compare(t, want, p.snapshot(t))
	p.interrupt(1 << 20)
	if _, err := p.k.Snapshot(t.Context()); !errors.Is(err, nl.ErrDumpInterrupted) {
		t.Errorf("interrupted for ever: %v", err)
	}
}

// interrupt lets so many dumps end early, with half of what there is.
func (p *pod) interrupt(times int) {
	real := p.k.route.execute
	p.k.route.execute = func(req *nl.NetlinkRequest) ([][]byte, error) {
		msgs, err := real(req)
		if times--; times >= 0 && req.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP {
			return msgs[:len(msgs)/2], nl.ErrDumpInterrupted
		}
		return msgs, err
	}
}

func TestIdentityIsTheNamespaces(t *testing.T) {
	t.Parallel()
	p, other := newPod(t, nil), newPod(t, nil)
	id, err := p.k.Identity()
	if err != nil {
		t.Fatal(err)
	}
	inode, err := inodeOf(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	if id.Cookie == 0 || id.Inode != inode || len(id.BootID) != 36 {
		t.Errorf("got %+v", id)
	}
	p.inside(t, func(k *Kernel) {
		if same, err := k.Identity(); err != nil || same != id {
			t.Errorf("from inside it is %+v: %v", same, err)
		}
	})
	if not, err := other.k.Identity(); err != nil || not.Same(id) {
		t.Errorf("another is the same: %+v: %v", not, err)
	}
	if p.snapshot(t).NetNS != id {
		t.Error("the snapshot is of another")
	}
}

func TestNamespaceThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	if _, err := Open("/proc/self/ns/nonesuch"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Open("/dev/null"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a path that is no namespace: %v", err)
	}
}

// Whatever is done in a pod's namespace, this process stays where it is, and
// leaves nothing open.
func TestThreadsAndFilesAreLeftAsTheyWere(t *testing.T) {
	p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0"})
	own, err := inodeOf("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	for range 20 {
		k, err := Open(p.Path)
		if err != nil {
			t.Fatal(err)
		}
		round := &pod{NS: p.NS, k: k}
		steps := bridgeSteps(round.snapshot(t))
		round.do(t, steps...)
		tap, err := k.OpenTap("tap-eth0", podMatches)
		if err != nil {
			t.Fatal(err)
		}
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
		round.undo(t, steps...)
		k.Doctor(t.Context())
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d open files, before %d", after, before)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		ns, err := inodeOf("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && ns != own {
			t.Errorf("thread %s is in another namespace", task.Name())
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
