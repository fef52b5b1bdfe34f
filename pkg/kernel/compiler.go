//go:build linux

package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// compiler makes the pieces of a program. Each either ends with a verdict or goes
// on with what stands behind it.
type compiler struct{ v verdicts }

func (c compiler) pass() bpf.Instruction { return bpf.RetConstant{Val: c.v.pass} }

// longEnough goes on with the pieces, one after the other, for a frame of at least
// so many octets, and lets the frame pass where it is shorter, or none of them
// found a match.
func (c compiler) longEnough(octets uint32, pieces ...[]bpf.Instruction) []bpf.Instruction {
	return slices.Concat([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: octets, SkipTrue: 1},
		c.pass(),
	}, slices.Concat(pieces...), []bpf.Instruction{c.pass()})
}

// when goes on with a piece where A is the value, and else passes it over, with A
// as it was.
func (c compiler) when(value uint32, piece []bpf.Instruction) []bpf.Instruction {
	if len(piece) <= maxSkip {
		return append([]bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: uint8(len(piece))},
		}, piece...)
	}
	return append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(piece))},
	}, piece...)
}

// whenAny is when for any of several values.
func (c compiler) whenAny(values []uint32, piece []bpf.Instruction) []bpf.Instruction {
	out := make([]bpf.Instruction, 0, len(values)+1+len(piece))
	for i, v := range values {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return append(append(out, bpf.Jump{Skip: uint32(len(piece))}), piece...)
}

// found is a match where A is the value.
func (c compiler) found(value uint32) []bpf.Instruction {
	return c.when(value, []bpf.Instruction{bpf.RetConstant{Val: c.v.match}})
}

// from goes on with a piece where an address in the frame is a given one.
func (c compiler) from(offset uint32, a netip.Addr, piece []bpf.Instruction) []bpf.Instruction {
	if len(piece) == 0 {
		return nil
	}
	want := words(a)
	for i := len(want) - 1; i >= 0; i-- {
		piece = append([]bpf.Instruction{bpf.LoadAbsolute{Off: offset + 4*uint32(i), Size: 4}}, c.when(want[i], piece)...)
	}
	return piece
}

// anyOf is a match where the address in the frame is one of a family's.
//
// What the kernel makes of a program it holds against the socket's memory
// (net.core.optmem_max, 20 kB before Linux 6.7), and of a load from the frame it
// makes much. So the address is loaded once, and those that differ in their last
// word alone share the way to it.
func (c compiler) anyOf(offset uint32, addrs []netip.Addr) []bpf.Instruction {
	if len(addrs) == 0 {
		return nil
	}
	addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	last := len(words(addrs[0])) - 1
	var out []bpf.Instruction
	for i := range last + 1 {
		out = append(out, bpf.LoadAbsolute{Off: offset + 4*uint32(i), Size: 4}, bpf.StoreScratch{Src: bpf.RegA, N: i})
	}
	for len(addrs) > 0 {
		first := words(addrs[0])
		piece := []bpf.Instruction{bpf.LoadScratch{Dst: bpf.RegA, N: last}}
		for len(addrs) > 0 && slices.Equal(words(addrs[0])[:last], first[:last]) {
			piece = append(piece, c.found(words(addrs[0])[last])...)
			addrs = addrs[1:]
		}
		for i := last - 1; i >= 0; i-- {
			piece = append([]bpf.Instruction{bpf.LoadScratch{Dst: bpf.RegA, N: i}}, c.when(first[i], piece)...)
		}
		out = append(out, piece...)
	}
	return out
}

// sources is a match where the frame's source is one of these. A frame that is sent
// may have its VLAN tag in it yet.
func (c compiler) sources(macs []netstate.MAC) []bpf.Instruction {
	if len(macs) == 0 {
		return nil
	}
	out := []bpf.Instruction{bpf.LoadAbsolute{Off: offEtherType, Size: 2}}
	for _, tagged := range []uint32{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		out = append(out, c.when(tagged, []bpf.Instruction{c.pass()})...)
	}
	for _, m := range macs {
		last := slices.Concat([]bpf.Instruction{bpf.LoadAbsolute{Off: offSource + 4, Size: 2}},
			c.found(uint32(binary.BigEndian.Uint16(m[4:]))))
		out = append(out, bpf.LoadAbsolute{Off: offSource, Size: 4})
		out = append(out, c.when(binary.BigEndian.Uint32(m[:]), last)...)
	}
	return out
}

// words are the words of an address as BPF loads them.
func words(a netip.Addr) []uint32 {
	var out []uint32
	for b := range slices.Chunk(a.AsSlice(), 4) {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out
}
