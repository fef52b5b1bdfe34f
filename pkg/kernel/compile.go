//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// Where things are in an untagged Ethernet frame: ARP for IPv4 over Ethernet
// (RFC 826) and IPv4 (RFC 791 §3.1) begin at 14.
const (
	offEtherType = 12
	offARP       = 14 // hardware type 1, protocol 0x0800, lengths 6 and 4, operation
	offARPSender = 28
	offARPTarget = 38
	offIPv4      = 14
	offFragment  = 20 // flags and fragment offset
	offProtocol  = 23
	leastFrame   = 42 // ARP, or IPv4 without options and UDP
	udpEnd       = offIPv4 + 8

	portServer = 67 // RFC 2131 §4.1
	portClient = 68

	arpHeader  = 0x00010800 // Ethernet, IPv4
	arpLengths = 0x06040001 // six octets, four octets, request
	fragOffset = 0x1fff
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
	program, err := compile(matches, v)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(append(untagged(matches, v), program...))
	if err != nil {
		return nil, fmt.Errorf("assembling a filter: %w", err)
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}

// untagged passes frames of a VLAN: they are of another network than the pod's.
// The kernel takes a VLAN tag out of the frame before any filter sees it, so
// that what follows would take the frame for an untagged one.
func untagged(matches []plan.Match, v verdicts) []bpf.Instruction {
	if matchesAll(matches) {
		return nil
	}
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: v.pass},
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

// compile makes the program of the matches: one section for IPv4, one for ARP.
// Every load lies within the frame, as one beyond its end would end the program
// with a verdict of 0, whatever that means where it runs.
func compile(matches []plan.Match, v verdicts) ([]bpf.Instruction, error) {
	if matchesAll(matches) {
		return []bpf.Instruction{bpf.RetConstant{Val: v.match}}, nil
	}
	var dhcp, arp []bpf.Instruction
	for _, m := range matches {
		switch m.Kind {
		case plan.MatchDHCPClient:
			dhcp = append(dhcp, dhcpClient(v)...)
		case plan.MatchDHCPServer:
			dhcp = append(dhcp, dhcpServer(v)...)
		case plan.MatchARPWhoHas, plan.MatchARPProbe:
			if !m.Addr.Is4() {
				return nil, fmt.Errorf("match %q: not an IPv4 address", m)
			}
			arp = append(arp, arpRequest(m, v)...)
		default:
			return nil, fmt.Errorf("match %q: unknown kind", m.Kind)
		}
	}
	pass := bpf.RetConstant{Val: v.pass}
	ipv4 := append(udpOnly(dhcp, v), pass)
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: leastFrame, SkipTrue: 1},
		pass,
		bpf.LoadAbsolute{Off: offEtherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: uint8(len(ipv4))},
	}
	program = append(program, ipv4...)
	program = append(program, arpOnly(v)...)
	program = append(program, arp...)
	return append(program, pass), nil
}

// udpOnly goes on with ports only for a UDP header that is there: not in a later
// fragment, and not beyond the end. It leaves the length of the IPv4 header in X.
func udpOnly(ports []bpf.Instruction, v verdicts) []bpf.Instruction {
	pass := bpf.RetConstant{Val: v.pass}
	head := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offProtocol, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		pass,
		bpf.LoadAbsolute{Off: offFragment, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: fragOffset, SkipTrue: 1},
		pass,
		bpf.LoadMemShift{Off: offIPv4},
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: udpEnd},
		bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1},
		pass,
	}
	return append(head, ports...)
}

func dhcpClient(v verdicts) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadIndirect{Off: offIPv4 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: portServer, SkipFalse: 1},
		bpf.RetConstant{Val: v.match},
	}
}

// dhcpServer looks at both ports in one load.
func dhcpServer(v verdicts) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadIndirect{Off: offIPv4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: portServer<<16 | portClient, SkipFalse: 1},
		bpf.RetConstant{Val: v.match},
	}
}

// arpOnly goes on for ARP requests. The type of the frame is in A.
func arpOnly(v verdicts) []bpf.Instruction {
	pass := bpf.RetConstant{Val: v.pass}
	return []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 1},
		pass,
		bpf.LoadAbsolute{Off: offARP, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arpHeader, SkipTrue: 1},
		pass,
		bpf.LoadAbsolute{Off: offARP + 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arpLengths, SkipTrue: 1},
		pass,
	}
}

func arpRequest(m plan.Match, v verdicts) []bpf.Instruction {
	target := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offARPTarget, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: number(m.Addr), SkipFalse: 1},
		bpf.RetConstant{Val: v.match},
	}
	if m.Kind == plan.MatchARPWhoHas {
		return target
	}
	probe := []bpf.Instruction{ // RFC 5227 §1.1: the sender's address is all zero
		bpf.LoadAbsolute{Off: offARPSender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: uint8(len(target))},
	}
	return append(probe, target...)
}

// number is an IPv4 address as BPF loads it.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
