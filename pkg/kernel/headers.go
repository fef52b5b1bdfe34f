//go:build linux

package kernel

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// hidden are IPv6 messages that are looked for behind extension headers, too. No stack
// sends one there: to hide it so from a filter is an attack (RFC 7113).
type hidden struct {
	types []byte // of ICMPv6
	ports []ports
}

// ports are a datagram's, of which that of the source may be any.
type ports struct{ src, dst uint16 }

func (p ports) mask() uint32 {
	if p.src == 0 {
		return 0xffff
	}
	return 0xffffffff
}

func (p ports) value() uint32 { return uint32(p.src)<<16 | uint32(p.dst) }

// empty reports whether nothing is looked for.
func (h hidden) empty() bool { return len(h.types)+len(h.ports) == 0 }

// hiddenOf are those of the matches that somebody may hide to deceive a guest.
func hiddenOf(matches []plan.Match) (h hidden) {
	for _, m := range matches {
		if m.Kind == plan.MatchRA {
			h.types = append(h.types, typeRA)
		}
		if m.Kind == plan.MatchDHCP6Server {
			h.ports = append(h.ports, ports{portServer6, portClient6})
		}
	}
	return h
}

const (
	// maxHeaders is how many extension headers are looked behind: two more than RFC 8200
	// §4.1 has a packet carry. A program cannot loop, and what has more is dropped.
	maxHeaders = 8

	sizeofHeader = 8 // the least that an extension header has
)

// extensions are the headers behind which hosts look for a message (RFC 8200 §4). What is
// behind those of IPsec they take from somebody alone with whom they share a key.
var extensions = []uint32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS, unix.IPPROTO_FRAGMENT}

// behind is a match where one of the messages stands behind extension headers, or
// nobody can say because the headers do not end in the frame (RFC 7112), or are too
// many. A later fragment is none: without its first one nothing comes of it. The frame
// has an IPv6 header.
func (c compiler) behind(h hidden) []bpf.Instruction {
	if h.empty() {
		return nil
	}
	walk := []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegX, Val: ipv6End}}
	for range maxHeaders {
		walk = append(walk, c.nextHeader()...)
	}
	for _, kind := range extensions {
		walk = append(walk, c.found(kind)...)
	}
	walk = append(walk, c.when(unix.IPPROTO_ICMPV6, c.hiddenTypes(h.types))...)
	walk = append(walk, c.when(unix.IPPROTO_UDP, c.hiddenPorts(h.ports))...)
	first := []bpf.Instruction{bpf.LoadAbsolute{Off: offNextHeader, Size: 1}}
	return goOn(append(first, c.whenAny(extensions, walk)...))
}

// nextHeader goes from the extension header at X, whose kind is in A, to what follows
// it. Of any other it leaves both as they are.
func (c compiler) nextHeader() []bpf.Instruction {
	const next = 0 // in scratch memory
	step := func(size ...bpf.Instruction) []bpf.Instruction {
		return slices.Concat([]bpf.Instruction{
			bpf.LoadIndirect{Off: 0, Size: 1},
			bpf.StoreScratch{Src: bpf.RegA, N: next},
		}, size, []bpf.Instruction{
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{},
			bpf.LoadScratch{Dst: bpf.RegA, N: next},
		})
	}
	fragment := slices.Concat(c.hasAtX(sizeofHeader), []bpf.Instruction{
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: fragOffset6, SkipTrue: 1},
		bpf.RetConstant{Val: undecided},
	}, step(bpf.LoadConstant{Dst: bpf.RegA, Val: sizeofHeader}))
	rest := c.when(unix.IPPROTO_FRAGMENT, fragment)
	options := slices.Concat(c.hasAtX(sizeofHeader), step(
		bpf.LoadIndirect{Off: 1, Size: 1}, // in further units of eight octets
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: sizeofHeader},
	), []bpf.Instruction{bpf.Jump{Skip: uint32(len(rest))}})
	return append(c.whenAny([]uint32{unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS}, options), rest...)
}

// hasAtX is a match where the frame has not so many octets at X: what it hides there
// may be anything.
func (c compiler) hasAtX(octets uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen}, // more than that, with an IPv6 header
		bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: octets},
		bpf.JumpIfX{Cond: bpf.JumpGreaterOrEqual, SkipTrue: 1},
		bpf.RetConstant{Val: c.v.match},
	}
}

func (c compiler) hiddenTypes(types []byte) []bpf.Instruction {
	if len(types) == 0 {
		return nil
	}
	out := append(c.hasAtX(1), bpf.LoadIndirect{Off: 0, Size: 1})
	for _, kind := range types {
		out = append(out, c.found(uint32(kind))...)
	}
	return append(out, bpf.RetConstant{Val: undecided})
}

func (c compiler) hiddenPorts(list []ports) []bpf.Instruction {
	if len(list) == 0 {
		return nil
	}
	out := c.hasAtX(sizeofUDP)
	for _, p := range list {
		out = append(out, bpf.LoadIndirect{Off: 0, Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: p.mask()})
		out = append(out, c.found(p.value())...)
	}
	return append(out, bpf.RetConstant{Val: undecided})
}
