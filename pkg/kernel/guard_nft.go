//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// nftGuard makes of a guard what compileStep makes of it in BPF. A rule of nftables'
// that would look beyond the frame does not match either.
func nftGuard(chain *nftables.Chain, s plan.AddFilter) ([]*nftables.Rule, error) {
	if err := checkGuard(s); err != nil {
		return nil, err
	}
	return append(nftOfVLANs(chain, expr.VerdictDrop), flatten(chain, guardRules(*s.Guard), nil)...), nil
}

// flatten makes a rule of each that decides, with all that those say which it is of.
func flatten(chain *nftables.Chain, rules []rule, of []field) []*nftables.Rule {
	var out []*nftables.Rule
	for _, r := range rules {
		all := slices.Concat(of, r.all)
		switch {
		case r.hidden != nil:
			out = append(out, nftJumps(chain)...)
		case len(r.rules) > 0:
			out = append(out, flatten(chain, r.rules, all)...)
		default:
			out = append(out, guardRule(chain, all, r.drop))
		}
	}
	return out
}

func guardRule(chain *nftables.Chain, all []field, drop bool) *nftables.Rule {
	verdict, text := expr.VerdictAccept, "guard: pass" // a comment has no room for what
	if drop {
		verdict, text = expr.VerdictDrop, "guard: drop"
	}
	var exprs []expr.Any
	for _, f := range all {
		exprs = append(exprs, f.exprs()...)
	}
	return nftRule(chain, &expr.Verdict{Kind: verdict}, text, exprs)
}

// exprs go on where the field is as it is wanted.
func (f field) exprs() []expr.Any {
	if f.at == offEtherType { // which the tag that the kernel took out would hide
		return etherType(binary.BigEndian.Uint16(f.want))
	}
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.at - etherEnd, Len: uint32(len(f.want))}
	switch {
	case f.transport:
		load.Base, load.Offset = expr.PayloadBaseTransportHeader, f.at
	case f.at < etherEnd:
		load.Base, load.Offset = expr.PayloadBaseLLHeader, f.at
	}
	cmp := &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: f.want}
	if f.cmp == lacks {
		cmp.Data = port(0)
		return []expr.Any{load, bitsOf(f.want), cmp}
	}
	if f.cmp == isNot {
		cmp.Op = expr.CmpOpNeq
	}
	if f.cmp == isAbove {
		cmp.Op = expr.CmpOpGt
	}
	return []expr.Any{load, cmp}
}

// bitsOf keeps the bits of a register of two octets that a mask has.
func bitsOf(mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: port(0)}
}

// nftBehind names the chain that looks behind extension headers for another one. Its name
// is none of a filter.
func nftBehind(chain *nftables.Chain) *nftables.Chain {
	c := nftChainOf(chain.Name)
	return &nftables.Chain{Name: c.link + ":" + c.name, Table: nftTable}
}

// nftJumps ask the chain that looks behind extension headers.
func nftJumps(chain *nftables.Chain) []*nftables.Rule {
	var out []*nftables.Rule
	for _, kind := range extensions {
		jump := &expr.Verdict{Kind: expr.VerdictJump, Chain: nftBehind(chain).Name}
		out = append(out, nftRule(chain, jump, fmt.Sprintf("behind header %d", kind), ipv6Exprs(byte(kind))))
	}
	return out
}

// nftHidden are the rules of a chain that looks behind extension headers: nftables goes
// as far as these lead. What has not the header in which it would be told what the
// packet is, is dropped, as compiler.behind has it.
func nftHidden(chain *nftables.Chain, h hidden) []*nftables.Rule {
	icmp, udp := lastHeader(unix.IPPROTO_ICMPV6, expr.CmpOpEq), lastHeader(unix.IPPROTO_UDP, expr.CmpOpEq)
	var out []*nftables.Rule
	add := func(kind expr.VerdictKind, text string, exprs ...[]expr.Any) {
		out = append(out, nftRule(chain, &expr.Verdict{Kind: kind}, text, exprs...))
	}
	add(expr.VerdictReturn, "later fragments", []expr.Any{
		&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
		bitsOf(port(fragOffset6)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: port(0)},
	})
	for _, kind := range h.types {
		add(expr.VerdictDrop, fmt.Sprintf("icmp6 type %d", kind), icmp, load(expr.PayloadBaseTransportHeader, 0, kind))
	}
	for _, p := range h.ports {
		want, offset := append(port(p.src), port(p.dst)...), uint32(0)
		if p.src == 0 {
			want, offset = port(p.dst), 2
		}
		add(expr.VerdictDrop, fmt.Sprintf("udp %v", p), udp, load(expr.PayloadBaseTransportHeader, offset, want...))
	}
	if len(h.types) > 0 {
		icmp = append(icmp, transportOf(1)...)
	}
	if len(h.ports) > 0 {
		udp = append(udp, transportOf(sizeofUDP)...)
	}
	add(expr.VerdictReturn, "other icmp6", icmp)
	add(expr.VerdictReturn, "other udp", udp)
	add(expr.VerdictReturn, "neither", lastHeader(unix.IPPROTO_ICMPV6, expr.CmpOpNeq), lastHeader(unix.IPPROTO_UDP, expr.CmpOpNeq))
	add(expr.VerdictDrop, "nobody can tell")
	return out
}

// lastHeader compares what stands behind the extension headers.
func lastHeader(protocol byte, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{protocol}},
	}
}

// transportOf goes on where there is so much of a transport header, whatever is in it.
func transportOf(octets int) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: uint32(octets)},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: make([]byte, octets)},
	}
}
