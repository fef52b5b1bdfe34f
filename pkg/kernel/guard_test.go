//go:build linux

package kernel

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/net/bpf"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var (
	otherMAC  = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x09}
	otherIP   = netip.MustParseAddr("10.244.1.9")
	ownLink   = netip.MustParseAddr("fe80::1234:5678:9abc:def0") // as a guest may choose it
	everyNode = netip.MustParseAddr("ff02::1")

	testGuard = plan.Guard{MAC: guestMAC, Addrs: []netip.Addr{podIP, podIP6}, Others: []netip.Addr{gatewayIP6}}
	blind     = plan.Guard{MAC: guestMAC} // of a network whose addresses are not known
)

// nd is a message of neighbor discovery with options.
func nd(kind byte, src, target netip.Addr, options ...[]byte) []byte {
	return icmp6(kind, src, append(target.AsSlice(), slices.Concat(options...)...)...)
}

// ndOption is one of ND with a link-layer address.
func ndOption(kind byte, mac netstate.MAC) []byte { return append([]byte{kind, 1}, mac[:]...) }

// nonce is another option, of as many octets times eight.
func nonce(units byte) []byte { return append([]byte{14, units}, make([]byte, 8*int(units)-2)...) }

// from4 is an IPv4 packet from an address.
func from4(packet []byte, src netip.Addr) []byte { return addressed(packet, src, otherIP) }

// listening is a report of multicast groups, behind the router alert.
func listening(src netip.Addr) []byte { return behind(icmp6(143, src), 0, [7]byte{1: 5, 2: 2}) }

// guardFrames are what a guest sends, and what becomes of it with its addresses known,
// and not.
var guardFrames = []struct {
	name        string
	frame       []byte
	pass, blind bool
	malformed   bool
	untagged    bool // the kernel takes its tag out, and it passes
}{
	{name: "ARP request", frame: ether(0x0806, arp(1, podIP, gatewayIP)), pass: true, blind: true},
	{name: "ARP answer", frame: ether(0x0806, arp(2, podIP, gatewayIP)), pass: true, blind: true},
	{name: "ARP probe", frame: ether(0x0806, arp(1, anyIP, otherIP)), pass: true, blind: true},
	{name: "ARP answer from nobody", frame: ether(0x0806, arp(2, anyIP, otherIP)), blind: true},
	{name: "ARP request of another's address", frame: ether(0x0806, arp(1, otherIP, gatewayIP)), blind: true},
	{name: "ARP announcement of another's address", frame: ether(0x0806, arp(2, gatewayIP, gatewayIP)), blind: true},
	{name: "ARP with another's MAC in it", frame: ether(0x0806, edit(arp(2, podIP, gatewayIP), 8, otherMAC[:]...))},
	{name: "ARP from another's card", frame: sourced(ether(0x0806, arp(1, podIP, gatewayIP)), otherMAC)},
	{name: "ARP of another hardware", frame: ether(0x0806, edit(arp(1, podIP, gatewayIP), 1, 6))},
	{name: "ARP cut short", frame: ether(0x0806, arp(1, podIP, gatewayIP))[:31], blind: true, malformed: true},
	{name: "RARP", frame: ether(0x8035, arp(3, podIP, podIP))},

	{name: "IPv4", frame: ether(0x0800, from4(udp(5353, 53, 0, 0), podIP)), pass: true, blind: true},
	{name: "IPv4 of another", frame: ether(0x0800, from4(udp(5353, 53, 0, 0), otherIP)), blind: true},
	{name: "IPv4 from another's card", frame: sourced(ether(0x0800, from4(udp(5353, 53, 0, 0), podIP)), otherMAC)},
	{name: "IPv4 from nobody", frame: ether(0x0800, from4(udp(5353, 53, 0, 0), anyIP)), blind: true},
	{name: "IPv4 TCP", frame: ether(0x0800, from4(ipv4(6, 67, 68, 0, 0), podIP)), pass: true, blind: true},
	{name: "DHCP request", frame: ether(0x0800, from4(udp(68, 67, 0, 0), anyIP)), pass: true, blind: true},
	{name: "DHCP request, header with options", frame: ether(0x0800, from4(udp(68, 67, 8, 0), anyIP)), pass: true, blind: true},
	{name: "later fragment from nobody", frame: ether(0x0800, from4(udp(68, 67, 0, 0x2010), anyIP)), blind: true},
	{name: "DHCP renewal", frame: ether(0x0800, from4(udp(68, 67, 0, 0), podIP)), pass: true, blind: true},
	{name: "DHCP answer", frame: ether(0x0800, from4(udp(67, 68, 0, 0), podIP))},
	{name: "DHCP answer, header with options", frame: ether(0x0800, from4(udp(67, 68, 40, 0), podIP))},
	{name: "DHCP answer from any port", frame: ether(0x0800, from4(udp(1234, 68, 0, 0), podIP))},
	{name: "DHCP answer, first fragment", frame: ether(0x0800, from4(udp(67, 68, 0, 0x2000), podIP))},
	{name: "IPv4, later fragment", frame: ether(0x0800, from4(udp(67, 68, 0, 0x2010), podIP)), pass: true, blind: true},
	{name: "IPv4 echo request", frame: ether(0x0800, from4(ipv4(1, 0x0800, 0, 0, 0), podIP)), pass: true, blind: true},
	{name: "IPv4 redirect", frame: ether(0x0800, from4(ipv4(1, 0x0501, 0, 0, 0), podIP))},
	{name: "IPv4 cut short", frame: ether(0x0800, from4(udp(5353, 53, 0, 0), podIP))[:25], blind: true, malformed: true},

	{name: "IPv6", frame: ether(0x86dd, udp6(5353, 53)), pass: true, blind: true},
	{name: "IPv6 of another", frame: ether(0x86dd, ipv6(17, otherIP6, podIP6, datagram(5353, 53))), blind: true},
	{name: "IPv6 from another's card", frame: sourced(ether(0x86dd, udp6(5353, 53)), otherMAC)},
	{name: "IPv6 from nobody", frame: ether(0x86dd, ipv6(17, anyIP6, podIP6, datagram(5353, 53))), blind: true},
	{name: "IPv6 link-local", frame: ether(0x86dd, ipv6(17, ownLink, everyNode, datagram(5353, 53))), pass: true, blind: true},
	{name: "IPv6 of its router", frame: ether(0x86dd, ipv6(17, gatewayIP6, everyNode, datagram(5353, 53))), blind: true},
	{name: "DHCPv6 request", frame: ether(0x86dd, ipv6(17, ownLink, everyNode, datagram(546, 547))), pass: true, blind: true},
	{name: "DHCPv6 answer", frame: ether(0x86dd, udp6(547, 546))},
	{name: "DHCPv6 answer from any port", frame: ether(0x86dd, udp6(1234, 546))},
	{name: "DHCPv6 answer behind headers", frame: ether(0x86dd, behindAll(udp6(1234, 546), 0, 60, 44))},
	{name: "DNS behind headers", frame: ether(0x86dd, behindAll(udp6(5353, 53), 0, 60, 44)), pass: true, blind: true},
	{name: "DNS behind headers, of another", frame: ether(0x86dd, behindAll(ipv6(17, otherIP6, podIP6, datagram(5353, 53)), 60)), blind: true},
	{name: "IPv6 later fragment", frame: ether(0x86dd, behind(udp6(547, 546), 44, [7]byte{2: 8})), pass: true, blind: true},
	{name: "router solicitation", frame: ether(0x86dd, icmp6(133, ownLink, ndOption(1, guestMAC)...)), pass: true, blind: true},
	{name: "router solicitation from nobody", frame: ether(0x86dd, icmp6(133, anyIP6)), pass: true, blind: true},
	{name: "router solicitation with another's MAC", frame: ether(0x86dd, icmp6(133, ownLink, ndOption(1, otherMAC)...))},
	{name: "router solicitation behind a header", frame: ether(0x86dd, behindAll(icmp6(133, ownLink), 60))},
	{name: "router advertisement", frame: ether(0x86dd, icmp6(134, ownLink, make([]byte, 8)...))},
	{name: "router advertisement behind headers", frame: ether(0x86dd, behindAll(icmp6(134, ownLink, make([]byte, 8)...), 0, 60))},
	{name: "router advertisement in a first fragment", frame: ether(0x86dd, behind(icmp6(134, ownLink, make([]byte, 8)...), 44, [7]byte{2: 1}))},
	{name: "redirect", frame: ether(0x86dd, icmp6(137, ownLink, make([]byte, 32)...))},
	{name: "redirect behind a header", frame: ether(0x86dd, behindAll(icmp6(137, ownLink, make([]byte, 32)...), 43))},
	{name: "echo request", frame: ether(0x86dd, icmp6(128, podIP6)), pass: true, blind: true},
	{name: "echo request behind a header", frame: ether(0x86dd, behindAll(icmp6(128, podIP6), 60)), pass: true, blind: true},
	{name: "multicast report", frame: ether(0x86dd, listening(ownLink)), pass: true, blind: true},
	{name: "multicast report from nobody", frame: ether(0x86dd, listening(anyIP6)), pass: true, blind: true},
	{name: "multicast report of another", frame: ether(0x86dd, listening(otherIP6)), blind: true},

	{name: "solicitation", frame: ether(0x86dd, nd(135, podIP6, otherIP6, ndOption(1, guestMAC))), pass: true, blind: true},
	{name: "solicitation with another's MAC", frame: ether(0x86dd, nd(135, podIP6, otherIP6, ndOption(1, otherMAC)))},
	{name: "solicitation with another's MAC behind other options", frame: ether(0x86dd, nd(135, podIP6, otherIP6, nonce(2), ndOption(14, otherMAC), ndOption(1, otherMAC)))},
	{name: "solicitation with many options", frame: ether(0x86dd, nd(135, podIP6, otherIP6, nonce(4), ndOption(1, guestMAC)))},
	{name: "solicitation of another", frame: ether(0x86dd, nd(135, otherIP6, podIP6)), blind: true},
	{name: "solicitation behind a header", frame: ether(0x86dd, behindAll(nd(135, podIP6, otherIP6), 60))},
	{name: "whether its address is taken", frame: ether(0x86dd, nd(135, anyIP6, podIP6)), pass: true, blind: true},
	{name: "whether its link-local address is taken", frame: ether(0x86dd, nd(135, anyIP6, ownLink, nonce(1))), pass: true, blind: true},
	{name: "whether another's address is taken", frame: ether(0x86dd, nd(135, anyIP6, otherIP6)), blind: true},
	{name: "whether its router's address is taken", frame: ether(0x86dd, nd(135, anyIP6, gatewayIP6)), blind: true},
	{name: "advertisement", frame: ether(0x86dd, nd(136, podIP6, podIP6, ndOption(2, guestMAC))), pass: true, blind: true},
	{name: "advertisement without an option", frame: ether(0x86dd, nd(136, podIP6, podIP6)), pass: true, blind: true},
	{name: "advertisement of its link-local address", frame: ether(0x86dd, nd(136, ownLink, ownLink, ndOption(2, guestMAC))), pass: true, blind: true},
	{name: "advertisement with another's MAC", frame: ether(0x86dd, nd(136, podIP6, podIP6, ndOption(2, otherMAC)))},
	{name: "advertisement of another's address", frame: ether(0x86dd, nd(136, podIP6, otherIP6, ndOption(2, guestMAC))), blind: true},
	{name: "advertisement of its router's address", frame: ether(0x86dd, nd(136, ownLink, gatewayIP6, ndOption(2, guestMAC))), blind: true},
	{name: "advertisement from nobody", frame: ether(0x86dd, nd(136, anyIP6, podIP6)), blind: true},
	{name: "advertisement behind a fragment header", frame: ether(0x86dd, behindAll(nd(136, podIP6, podIP6), 44))},
	{name: "IPv6 cut short", frame: ether(0x86dd, udp6(5353, 53))[:37], blind: true, malformed: true},

	{name: "IPv4 of a VLAN", frame: vlan(ether(0x0800, from4(udp(5353, 53, 0, 0), podIP)))},
	{name: "IPv4 of no VLAN, tagged", frame: edit(vlan(ether(0x0800, from4(udp(5353, 53, 0, 0), podIP))), 14, 0xe0, 0), untagged: true},
	{name: "IPv6 of no VLAN, tagged", frame: edit(vlan(ether(0x86dd, udp6(5353, 53))), 14, 0, 0), untagged: true},
	{name: "router advertisement of no VLAN, tagged", frame: edit(vlan(ether(0x86dd, icmp6(134, ownLink, make([]byte, 8)...))), 14, 0, 0)},
	{name: "another protocol of no VLAN, tagged", frame: edit(vlan(ether(0x8035, arp(3, podIP, podIP))), 14, 0, 0)},
	{name: "IPv4 of no VLAN, tagged twice", frame: edit(vlan(edit(vlan(ether(0x0800, from4(udp(5353, 53, 0, 0), podIP))), 14, 0, 0)), 14, 0, 0)},
	{name: "IPv4 of two VLANs", frame: vlan(vlan(ether(0x0800, from4(udp(5353, 53, 0, 0), podIP))))},
	{name: "spanning tree", frame: ether(0x0026, make([]byte, 38))},
	{name: "another protocol", frame: marker(3)},
}

func guardVM(t testing.TB, g plan.Guard) *bpf.VM {
	t.Helper()
	step := plan.AddFilter{Guard: &g}
	program, err := joinGuard(step, verdicts{match: 2, pass: 7}, untaggedInVM, func(verdicts) []bpf.Instruction { return nil })
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestGuardAgreesWithTheTable(t *testing.T) {
	for name, g := range map[string]plan.Guard{"known": testGuard, "blind": blind} {
		vm := guardVM(t, g)
		for _, f := range guardFrames {
			pass := f.pass && g.Known() || f.blind && !g.Known()
			want := 2
			if pass {
				want = 7
			}
			if got, err := vm.Run(f.frame); err != nil || got != want {
				t.Errorf("%s: %s: verdict %d, %v, want %d", name, f.name, got, err, want)
			}
			if got := mayPass(g, f.frame); got != pass {
				t.Errorf("%s: %s: the reference says %v", name, f.name, got)
			}
		}
	}
}

func TestGuardHoldsOnTheWire(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			before := f.state(t)
			for _, g := range []plan.Guard{testGuard, blind} {
				step := plan.AddFilter{Link: "eth0", Name: "test", Guard: &g, Pass: []plan.Match{{Kind: plan.MatchFrom, MAC: serverMAC}}}
				f.do(t, step)
				listing := f.listing(t)
				f.do(t, step)
				if got := f.listing(t); got != listing {
					t.Errorf("doing it again changed\n%s\nto\n%s", listing, got)
				}
				f.wantFilters(t, "test")
				for _, c := range guardFrames {
					if c.malformed {
						continue
					}
					want := c.pass && g.Known() || c.blind && !g.Known() || c.untagged
					if got := f.comes(t, c.frame); got != want {
						t.Errorf("%s: passes is %v (addresses known: %v)", c.name, got, g.Known())
					}
				}
				f.undo(t, step)
				for _, c := range guardFrames {
					if !c.malformed && !f.crosses(t, c.frame) {
						t.Errorf("%s: does not pass without a guard, so that nothing is proven", c.name)
					}
				}
			}
			f.wantState(t, before)
			if got := f.Run(t, "nft", "list", "ruleset"); got != "" {
				t.Errorf("left behind:\n%s", got)
			}
		})
	}
}

// TestRulesOfAnOlderReleaseAreReplaced: they have the same words and no digest, or another
// one.
func TestRulesOfAnOlderReleaseAreReplaced(t *testing.T) {
	t.Parallel()
	f := newFiltered(t, WithoutTC())
	step := plan.AddFilter{Link: "eth0", Name: "test", Drop: []plan.Match{{Kind: plan.MatchDHCPClient}}}
	f.do(t, step)
	want := f.Run(t, "nft", "list", "ruleset")
	words := step.Drop[0].String()
	if !strings.Contains(want, words+" ") {
		t.Fatalf("%q is not in\n%s", words, want)
	}
	for _, older := range []string{words, words + " 0000000000000000"} {
		f.Run(t, "nft", "flush", "chain", "netdev", "podwire", "eth0/test")
		f.Run(t, "nft", "add", "rule", "netdev", "podwire", "eth0/test", "udp", "dport", "68", "drop", "comment", `"`+older+`"`)
		f.do(t, step)
		if got := f.Run(t, "nft", "list", "ruleset"); got != want {
			t.Errorf("%q: got\n%s\nwant\n%s", older, got, want)
		}
	}
	chain := chainOf(step)
	other := nftRule(chain, &expr.Verdict{Kind: expr.VerdictDrop}, words, etherType(0x0800))
	if same := nftRule(chain, &expr.Verdict{Kind: expr.VerdictDrop}, words, etherType(0x0800)); !sameRule(other, same) {
		t.Error("the same rule is another")
	}
	if changed := nftRule(chain, &expr.Verdict{Kind: expr.VerdictAccept}, words, etherType(0x0800)); sameRule(other, changed) {
		t.Error("another verdict is the same rule")
	}
}

// Two filters on a link are asked one after the other, also where nftables has both.
func TestGuardStandsBesideOtherFilters(t *testing.T) {
	t.Parallel()
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			from := []plan.Match{{Kind: plan.MatchFrom, MAC: serverMAC}}
			guard := plan.AddFilter{Link: "eth0", Name: "guard", Guard: &testGuard, Pass: from}
			other := plan.AddFilter{Link: "eth0", Name: "test", Drop: podMatches[:12]}
			dns := ether(0x0800, from4(udp(5353, 53, 0, 0), podIP))
			spoofed := ether(0x0800, from4(udp(5353, 53, 0, 0), otherIP))
			answered := ether(0x0800, from4(udp(68, 67, 0, 0), podIP))
			f.do(t, guard, other)
			f.wantFilters(t, "guard", "test")
			if !f.comes(t, dns) || f.comes(t, spoofed) || f.comes(t, answered) {
				t.Error("not both filters are asked")
			}
			f.undo(t, other)
			if !f.comes(t, answered) || f.comes(t, spoofed) {
				t.Error("the guard is not alone")
			}
			f.do(t, other)
			f.undo(t, guard)
			f.wantFilters(t, "test")
			if f.comes(t, answered) || !f.comes(t, spoofed) {
				t.Error("the guard is there yet, or the other is not")
			}
		})
	}
}

// What cannot be told is dropped: the headers go beyond the frame or are too many.
func TestWhatHidesBehindHeadersIsDroppedWhereItCannotBeTold(t *testing.T) {
	t.Parallel()
	whole := ether(0x86dd, behindAll(udp6(53, 5353), 44, 60))
	hidden := map[string][]byte{
		"no UDP header in the first fragment":      shortened(edit(whole, 57, 1), 70),
		"half a UDP header in the first fragment":  shortened(edit(whole, 57, 1), 74),
		"no ICMPv6 in the first fragment":          shortened(edit(whole, 54, 58, 0, 0, 1), 62),
		"a header that does not end in the frame":  edit(whole, 63, 9),
		"a header of which there is half a one":    shortened(edit(whole, 57, 1), 66),
		"router advertisement behind nine headers": ether(0x86dd, behindAll(icmp6(134, gatewayIP6, make([]byte, 8)...), 60, 60, 60, 60, 60, 60, 60, 60, 60)),
	}
	match := []plan.Match{{Kind: plan.MatchRA}, {Kind: plan.MatchDHCP6Server}}
	for name, frame := range hidden {
		if run(t, match, verdicts{match: 1}, frame) != 1 {
			t.Errorf("%s: passes", name)
		}
		if run(t, []plan.Match{{Kind: plan.MatchRS}}, verdicts{match: 1}, frame) != 0 {
			t.Errorf("%s: dropped although nobody looks for it", name)
		}
	}
	if run(t, match, verdicts{match: 1}, whole) != 0 {
		t.Error("what can be told is dropped")
	}
	for name, opts := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFiltered(t, opts...)
			f.do(t, plan.AddFilter{Link: "eth0", Name: "test", Drop: match})
			for name, frame := range hidden {
				if f.crosses(t, frame) {
					t.Errorf("%s: crosses", name)
				}
			}
			if !f.crosses(t, whole) {
				t.Error("what can be told does not cross")
			}
		})
	}
}

// shortened is an IPv6 frame of so many octets, which it says of itself.
func shortened(frame []byte, octets int) []byte {
	return edit(slices.Clone(frame[:octets]), 18, 0, byte(octets-54))
}

func TestGuardThatCannotBeIsAnError(t *testing.T) {
	for name, s := range map[string]plan.AddFilter{
		"drops more": {Guard: &testGuard, Drop: podMatches},
		"no MAC":     {Guard: &plan.Guard{Addrs: testGuard.Addrs}},
		"no address": {Guard: &plan.Guard{MAC: guestMAC, Addrs: []netip.Addr{{}}}},
		"a zone":     {Guard: &plan.Guard{MAC: guestMAC, Addrs: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}}},
		"IPv4":       {Guard: &plan.Guard{MAC: guestMAC, Others: []netip.Addr{podIP}}},
		"bad pass":   {Guard: &testGuard, Pass: []plan.Match{{Kind: plan.MatchFrom}}},
	} {
		if _, err := compileStep(s, verdicts{}); err == nil {
			t.Errorf("%s: compiled to BPF", name)
		}
		if s.Pass == nil {
			if _, err := nftGuard(chainOf(s), s); err == nil {
				t.Errorf("%s: compiled to nftables", name)
			}
		}
	}
	many := plan.Guard{MAC: guestMAC}
	_, many.Addrs = addresses(400)
	if _, err := compileStep(plan.AddFilter{Guard: &many}, verdicts{}); err == nil || !strings.Contains(err.Error(), "too many addresses for a guard") {
		t.Errorf("many addresses: %v", err)
	}
	many.Addrs = many.Addrs[:90]
	many.Others = []netip.Addr{gatewayIP6, ownLink}
	program, err := compileStep(plan.AddFilter{Guard: &many}, verdicts{})
	t.Logf("90 IPv6 addresses, %d instructions, %v", len(program), err)
	if err != nil {
		t.Error(err)
	}
	program, err = compileStep(plan.AddFilter{Guard: &testGuard}, verdicts{})
	t.Logf("an address of either family, %d instructions, %v", len(program), err)
}
