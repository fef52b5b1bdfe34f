//go:build linux

package kernel

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func zoned(a netip.Addr, link string) string {
	if a.Is4() {
		return a.String()
	}
	if a.IsLinkLocalUnicast() {
		a = a.WithZone(link)
	}
	return "[" + a.String() + "]"
}

var (
	guestIP, gateIP   = netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("10.0.2.1")
	guestIP6, gateIP6 = netip.MustParseAddr("fd10:0:2::2"), netip.MustParseAddr("fd10:0:2::1")
)

// everyRule is a table that has all that a rule can have.
func (p *pod) everyRule(t testing.TB) plan.Translate {
	t.Helper()
	net := netip.MustParsePrefix
	tcp := func(first, last uint16) *config.Ports {
		return &config.Ports{Protocol: "tcp", First: first, Last: last}
	}
	return plan.Translate{Link: "eth0", Index: p.Index(t, "eth0"), Table: "podwire-eth0", Chains: []plan.Chain{
		{Name: "inbound", Rules: []plan.Rule{
			{Src: net("10.0.0.0/8"), Do: plan.Return},
			{Src: net("127.0.0.6/32"), Do: plan.Return},
			{Src: net("fd00:5::/64"), Do: plan.Return},
			{Src: net("2001:db8::/33"), Do: plan.Return},
			{Src: net("172.16.0.0/12"), Dst: net("10.244.1.7/32"), Do: plan.Return},
			{Ports: tcp(15000, 15090), Do: plan.Return},
			{Ports: &config.Ports{Protocol: "udp", First: 53, Last: 53}, Do: plan.Return},
			{MidStream: true, Do: plan.Return},
			{Ports: tcp(80, 80), Do: plan.DNAT, To: guestIP},
			{Ports: &config.Ports{Protocol: "sctp", First: 1, Last: 65535}, Do: plan.DNAT, To: guestIP6},
			{Do: plan.DNAT, To: guestIP},
			{Do: plan.DNAT, To: guestIP6},
		}},
		{Name: "raw", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []plan.Rule{
			{In: "tap-eth0", Src: net("fe80::/10"), Do: plan.Return},
			{In: "tap-eth0", Src: net("10.0.2.0/24"), Not: true, Do: plan.Drop},
			{In: "tap-eth0", Src: net("10.0.2.0/27"), Not: true, Do: plan.Drop},
			{In: "tap-eth0", Src: net("fd10:0:2::/120"), Not: true, Do: plan.Drop},
			{In: "tap-eth0", Dst: net("127.0.0.0/8"), Do: plan.Drop},
		}},
		{Name: "arriving", Type: "nat", Hook: "prerouting", Priority: -95, Rules: []plan.Rule{
			{Dst: net("10.244.1.7/32"), Do: plan.Jump, Chain: "inbound"},
			{Dst: net("fd00:10:244:1::7/128"), Do: plan.Jump, Chain: "inbound"},
		}},
		{Name: "outgoing", Type: "filter", Hook: "output", Priority: 0, Rules: []plan.Rule{
			{Out: "tap-eth0", Redirects: "ip", Do: plan.Drop},
			{Out: "tap-eth0", Redirects: "ip6", Do: plan.Drop},
		}},
		{Name: "leaving", Type: "nat", Hook: "postrouting", Priority: 100, Rules: []plan.Rule{
			{Out: "tap-eth0", Src: net("127.0.0.0/8"), Do: plan.SNAT, To: gateIP},
			{Out: "tap-eth0", Src: net("::1/128"), Do: plan.SNAT, To: gateIP6},
			{Src: net("10.0.2.0/24"), Do: plan.MasqueradeIt},
		}},
		{Name: "empty", Type: "filter", Hook: "input", Priority: 5},
	}}
}

// listed is the table as nft(8) reads it, chain by chain.
func (p *pod) listed(t testing.TB, args ...string) []string {
	t.Helper()
	out := p.Run(t, "nft", append(args, "list", "table", "inet", "podwire-eth0")...)
	chains := strings.Split(strings.TrimRight(out, "}\n"), "\tchain ")
	for i, c := range chains {
		chains[i] = strings.TrimRight(c, "}\n\t ")
	}
	slices.Sort(chains)
	return chains
}

// A plan's words are those of nft(8): what it makes of them is what is made.
func TestTableIsWhatItsWordsSay(t *testing.T) {
	t.Parallel()
	p, other := newPod(t, nil), newPod(t, nil)
	s := p.everyRule(t)
	p.do(t, s)
	for line := range strings.Lines(s.String()) {
		other.Run(t, "nft", strings.TrimPrefix(strings.TrimSpace(line), "nft "))
	}
	if diff := cmp.Diff(other.listed(t), p.listed(t)); diff != "" {
		t.Errorf("the table (-nft +podwire):\n%s", diff)
	}
}

func TestTableIsInTheSnapshot(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	s := p.everyRule(t)
	p.do(t, s)
	p.Run(t, "nft", "add table inet podwire; add table inet other; add chain inet other podwire-eth0; add table ip podwire-eth0")
	want := netstate.Table{Name: "podwire-eth0"}
	for _, c := range plannedChains(s) {
		want.Chains = append(want.Chains, netstate.Chain{Name: c.name, Rules: c.rules})
	}
	got := p.snapshot(t)
	if diff := cmp.Diff([]netstate.Table{want}, got.Tables, asValues); diff != "" || got.Blind {
		t.Errorf("tables (-want +got), blind: %v\n%s", got.Blind, diff)
	}
	p.inside(t, func(k *Kernel) {
		blind, err := k.Snapshot(t.Context())
		if err != nil || !blind.Blind || blind.Tables != nil {
			t.Errorf("without the capability: %v, %+v, %v", blind.Blind, blind.Tables, err)
		}
	}, unix.CAP_NET_ADMIN)
}

// handles is the table with the numbers that the kernel gave its parts: those of
// what was made anew are others.
func (p *pod) handles(t testing.TB) []string { return p.listed(t, "-a") }

func TestTableAsPlannedIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	s := p.everyRule(t)
	p.do(t, s)
	before := p.handles(t)
	p.do(t, s)
	if diff := cmp.Diff(before, p.handles(t)); diff != "" {
		t.Errorf("the table was touched (-before +after):\n%s", diff)
	}
}

func TestTableThatDiffersIsReplacedWhole(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"a rule more":         "add rule inet podwire-eth0 raw drop",
		"no rules":            "flush chain inet podwire-eth0 leaving",
		"a chain more":        "add chain inet podwire-eth0 more",
		"no chain":            "flush chain inet podwire-eth0 arriving; delete chain inet podwire-eth0 arriving",
		"another priority":    "delete chain inet podwire-eth0 empty; add chain inet podwire-eth0 empty { type filter hook input priority 6; }",
		"another hook":        "delete chain inet podwire-eth0 empty; add chain inet podwire-eth0 empty { type filter hook forward priority 5; }",
		"another type":        "delete chain inet podwire-eth0 empty; add chain inet podwire-eth0 empty { type nat hook input priority 5; }",
		"half a table":        "delete table inet podwire-eth0; add table inet podwire-eth0",
		"another's user data": `insert rule inet podwire-eth0 empty accept comment "mine"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			s := p.everyRule(t)
			p.do(t, s)
			p.Run(t, "nft", "add table inet other; add chain inet other c { type nat hook prerouting priority -95; }; add rule inet other c counter")
			want := p.listed(t)
			p.Run(t, "nft", change)
			p.do(t, s)
			if diff := cmp.Diff(want, p.listed(t)); diff != "" {
				t.Errorf("the table (-want +got):\n%s", diff)
			}
			if other := p.Run(t, "nft", "list", "table", "inet", "other"); !strings.Contains(other, "counter") {
				t.Errorf("the other is %s", other)
			}
		})
	}
}

func TestTableIsDeleted(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.Run(t, "nft", "add table inet podwire-net1; add chain inet podwire-net1 c { type nat hook prerouting priority 0; }")
	before := p.Run(t, "nft", "list", "ruleset")
	s := p.everyRule(t)
	p.undo(t, s)
	p.do(t, s)
	p.undo(t, s)
	p.undo(t, s)
	if diff := cmp.Diff(before, p.Run(t, "nft", "list", "ruleset")); diff != "" {
		t.Errorf("what is left (-before +after):\n%s", diff)
	}
	p.do(t, s)
	p.Delete(t, "eth0")
	p.undo(t, s)
	if diff := cmp.Diff(before, p.Run(t, "nft", "list", "ruleset")); diff != "" {
		t.Errorf("what is left without the link (-before +after):\n%s", diff)
	}
}

// TestTableThatWasCutOff: nothing is tracked for a moment before the table is there,
// and for no longer than until the next run.
func TestTableThatWasCutOff(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	s := p.everyRule(t)
	p.do(t, s)
	want := p.listed(t)
	p.undo(t, s)
	p.k.holdTracking(t.Context(), s.Table)
	if held := p.listed(t); !slices.ContainsFunc(held, func(line string) bool { return strings.Contains(line, "notrack") }) {
		t.Errorf("connections are tracked: %q", held)
	}
	p.do(t, s)
	if diff := cmp.Diff(want, p.listed(t)); diff != "" {
		t.Errorf("the table (-want +got):\n%s", diff)
	}
	p.undo(t, s)
	p.k.holdTracking(t.Context(), s.Table)
	p.undo(t, s)
	if left := p.Run(t, "nft", "list", "ruleset"); left != "" {
		t.Errorf("what is left: %s", left)
	}
}

// More than a socket's buffers hold as they are: all the same it is all or nothing.
func TestTableOfAThousandRules(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	s := p.everyRule(t)
	for i := range uint16(1000) {
		ports := &config.Ports{Protocol: "tcp", First: 20000 + 2*i, Last: 20000 + 2*i}
		s.Chains[0].Rules = append(s.Chains[0].Rules,
			plan.Rule{Ports: ports, Do: plan.DNAT, To: guestIP}, plan.Rule{Ports: ports, Do: plan.DNAT, To: guestIP6})
	}
	p.do(t, s)
	before := p.handles(t)
	if !strings.Contains(strings.Join(before, ""), "tcp dport 21998 dnat ip6 to fd10:0:2::2") {
		t.Error("the last rule is missing")
	}
	p.do(t, s)
	if diff := cmp.Diff(before, p.handles(t)); diff != "" {
		t.Errorf("the table was touched (-before +after):\n%s", diff)
	}
	tables := p.snapshot(t).Tables
	if i := slices.IndexFunc(tables[0].Chains, func(c netstate.Chain) bool { return c.Name == "inbound" }); len(tables[0].Chains[i].Rules) != len(s.Chains[0].Rules) {
		t.Errorf("%d rules are read", len(tables[0].Chains[i].Rules))
	}
	bad := s
	bad.Chains = slices.Clone(s.Chains)
	bad.Chains[0].Rules = append(slices.Clone(s.Chains[0].Rules), plan.Rule{Do: plan.Jump, Chain: "none"})
	err := p.k.Do(t.Context(), bad)
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "add rule inbound jump none: ") {
		t.Errorf("a rule that cannot be: %v", err)
	}
	if diff := cmp.Diff(before, p.handles(t)); diff != "" {
		t.Errorf("the table was touched by what failed (-before +after):\n%s", diff)
	}
}

func TestTableThatCannotBe(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	rule := func(r plan.Rule) plan.Chain { return plan.Chain{Name: "c", Rules: []plan.Rule{r}} }
	for name, c := range map[string]plan.Chain{
		"verdict":   rule(plan.Rule{Do: "accept"}),
		"protocol":  rule(plan.Rule{Ports: &config.Ports{Protocol: "dccp"}, Do: plan.Drop}),
		"redirects": rule(plan.Rule{Redirects: "arp", Do: plan.Drop}),
		"hook":      {Name: "c", Type: "filter", Hook: "ingress"},
		"words":     rule(plan.Rule{Chain: strings.Repeat("x", 300), Do: plan.Jump}),
	} {
		err := p.k.Do(t.Context(), plan.Translate{Link: "eth0", Table: "podwire-eth0", Chains: []plan.Chain{c}})
		if !errors.Is(err, errors.ErrUnsupported) || !strings.HasPrefix(err.Error(), `putting table "podwire-eth0" of nftables in place: `) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := p.everyRule(t)
	s.Index++
	if err := p.k.Do(t.Context(), s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another link of the name: %v", err)
	}
	s.Link = "none"
	if err := p.k.Do(t.Context(), s); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no link: %v", err)
	}
	if out := p.Run(t, "nft", "list", "ruleset"); out != "" {
		t.Errorf("something was made: %s", out)
	}
}

func TestTableThatIsNotPermittedSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	s := p.everyRule(t)
	p.do(t, s)
	p.inside(t, func(k *Kernel) {
		wantExplained(t, "doing", k.Do(t.Context(), s))
		wantExplained(t, "undoing", k.Undo(t.Context(), s))
	}, unix.CAP_NET_ADMIN)
	p.undo(t, s)
	p.inside(t, func(k *Kernel) {
		without(t, func() {
			for _, f := range []func() error{
				func() error { return k.Do(t.Context(), s) }, func() error { return k.Undo(t.Context(), s) },
			} {
				if err := f(); err != nil {
					t.Errorf("with the capability alone: %v", err)
				}
			}
		}, but(unix.CAP_NET_ADMIN)...)
	})
}

func TestWordsOfUserData(t *testing.T) {
	t.Parallel()
	words := userdata.AppendString(nil, userWords, "drop")
	for want, lists := range map[string][][]byte{
		"drop": {words, append([]byte{9, 2, 'x', 'y'}, words...), append([]byte{9, 0}, words...)},
		"":     {nil, {0x70}, {0x70, 5, 'd'}, {7, 1, 'd'}, {0x70, 0}, userdata.AppendString(nil, userdata.TypeComment, "drop")},
	} {
		for _, b := range lists {
			if got := wordsOf(b); got != want {
				t.Errorf("%x is %q", b, got)
			}
		}
	}
}
