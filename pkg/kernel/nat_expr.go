//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/plan"
)

// Where in their headers the fields are that rules look at.
const (
	ipv4Src, ipv4Dst = 12, 16 // RFC 791 §3.1
	ipv6Src, ipv6Dst = 8, 24  // RFC 8200 §3
	portDst          = 2      // the same of TCP, UDP and SCTP
	tcpFlags         = 13     // RFC 9293 §3.1
	icmpType         = 0      // RFC 792, RFC 4443 §2.1
)

// Bits of a TCP header's flags.
const (
	tcpFIN, tcpSYN, tcpRST, tcpACK = 0x01, 0x02, 0x04, 0x10
	tcpOpening                     = tcpFIN | tcpSYN | tcpRST | tcpACK
)

// Types of messages that tell a host of a better way.
const (
	icmpRedirect = 5   // RFC 792
	ndRedirect   = 137 // RFC 4861 §4.5
)

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// exprs is a rule in the making: one register is enough, as every condition is
// done with it before the next.
type exprs struct {
	list []expr.Any
	err  error
}

func (e *exprs) add(more ...expr.Any) { e.list = append(e.list, more...) }

func (e *exprs) is(op expr.CmpOp, data ...byte) { e.add(&expr.Cmp{Op: op, Register: 1, Data: data}) }

// meta loads what is known of the packet beside its octets, and goes on where it
// is data.
func (e *exprs) meta(key expr.MetaKey, data ...byte) {
	e.add(&expr.Meta{Key: key, Register: 1})
	e.is(expr.CmpOpEq, data...)
}

func (e *exprs) load(base expr.PayloadBase, offset, size uint32) {
	e.add(&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: size})
}

// link goes on where the link has that name, or with op CmpOpNeq another. Of a name
// that ends in * the beginning is compared.
func (e *exprs) link(op expr.CmpOp, key expr.MetaKey, name string) {
	if name == "" {
		return
	}
	begins, isPrefix := strings.CutSuffix(name, "*")
	data := []byte(begins)
	if !isPrefix {
		data = append(data, make([]byte, unix.IFNAMSIZ-len(data))...)
	}
	e.add(&expr.Meta{Key: key, Register: 1})
	e.is(op, data...)
}

// family goes on with packets of a family.
func (e *exprs) family(name string) {
	switch name {
	case "":
		return
	case "ip":
		e.meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
	case "ip6":
		e.meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
	default:
		e.err = fmt.Errorf("family %q: %w", name, errors.ErrUnsupported)
	}
}

// network goes on with addresses in, or with op CmpOpNeq not in, a network.
func (e *exprs) network(op expr.CmpOp, p netip.Prefix, offset4, offset6 uint32) {
	if !p.IsValid() {
		return
	}
	family, offset := byte(unix.NFPROTO_IPV4), offset4
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, offset6
	}
	e.meta(expr.MetaKeyNFPROTO, family)
	size := uint32(p.Addr().BitLen() / 8)
	e.load(expr.PayloadBaseNetworkHeader, offset, size)
	if !p.IsSingleIP() {
		e.add(&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: maskOf(p), Xor: make([]byte, size)})
	}
	e.is(op, p.Masked().Addr().AsSlice()...)
}

func maskOf(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return mask
}

// ports goes on with a protocol's ports.
func (e *exprs) ports(p *config.Ports) {
	if p == nil {
		return
	}
	protocol, ok := protocols[p.Protocol]
	if !ok {
		e.err = fmt.Errorf("protocol %q: %w", p.Protocol, errors.ErrUnsupported)
		return
	}
	e.meta(expr.MetaKeyL4PROTO, protocol)
	e.load(expr.PayloadBaseTransportHeader, portDst, 2)
	if p.First == p.Last {
		e.is(expr.CmpOpEq, port(p.First)...)
		return
	}
	e.is(expr.CmpOpGte, port(p.First)...)
	e.is(expr.CmpOpLte, port(p.Last)...)
}

// midStream goes on with what is TCP and opens no connection.
func (e *exprs) midStream(wanted bool) {
	if !wanted {
		return
	}
	e.meta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP)
	e.load(expr.PayloadBaseTransportHeader, tcpFlags, 1)
	e.add(&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpOpening}, Xor: []byte{0}})
	e.is(expr.CmpOpNeq, tcpSYN)
}

// redirects goes on with what tells of a better way.
func (e *exprs) redirects(family string) {
	switch family {
	case "":
		return
	case "ip":
		e.meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
		e.meta(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMP)
		e.load(expr.PayloadBaseTransportHeader, icmpType, 1)
		e.is(expr.CmpOpEq, icmpRedirect)
	case "ip6":
		e.meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
		e.meta(expr.MetaKeyL4PROTO, unix.IPPROTO_ICMPV6)
		e.load(expr.PayloadBaseTransportHeader, icmpType, 1)
		e.is(expr.CmpOpEq, ndRedirect)
	default:
		e.err = fmt.Errorf("redirects of %q: %w", family, errors.ErrUnsupported)
	}
}

// verdict ends the rule.
func (e *exprs) verdict(r plan.Rule) {
	switch r.Do {
	case plan.Drop:
		e.add(&expr.Verdict{Kind: expr.VerdictDrop})
	case plan.Return:
		e.add(&expr.Verdict{Kind: expr.VerdictReturn})
	case plan.Jump:
		e.add(&expr.Verdict{Kind: expr.VerdictJump, Chain: r.Chain})
	case plan.DNAT:
		e.nat(expr.NATTypeDestNAT, r.To)
	case plan.SNAT:
		e.nat(expr.NATTypeSourceNAT, r.To)
	case plan.MasqueradeIt:
		e.add(&expr.Masq{})
	default:
		e.err = fmt.Errorf("verdict %q: %w", r.Do, errors.ErrUnsupported)
	}
}

// nat translates to an address, packets of its family alone: to others the
// expression does nothing, and the next rule is looked at.
func (e *exprs) nat(kind expr.NATType, to netip.Addr) {
	family := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		family = unix.NFPROTO_IPV6
	}
	e.add(&expr.Immediate{Register: 1, Data: to.AsSlice()}, &expr.NAT{Type: kind, Family: family, RegAddrMin: 1})
}

// ruleExprs says a rule in the terms of the kernel.
func ruleExprs(r plan.Rule) ([]expr.Any, error) {
	e := &exprs{}
	source := expr.CmpOpEq
	if r.Not {
		source = expr.CmpOpNeq
	}
	e.link(expr.CmpOpEq, expr.MetaKeyIIFNAME, r.In)
	e.link(expr.CmpOpEq, expr.MetaKeyOIFNAME, r.Out)
	e.link(expr.CmpOpNeq, expr.MetaKeyIIFNAME, r.NotIn)
	e.link(expr.CmpOpNeq, expr.MetaKeyOIFNAME, r.NotOut)
	e.family(r.Family)
	e.network(source, r.Src, ipv4Src, ipv6Src)
	e.network(expr.CmpOpEq, r.Dst, ipv4Dst, ipv6Dst)
	e.ports(r.Ports)
	e.midStream(r.MidStream)
	e.redirects(r.Redirects)
	e.verdict(r)
	return e.list, e.err
}
