//go:build linux

package kernel

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Where things are in an untagged Ethernet frame: what it carries, ARP for IPv4
// over Ethernet (RFC 826), IPv4 (RFC 791 §3.1) or IPv6 (RFC 8200 §3), begins at 14.
const (
	offSource    = 6
	offEtherType = 12
	etherEnd     = 14

	offARP       = etherEnd // hardware type 1, protocol 0x0800, lengths 6 and 4, operation
	offARPSender = offARP + 14
	offARPTarget = offARP + 24
	arpEnd       = offARP + 28

	offIPv4     = etherEnd
	offFragment = offIPv4 + 6 // flags and fragment offset
	offProtocol = offIPv4 + 9
	offIPv4Dst  = offIPv4 + 16
	ipv4End     = offIPv4 + 20 // without options

	offIPv6       = etherEnd
	offNextHeader = offIPv6 + 6
	offIPv6Src    = offIPv6 + 8
	offIPv6Dst    = offIPv6 + 24
	ipv6End       = offIPv6 + 40
	offNDTarget   = ipv6End + 8 // of a neighbor solicitation or advertisement
	ndEnd         = offNDTarget + 16

	sizeofUDP = 8

	portServer  = 67 // RFC 2131 §4.1
	portClient  = 68
	portClient6 = 546 // RFC 8415 §7.2
	portServer6 = 547

	typeRS = 133 // RFC 4861 §4.1
	typeRA = 134 // RFC 4861 §4.2
	typeNS = 135 // RFC 4861 §4.3
	typeNA = 136 // RFC 4861 §4.4

	arpHeader  = 0x00010800 // Ethernet, IPv4
	arpLengths = 0x06040001 // six octets, four octets, request
	fragOffset = 0x1fff

	fragOffset6 = 0xfff8 // RFC 8200 §4.5

	vlanID = 0x0fff // of a tag

	// maxProgram is how many instructions a program may have. The kernel takes 4096
	// (BPF_MAXINSNS), but one of more than these does not fit into the 32 kB of a part
	// of an answer, so that no snapshot could be read any more (EMSGSIZE).
	maxProgram = 4000
	// maxSkip is how far a conditional jump reaches.
	maxSkip = 255
)

// wholeFrame is a socket filter's verdict for a frame that it lets through: more
// octets than any has.
const wholeFrame = 1 << 18

// verdicts are what a program returns.
type verdicts struct {
	match uint32 // for a frame that one of the matches describes
	pass  uint32 // for all others
}

// compileFilter makes the classic BPF program of the matches, for the kernel.
func compileFilter(matches []plan.Match, v verdicts) ([]unix.SockFilter, error) {
	return compileExcept(nil, matches, v)
}

// compileExcept is compileFilter, in which frames that one of the exceptions
// describes are no match.
func compileExcept(except, matches []plan.Match, v verdicts) ([]unix.SockFilter, error) {
	program, err := join(except, matches, v, untagged)
	if err != nil {
		return nil, err
	}
	return assemble(program)
}

func assemble(program []bpf.Instruction) ([]unix.SockFilter, error) {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assembling a filter: %w", err)
	}
	if err := fits(len(raw)); err != nil {
		return nil, err
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}

// undecided is a verdict that no program returns.
const undecided = 0x70776e6f

// join puts the exceptions' program, which goes on where it finds none, before that
// of the matches. Each begins with a preamble.
func join(except, matches []plan.Match, v verdicts, preamble func([]plan.Match, verdicts) []bpf.Instruction) ([]bpf.Instruction, error) {
	out, err := exceptions(except, v, preamble)
	if err != nil {
		return nil, err
	}
	program, err := compile(matches, v)
	if err != nil {
		return nil, err
	}
	return slices.Concat(out, preamble(matches, v), program), nil
}

// exceptions is a program that passes what one of the matches describes, and goes on
// with what stands behind it.
func exceptions(except []plan.Match, v verdicts, preamble func([]plan.Match, verdicts) []bpf.Instruction) ([]bpf.Instruction, error) {
	if len(except) == 0 {
		return nil, nil
	}
	first := verdicts{match: v.pass, pass: undecided}
	program, err := compile(except, first)
	if err != nil {
		return nil, err
	}
	return goOn(append(preamble(except, first), program...)), nil
}

// goOn has a program that is undecided go on with what stands behind it.
func goOn(program []bpf.Instruction) []bpf.Instruction {
	for i := range program {
		if program[i] == (bpf.RetConstant{Val: undecided}) {
			program[i] = bpf.Jump{Skip: uint32(len(program) - 1 - i)}
		}
	}
	return program
}

// untagged passes frames of a VLAN: they are of another network than the pod's.
// The kernel takes a VLAN tag out of the frame before any filter sees it, so
// that what follows would take the frame for an untagged one. One whose tag is of no VLAN,
// and says its priority alone, hosts do take for that (IEEE 802.1Q §6.9).
func untagged(matches []plan.Match, v verdicts) []bpf.Instruction {
	if matchesAll(matches) {
		return nil
	}
	return ofVLAN(v.pass)
}

// ofVLAN is a verdict on frames of a VLAN. All others go on.
func ofVLAN(verdict uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: vlanID, SkipTrue: 1},
		bpf.RetConstant{Val: verdict},
	}
}

func matchesAll(matches []plan.Match) bool {
	for _, m := range matches {
		if m.Kind == plan.MatchAll {
			return true
		}
	}
	return false
}

// fits refuses a program that is too long, in words: the kernel has none for it.
func fits(instructions int) error {
	if instructions > maxProgram {
		return fmt.Errorf("the filter has %d instructions where %d are the most: it is for too many addresses",
			instructions, maxProgram)
	}
	return nil
}

// compile makes the program of the matches: one section for each type of frame.
// Every load lies within the frame, as one beyond its end would end the program
// with a verdict of 0, whatever that means where it runs.
func compile(matches []plan.Match, v verdicts) ([]bpf.Instruction, error) {
	if matchesAll(matches) {
		return []bpf.Instruction{bpf.RetConstant{Val: v.match}}, nil
	}
	s, err := sortMatches(matches)
	if err != nil {
		return nil, err
	}
	c := compiler{v}
	return c.longEnough(etherEnd,
		c.sources(s.from),
		[]bpf.Instruction{bpf.LoadAbsolute{Off: offEtherType, Size: 2}},
		c.when(unix.ETH_P_IP, c.ipv4(s)),
		c.when(unix.ETH_P_ARP, c.arp(s)),
		c.when(unix.ETH_P_IPV6, c.ipv6(s)),
	), nil
}

// sorted are matches by where in a frame they are looked for.
type sorted struct {
	kinds               map[plan.MatchKind]bool // those without an address
	to4, to6            []netip.Addr
	arpWhoHas, arpProbe []netip.Addr
	whoHas, probe, says []netip.Addr // of ND
	from                []netstate.MAC
	hidden              hidden
}

// sortMatches finds each match its place.
func sortMatches(matches []plan.Match) (sorted, error) {
	s := sorted{kinds: map[plan.MatchKind]bool{}, hidden: hiddenOf(matches)}
	for _, m := range matches {
		if err := checkMatch(m); err != nil {
			return s, err
		}
		switch m.Kind {
		case plan.MatchARPWhoHas:
			s.arpWhoHas = append(s.arpWhoHas, m.Addr)
		case plan.MatchARPProbe:
			s.arpProbe = append(s.arpProbe, m.Addr)
		case plan.MatchNDWhoHas:
			s.whoHas = append(s.whoHas, m.Addr)
		case plan.MatchNDProbe:
			s.probe = append(s.probe, m.Addr)
		case plan.MatchNDSays:
			s.says = append(s.says, m.Addr)
		case plan.MatchTo:
			if m.Addr.Is4() {
				s.to4 = append(s.to4, m.Addr)
			} else {
				s.to6 = append(s.to6, m.Addr)
			}
		case plan.MatchFrom:
			s.from = append(s.from, m.MAC)
		default:
			s.kinds[m.Kind] = true
		}
	}
	return s, nil
}

// checkMatch says what is wrong with a match.
func checkMatch(m plan.Match) error {
	switch m.Kind {
	case plan.MatchAll, plan.MatchDHCPClient, plan.MatchDHCPServer,
		plan.MatchDHCP6Client, plan.MatchDHCP6Server, plan.MatchRS, plan.MatchRA:
		return nil
	case plan.MatchARPWhoHas, plan.MatchARPProbe:
		if !m.Addr.Is4() {
			return fmt.Errorf("match %q: not an IPv4 address", m)
		}
		return nil
	case plan.MatchNDWhoHas, plan.MatchNDProbe, plan.MatchNDSays:
		if !m.Addr.Is6() {
			return fmt.Errorf("match %q: not an IPv6 address", m)
		}
		return nil
	case plan.MatchTo:
		if !m.Addr.IsValid() {
			return fmt.Errorf("match %q: no address", m)
		}
		return nil
	case plan.MatchFrom:
		if m.MAC == (netstate.MAC{}) {
			return fmt.Errorf("match %q: no MAC", m)
		}
		return nil
	default:
		return fmt.Errorf("match %q: unknown kind", m.Kind)
	}
}

// ipv4 is the section for IPv4. Ports are looked for only in a UDP header that is
// there: not in a later fragment, and not beyond the end.
func (c compiler) ipv4(s sorted) []bpf.Instruction {
	var ports []bpf.Instruction
	if s.kinds[plan.MatchDHCPClient] {
		ports = append(ports, bpf.LoadIndirect{Off: offIPv4 + 2, Size: 2})
		ports = append(ports, c.found(portServer)...)
	}
	if s.kinds[plan.MatchDHCPServer] { // both ports in one load
		ports = append(ports, bpf.LoadIndirect{Off: offIPv4, Size: 4})
		ports = append(ports, c.found(portServer<<16|portClient)...)
	}
	return c.longEnough(ipv4End,
		c.anyOf(offIPv4Dst, s.to4),
		[]bpf.Instruction{bpf.LoadAbsolute{Off: offProtocol, Size: 1}},
		c.when(unix.IPPROTO_UDP, slices.Concat([]bpf.Instruction{
			bpf.LoadAbsolute{Off: offFragment, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: fragOffset, SkipTrue: 1},
			c.pass(),
			bpf.LoadMemShift{Off: offIPv4}, // the length of the header, into X
			bpf.LoadExtension{Num: bpf.ExtLen},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: offIPv4 + sizeofUDP},
			bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1},
			c.pass(),
		}, ports)),
	)
}

// arp is the section for ARP requests.
func (c compiler) arp(s sorted) []bpf.Instruction {
	return c.longEnough(arpEnd,
		[]bpf.Instruction{
			bpf.LoadAbsolute{Off: offARP, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: arpHeader, SkipTrue: 1},
			c.pass(),
			bpf.LoadAbsolute{Off: offARP + 4, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: arpLengths, SkipTrue: 1},
			c.pass(),
		},
		c.anyOf(offARPTarget, s.arpWhoHas),
		// RFC 5227 §1.1: the sender's address is all zero.
		c.from(offARPSender, netip.IPv4Unspecified(), c.anyOf(offARPTarget, s.arpProbe)),
	)
}

// ipv6 is the section for IPv6. UDP and ICMPv6 are looked for directly behind the
// IPv6 header: podwire answers no message that stands behind an extension header. But
// by those that are hidden there a guest could be deceived.
func (c compiler) ipv6(s sorted) []bpf.Instruction {
	var ports, types []bpf.Instruction
	if s.kinds[plan.MatchDHCP6Client] {
		ports = append(ports, bpf.LoadAbsolute{Off: ipv6End + 2, Size: 2})
		ports = append(ports, c.found(portServer6)...)
	}
	if s.kinds[plan.MatchDHCP6Server] {
		ports = append(ports, bpf.LoadAbsolute{Off: ipv6End, Size: 4})
		ports = append(ports, c.found(portServer6<<16|portClient6)...)
	}
	if s.kinds[plan.MatchRS] {
		types = append(types, c.found(typeRS)...)
	}
	if s.kinds[plan.MatchRA] {
		types = append(types, c.found(typeRA)...)
	}
	return c.longEnough(ipv6End,
		c.anyOf(offIPv6Dst, s.to6),
		[]bpf.Instruction{bpf.LoadAbsolute{Off: offNextHeader, Size: 1}},
		c.when(unix.IPPROTO_UDP, c.longEnough(ipv6End+sizeofUDP, ports)),
		c.when(unix.IPPROTO_ICMPV6, c.longEnough(ipv6End+1,
			[]bpf.Instruction{bpf.LoadAbsolute{Off: ipv6End, Size: 1}},
			types,
			c.when(typeNS, c.longEnough(ndEnd,
				c.anyOf(offNDTarget, s.whoHas),
				// RFC 4862 §5.4.2: the source is the unspecified address.
				c.from(offIPv6Src, netip.IPv6Unspecified(), c.anyOf(offNDTarget, s.probe)),
			)),
			c.when(typeNA, c.longEnough(ndEnd, c.anyOf(offNDTarget, s.says))),
		)),
		c.behind(s.hidden),
	)
}
