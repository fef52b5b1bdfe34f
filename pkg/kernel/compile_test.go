//go:build linux

package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/podwire/podwire/pkg/plan"
)

func run(t *testing.T, matches []plan.Match, v verdicts, frame []byte) uint32 {
	t.Helper()
	program, err := compile(matches, v)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	out, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(out)
}

func TestCompiledProgramAgreesWithTheTable(t *testing.T) {
	v := verdicts{match: 2, pass: 7}
	for _, f := range frames {
		want := v.pass
		if f.match {
			want = v.match
		}
		if got := run(t, podMatches, v, f.frame); got != want {
			t.Errorf("%s: verdict %d, want %d", f.name, got, want)
		}
	}
}

func TestEachMatchFindsItsOwnFramesOnly(t *testing.T) {
	v := verdicts{match: 1}
	own := map[string]string{
		"udp dst port 67":                     "DHCP request",
		"udp src port 67 dst port 68":         "DHCP answer",
		"arp who-has 10.244.1.1":              "who has the gateway",
		"arp who-has 10.244.1.7 tell 0.0.0.0": "who has the pod, probing",
	}
	for _, m := range podMatches {
		for _, f := range frames {
			want := uint32(0)
			if f.match && strings.HasPrefix(f.name, own[m.String()]) {
				want = 1
			}
			if got := run(t, []plan.Match{m}, v, f.frame); got != want {
				t.Errorf("%s: %s: verdict %d, want %d", m, f.name, got, want)
			}
		}
	}
}

func TestMatchAllFindsEveryFrame(t *testing.T) {
	for _, f := range frames {
		if got := run(t, []plan.Match{{Kind: plan.MatchAll}}, verdicts{match: 1}, f.frame); got != 1 {
			t.Errorf("%s: passed", f.name)
		}
	}
}

func TestNoMatchPassesEverything(t *testing.T) {
	for _, f := range frames {
		if got := run(t, nil, verdicts{match: 1, pass: 3}, f.frame); got != 3 {
			t.Errorf("%s: verdict %d", f.name, got)
		}
	}
}

// A jump of classic BPF is at most 255 long; a pod has many neighbours.
func TestManyAddressesCompile(t *testing.T) {
	var matches []plan.Match
	a := netip.MustParseAddr("10.9.0.0")
	for range 300 {
		a = a.Next()
		matches = append(matches, plan.Match{Kind: plan.MatchARPWhoHas, Addr: a})
	}
	matches = append(matches, plan.Match{Kind: plan.MatchDHCPClient})
	for name, frame := range map[string][]byte{
		"last address": ether(0x0806, arp(1, podIP, a)), "DHCP": ether(0x0800, udp(68, 67, 0, 0)),
	} {
		if run(t, matches, verdicts{match: 1}, frame) != 1 {
			t.Errorf("%s: not found among 300 addresses", name)
		}
	}
	if _, err := compileFilter(matches, verdicts{}); err != nil {
		t.Error(err)
	}
}

func TestMatchThatCannotBeCompiledIsAnError(t *testing.T) {
	for _, m := range []plan.Match{
		{Kind: "unheard-of"},
		{Kind: plan.MatchARPWhoHas},
		{Kind: plan.MatchARPProbe, Addr: netip.MustParseAddr("fe80::1")},
	} {
		if _, err := compileFilter([]plan.Match{m}, verdicts{}); err == nil {
			t.Errorf("%v: compiled to BPF", m)
		}
		if _, err := matchExprs(m); err == nil {
			t.Errorf("%v: compiled to nftables", m)
		}
	}
}

func TestNameInProgramComesBack(t *testing.T) {
	program, err := compileFilter(podMatches, verdicts{match: actionShot, pass: actionUnspec})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a", "four", "guest-dhcp"} {
		if got := nameInProgram(withName(program, name)); got != name {
			t.Errorf("name %q came back as %q", name, got)
		}
	}
	for name, ops := range map[string][]byte{
		"nothing": nil, "one octet": {1}, "a return": make([]byte, sizeofOp),
		"a program without a name": withName(nil, "")[sizeofOp:],
	} {
		if got := nameInProgram(ops); got != "" {
			t.Errorf("%s has the name %q", name, got)
		}
	}
}

func FuzzCompiledProgramReadsNothingBeyondTheFrame(f *testing.F) {
	for _, c := range frames {
		f.Add(c.frame)
	}
	program, err := compile(podMatches, verdicts{match: 2, pass: 7})
	if err != nil {
		f.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		// A load beyond the end returns 0, which is neither verdict.
		if got, err := vm.Run(frame); err != nil || got != 2 && got != 7 {
			t.Errorf("verdict %d, %v", got, err)
		}
	})
}
