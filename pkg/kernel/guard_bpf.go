//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// compileStep makes the program of a filter.
func compileStep(s plan.AddFilter, v verdicts) ([]unix.SockFilter, error) {
	if s.Guard == nil {
		return compileExcept(s.Pass, s.Drop, v)
	}
	program, err := joinGuard(s, v, untagged, func(v verdicts) []bpf.Instruction { return ofVLAN(v.match) })
	if err != nil {
		return nil, err
	}
	out, err := assemble(program)
	if err != nil {
		return nil, fmt.Errorf("%w for a guard, which has room for some 90 of IPv6 or 250 of IPv4; leave --guard out", err)
	}
	return out, nil
}

// joinGuard puts the exceptions' program before that of a guard.
func joinGuard(s plan.AddFilter, v verdicts, preamble func([]plan.Match, verdicts) []bpf.Instruction,
	tagged func(verdicts) []bpf.Instruction,
) ([]bpf.Instruction, error) {
	if err := checkGuard(s); err != nil {
		return nil, err
	}
	out, err := exceptions(s.Pass, v, preamble)
	if err != nil {
		return nil, err
	}
	c := compiler{v}
	whole := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: etherEnd, SkipTrue: 1},
		bpf.RetConstant{Val: v.match},
	}
	return slices.Concat(out, tagged(v), whole, c.rules(guardRules(*s.Guard), etherEnd)), nil
}

// rules is a program of the rules, one after the other. A frame that none decides of
// goes on with what stands behind. It has at least so many octets.
func (c compiler) rules(rules []rule, has uint32) []bpf.Instruction {
	var out []bpf.Instruction
	for _, r := range rules {
		out = append(out, c.rule(r, has)...)
	}
	return out
}

func (c compiler) rule(r rule, has uint32) []bpf.Instruction {
	need := has
	for _, f := range r.all {
		need = max(need, f.end())
	}
	var out []bpf.Instruction
	switch {
	case r.hidden != nil:
		need = max(need, ipv6End)
		out = c.behind(*r.hidden)
	case len(r.rules) > 0:
		out = c.rules(r.rules, need)
	case r.drop:
		out = []bpf.Instruction{bpf.RetConstant{Val: c.v.match}}
	default:
		out = []bpf.Instruction{c.pass()}
	}
	for _, f := range slices.Backward(r.all) {
		out = f.before(out)
	}
	if need > has {
		out = slices.Concat([]bpf.Instruction{
			bpf.LoadExtension{Num: bpf.ExtLen},
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: need, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(out))},
		}, out)
	}
	return out
}

// end is how many octets a frame has at least that has the field.
func (f field) end() uint32 {
	if f.transport {
		return ipv4End + f.at + uint32(len(f.want))
	}
	return f.at + uint32(len(f.want))
}

// before goes on with a piece where the field is as it is wanted, and else passes it
// over.
func (f field) before(piece []bpf.Instruction) []bpf.Instruction {
	over := bpf.Jump{Skip: uint32(len(piece))}
	load := bpf.LoadAbsolute{Off: f.at, Size: 2}
	if f.cmp == isNot {
		return append(f.equal([]bpf.Instruction{over}), piece...)
	}
	if f.cmp == isAbove {
		test := bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(binary.BigEndian.Uint16(f.want)), SkipTrue: 1}
		return append([]bpf.Instruction{load, test, over}, piece...)
	}
	if f.cmp == lacks {
		test := bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: uint32(binary.BigEndian.Uint16(f.want)), SkipTrue: 1}
		return append([]bpf.Instruction{load, test, over}, piece...)
	}
	return f.equal(piece)
}

// equal goes on with a piece where the field is the same, word for word.
func (f field) equal(piece []bpf.Instruction) []bpf.Instruction {
	var c compiler
	for end := len(f.want); end > 0; {
		size := min(4, end&-end) // what the last word has
		end -= size
		word := make([]byte, 4-size, 4)
		value := binary.BigEndian.Uint32(append(word, f.want[end:end+size]...))
		load := bpf.Instruction(bpf.LoadAbsolute{Off: f.at + uint32(end), Size: size})
		if f.transport {
			load = bpf.LoadIndirect{Off: offIPv4 + f.at + uint32(end), Size: size}
		}
		piece = append([]bpf.Instruction{load}, c.when(value, piece)...)
	}
	if f.transport {
		piece = slices.Concat([]bpf.Instruction{
			bpf.LoadMemShift{Off: offIPv4}, // the length of the header, into X
			bpf.LoadExtension{Num: bpf.ExtLen},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: offIPv4 + f.at + uint32(len(f.want))},
			bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(piece))},
		}, piece)
	}
	return piece
}
