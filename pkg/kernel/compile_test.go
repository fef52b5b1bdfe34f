//go:build linux

package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"
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
		if f.tagged {
			continue
		}
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
		"udp dst port 67":                                              "DHCP request",
		"udp src port 67 dst port 68":                                  "DHCP answer",
		"arp who-has 10.244.1.1":                                       "who has the gateway",
		"arp who-has 10.244.1.7 tell 0.0.0.0":                          "who has the pod, probing",
		"ip6 and udp dst port 547":                                     "DHCPv6 request",
		"ip6 and udp src port 547 dst port 546":                        "DHCPv6 answer",
		"icmp6 router-solicitation":                                    "router solicitation",
		"icmp6 router-advertisement":                                   "router advertisement",
		"icmp6 neighbor-solicitation who has fe80::858:aff:fef4:101":   "solicitation of the IPv6 gateway",
		"icmp6 neighbor-solicitation who has fd00:10:244:1::7 from ::": "solicitation of the pod, probing",
		"icmp6 neighbor-advertisement of fe80::858:aff:fef4:101":       "advertisement of the IPv6 gateway",
		"dst host 169.254.75.53":                                       "to the nameserver",
		"dst host fd00:75::53":                                         "to the IPv6 nameserver",
		"ether src 02:70:77:4b:fe:01":                                  "out of the server's card",
	}
	if len(own) != len(podMatches) {
		t.Fatalf("%d matches, %d kinds of frame", len(podMatches), len(own))
	}
	for _, m := range podMatches {
		for _, f := range frames {
			if f.tagged {
				continue
			}
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

// untaggedInVM stands for the look at a frame's VLAN, which only the kernel can do.
func untaggedInVM([]plan.Match, verdicts) []bpf.Instruction { return nil }

func TestExceptionsPassAndAllElseIsAsBefore(t *testing.T) {
	v := verdicts{match: 2, pass: 7}
	for _, except := range podMatches {
		program, err := join([]plan.Match{except}, podMatches, v, untaggedInVM)
		if err != nil {
			t.Fatal(err)
		}
		vm, err := bpf.NewVM(program)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if f.tagged {
				continue
			}
			want := v.pass
			if f.match && run(t, []plan.Match{except}, verdicts{match: 1}, f.frame) == 0 {
				want = v.match
			}
			if got, err := vm.Run(f.frame); err != nil || uint32(got) != want {
				t.Errorf("all but %s: %s: verdict %d, %v, want %d", except, f.name, got, err, want)
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

// addresses are as many different ones as are asked for; each differs from the one
// before in every word.
func addresses(n int) (v4, v6 []netip.Addr) {
	for i := range uint32(n) {
		word := binary.BigEndian.AppendUint32(nil, 0x0a000001+i*0x10101)
		v4 = append(v4, netip.AddrFrom4([4]byte(word)))
		v6 = append(v6, netip.AddrFrom16([16]byte(slices.Repeat(word, 4))))
	}
	return v4, v6
}

func matchesOf(kind plan.MatchKind, addrs []netip.Addr) []plan.Match {
	out := make([]plan.Match, len(addrs))
	for i, a := range addrs {
		out[i] = plan.Match{Kind: kind, Addr: a}
	}
	return out
}

// A conditional jump of classic BPF is at most 255 long; a pod has many neighbours.
func TestManyAddressesCompile(t *testing.T) {
	for name, addrs := range map[string]func(n int) (v4, v6 []netip.Addr){
		"unlike": addresses,
		"of one network": func(n int) (v4, v6 []netip.Addr) {
			a, b := netip.MustParseAddr("10.9.0.0"), netip.MustParseAddr("fd00:9::")
			for range n {
				a, b = a.Next(), b.Next()
				v4, v6 = append(v4, a), append(v6, b)
			}
			return v4, v6
		},
	} {
		t.Run(name, func(t *testing.T) {
			v4, v6 := addrs(400)
			matches := slices.Concat(matchesOf(plan.MatchARPWhoHas, v4), matchesOf(plan.MatchNDWhoHas, v6),
				[]plan.Match{{Kind: plan.MatchDHCPClient}, {Kind: plan.MatchNDProbe, Addr: podIP6}})
			if name == "of one network" {
				matches = append(matches, matchesOf(plan.MatchTo, v6[:100])...)
				matches = append(matches, matchesOf(plan.MatchARPProbe, v4[:100])...)
			} else {
				matches = slices.Concat(matches[:50], matches[400:]) // as many as there is room for
			}
			found := map[string][]byte{
				"DHCP": ether(0x0800, udp(68, 67, 0, 0)), "IPv6 probe": ether(0x86dd, solicit(anyIP6, podIP6)),
			}
			for _, m := range matches {
				if m.Kind == plan.MatchARPWhoHas {
					found[m.String()] = ether(0x0806, arp(1, podIP, m.Addr))
				}
				if m.Kind == plan.MatchNDWhoHas {
					found[m.String()] = ether(0x86dd, solicit(podIP6, m.Addr))
				}
			}
			for name, frame := range found {
				if run(t, matches, verdicts{match: 1}, frame) != 1 {
					t.Errorf("%s: not found", name)
				}
			}
			for name, frame := range map[string][]byte{
				"ARP": ether(0x0806, arp(1, podIP, v4[len(v4)-1].Next())), "ND": ether(0x86dd, solicit(podIP6, v6[len(v6)-1].Next())),
			} {
				if run(t, matches, verdicts{match: 1}, frame) != 0 {
					t.Errorf("%s: found what nobody looks for", name)
				}
			}
			program, err := compileFilter(matches, verdicts{})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d matches, %d instructions", len(matches), len(program))
		})
	}
}

func TestTooManyAddressesAreAnErrorThatSaysSo(t *testing.T) {
	_, v6 := addresses(500)
	_, err := compileFilter(matchesOf(plan.MatchNDWhoHas, v6), verdicts{})
	if err == nil || !strings.Contains(err.Error(), "where 4000 are the most: it is for too many addresses") {
		t.Errorf("got %v", err)
	}
}

func TestMatchThatCannotBeCompiledIsAnError(t *testing.T) {
	for _, m := range []plan.Match{
		{Kind: "unheard-of"},
		{Kind: plan.MatchARPWhoHas},
		{Kind: plan.MatchARPProbe, Addr: netip.MustParseAddr("fe80::1")},
		{Kind: plan.MatchNDWhoHas},
		{Kind: plan.MatchNDSays, Addr: netip.MustParseAddr("10.244.1.7")},
		{Kind: plan.MatchNDProbe, Addr: netip.MustParseAddr("10.244.1.7")},
		{Kind: plan.MatchTo},
		{Kind: plan.MatchFrom},
	} {
		if _, err := compileExcept([]plan.Match{m}, nil, verdicts{}); err == nil {
			t.Errorf("%v: compiled to BPF as an exception", m)
		}
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
