//go:build linux

package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// rule says what becomes of frames of which all fields are as it wants them. One with
// rules of its own asks these. It is what both ways to filter are made of.
type rule struct {
	all    []field
	rules  []rule
	hidden *hidden // drops these alone, and what may be one
	drop   bool    // else it passes
}

// comparison is how a field is compared.
type comparison int

const (
	is comparison = iota
	isNot
	isAbove // as a number of two octets
	lacks   // has none of these bits, of two octets
)

// field is a part of a frame, and what it is compared with.
type field struct {
	cmp  comparison
	at   uint32 // in the frame; in the transport header of an IPv4 packet
	want []byte // one octet, or an even number of them
	// transport says that it is in the header behind IPv4's.
	transport bool
}

func has(offset uint32, want ...byte) field     { return field{at: offset, want: want} }
func hasNot(offset uint32, want ...byte) field  { return field{cmp: isNot, at: offset, want: want} }
func ofType(v uint16) field                     { return field{at: offEtherType, want: port(v)} }
func inTransport(at uint32, want ...byte) field { return field{at: at, want: want, transport: true} }
func passes(all ...field) rule                  { return rule{all: all} }
func drops(all ...field) rule                   { return rule{all: all, drop: true} }
func where(all []field, rules ...[]rule) rule {
	return rule{all: all, rules: slices.Concat(rules...)}
}

var linkLocal = []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0} // RFC 4291 §2.5.6

const (
	typeICMPRedirect = 5   // RFC 792
	typeMLDReport    = 131 // RFC 2710 §3
	typeMLDDone      = 132
	typeRedirect     = 137 // RFC 4861 §4.5
	typeMLDReport2   = 143 // RFC 3810 §5.2

	optSource = 1 // link-layer address (RFC 4861 §4.6.1)
	optTarget = 2

	offIPv4Src    = offIPv4 + 12
	offIPv6Length = offIPv6 + 4
	rsEnd         = ipv6End + 8

	sizeofOption = 8 // of ND, of Ethernet addresses
	// maxOptions is how much of a guest's message is looked at, in such options: it has
	// one, and a nonce at times (RFC 7527 §4.2). What is longer is dropped.
	maxOptions = 4
)

// checkGuard says what is wrong with a guard.
func checkGuard(s plan.AddFilter) error {
	g := *s.Guard
	bad := func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() || a.Zone() != "" }
	switch {
	case len(s.Drop) > 0:
		return fmt.Errorf("a filter that guards drops nothing else")
	case g.MAC == (netstate.MAC{}):
		return fmt.Errorf("a guard of no MAC")
	case slices.ContainsFunc(g.Addrs, bad), slices.ContainsFunc(g.Others, func(a netip.Addr) bool { return bad(a) || !a.Is6() }):
		return fmt.Errorf("a guard of what is no address: %v, %v", g.Addrs, g.Others)
	}
	return nil
}

// guardRules are those of a guard, which decide of every frame.
func guardRules(g plan.Guard) []rule {
	return []rule{
		drops(hasNot(offSource, g.MAC[:]...)),
		where([]field{ofType(unix.ETH_P_ARP)}, guardARP(g)),
		where([]field{ofType(unix.ETH_P_IP)}, guardIPv4(g)),
		where([]field{ofType(unix.ETH_P_IPV6)}, guardIPv6(g)),
		drops(),
	}
}

func guardARP(g plan.Guard) []rule {
	sender := []field{has(offARP, 0, 1, 8, 0, 6, 4), has(offARP+8, g.MAC[:]...)}
	if !g.Known() {
		return []rule{passes(sender...), drops()}
	}
	var rules []rule
	for _, a := range g.AddrsOf(true) {
		rules = append(rules, passes(has(offARPSender, a.AsSlice()...)))
	}
	return []rule{
		where(sender, rules, []rule{passes(has(offARP+6, 0, 1), has(offARPSender, 0, 0, 0, 0))}), // a probe
		drops(),
	}
}

func guardIPv4(g plan.Guard) []rule {
	first := field{cmp: lacks, at: offFragment, want: port(fragOffset)}
	rules := []rule{
		drops(has(offProtocol, unix.IPPROTO_ICMP), first, inTransport(0, typeICMPRedirect)),
		drops(has(offProtocol, unix.IPPROTO_UDP), first, inTransport(2, port(portClient)...)),
	}
	if !g.Known() {
		return append(rules, passes())
	}
	for _, a := range g.AddrsOf(true) {
		rules = append(rules, passes(has(offIPv4Src, a.AsSlice()...)))
	}
	dhcp := passes(has(offIPv4Src, 0, 0, 0, 0), has(offProtocol, unix.IPPROTO_UDP), first, inTransport(2, port(portServer)...))
	return append(rules, dhcp, drops())
}

// guardHidden are the messages that no guest has reason to hide.
var guardHidden = hidden{types: []byte{typeRS, typeRA, typeNS, typeNA, typeRedirect}, ports: []ports{{dst: portClient6}}}

func guardIPv6(g plan.Guard) []rule {
	rules := []rule{
		where([]field{has(offNextHeader, unix.IPPROTO_ICMPV6)}, guardND(g)),
		drops(has(offNextHeader, unix.IPPROTO_UDP), has(ipv6End+2, port(portClient6)...)),
		// Neighbor discovery is never fragmented either (RFC 6980).
		{hidden: &guardHidden},
	}
	if !g.Known() {
		return append(rules, passes())
	}
	rules = append(rules, guardNobody(g))
	for _, a := range g.Others {
		rules = append(rules, drops(has(offIPv6Src, a.AsSlice()...)))
	}
	for _, a := range g.AddrsOf(false) {
		rules = append(rules, passes(has(offIPv6Src, a.AsSlice()...)))
	}
	return append(rules, passes(has(offIPv6Src, linkLocal...)), drops())
}

// guardND drops what only a router says, and claims to others' addresses. All else
// goes on.
func guardND(g plan.Guard) []rule {
	rules := []rule{drops(has(ipv6End, typeRA)), drops(has(ipv6End, typeRedirect))}
	if g.Known() {
		rules = append(rules, where([]field{has(ipv6End, typeNA)}, otherTargets(g)))
	}
	for _, m := range []struct {
		kind byte
		end  uint32
	}{{typeRS, rsEnd}, {typeNS, ndEnd}, {typeNA, ndEnd}} {
		most := uint16(m.end - ipv6End + maxOptions*sizeofOption)
		options := []rule{drops(field{cmp: isAbove, at: offIPv6Length, want: port(most)})}
		for i := range uint32(maxOptions) {
			place := m.end + i*sizeofOption
			for _, option := range []byte{optSource, optTarget} {
				options = append(options, drops(has(place, option, 1), hasNot(place+2, g.MAC[:]...)))
			}
		}
		rules = append(rules, where([]field{has(ipv6End, m.kind)}, options))
	}
	return rules
}

// otherTargets drops a neighbor solicitation or advertisement of what is not the guest's.
func otherTargets(g plan.Guard) []rule {
	var rules []rule
	for _, a := range g.Others {
		rules = append(rules, drops(has(offNDTarget, a.AsSlice()...)))
	}
	notOwn := []field{hasNot(offNDTarget, linkLocal...)}
	for _, a := range g.AddrsOf(false) {
		notOwn = append(notOwn, hasNot(offNDTarget, a.AsSlice()...))
	}
	return append(rules, drops(notOwn...))
}

// guardNobody is of a guest that has no address yet: it asks for routers, whether it
// may have an address, and says what groups it is in.
func guardNobody(g plan.Guard) rule {
	icmp := append(otherTargets(g), passes())
	rules := []rule{
		where([]field{has(offNextHeader, unix.IPPROTO_ICMPV6), has(ipv6End, typeNS)}, icmp),
		passes(has(offNextHeader, unix.IPPROTO_ICMPV6), has(ipv6End, typeRS)),
	}
	for _, kind := range []byte{typeMLDReport, typeMLDDone, typeMLDReport2} {
		rules = append(rules,
			passes(has(offNextHeader, unix.IPPROTO_ICMPV6), has(ipv6End, kind)),
			// Behind the option that says so to routers (RFC 2711).
			passes(has(offNextHeader, unix.IPPROTO_HOPOPTS), has(ipv6End, unix.IPPROTO_ICMPV6, 0), has(ipv6End+sizeofHeader, kind)))
	}
	return where([]field{has(offIPv6Src, make([]byte, 16)...)}, rules, []rule{drops()})
}
