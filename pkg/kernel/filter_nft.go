//go:build linux

package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// nftTable is the table that holds podwire's chains, one for each filter. A
// chain is named after its link and its filter.
var nftTable = &nftables.Table{Name: "podwire", Family: nftables.TableFamilyNetdev}

// nftChain names one filter.
type nftChain struct{ link, name string }

func (c nftChain) String() string { return c.link + "/" + c.name }

// nftFilters lists podwire's chains. A kernel without nftables has none.
//
// Every snapshot asks for them, so they are read without the library, which for
// each look opens a socket of its own or holds one that it reads in a costlier way.
func (k *Kernel) nftFilters(ctx context.Context) ([]nftChain, error) {
	msgs, err := k.dumpNFT(ctx, unix.NFT_MSG_GETCHAIN, newNFTOf(byte(nftTable.Family)))
	if err != nil {
		return nil, err
	}
	var out []nftChain
	for _, msg := range msgs {
		_, attrs, err := split(msg, sizeofNfGenMsg)
		if err != nil {
			return nil, fmt.Errorf("reading nftables chains: %w", err)
		}
		if c, ok := parseChain(attrs); ok {
			out = append(out, c)
		}
	}
	return out, nil
}

const sizeofNfGenMsg = 4

// parseChain reads the name of a chain, if it is one of podwire's.
func parseChain(attrs []attribute) (c nftChain, ok bool) {
	table := ""
	for _, a := range attrs {
		switch a.kind {
		case unix.NFTA_CHAIN_TABLE:
			table = a.text()
		case unix.NFTA_CHAIN_NAME:
			c, ok = nftChainOf(a.text()), strings.Contains(a.text(), "/")
		}
	}
	return c, ok && table == nftTable.Name
}

// nftChainOf reads what String wrote.
func nftChainOf(text string) (c nftChain) {
	c.link, c.name, _ = strings.Cut(text, "/")
	return c
}

func (k *Kernel) openNetfilter() error {
	if k.netfilter != nil {
		return nil
	}
	return k.netns.do(func() (err error) {
		k.netfilter, err = dial(unix.NETLINK_NETFILTER)
		return err
	})
}

// nftRules is how many rules are sent at once: more than some hundreds do not fit
// into the socket's buffers as they are by default.
const nftRules = 100

// withNFT calls f with the library's connection, whose commands are carried out
// together, or none of them, when it is flushed.
func (k *Kernel) withNFT(f func(*nftables.Conn) error) error {
	var conn *nftables.Conn
	err := k.netns.do(func() (err error) {
		conn, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return fmt.Errorf("opening a netfilter socket: %w", err)
	}
	return errors.Join(f(conn), conn.CloseLasting())
}

// addNFTFilter puts the filter into a chain of its own on the link's ingress.
func (k *Kernel) addNFTFilter(s plan.AddFilter) error {
	chain := chainOf(s)
	rules, h, err := nftFilter(chain, s)
	if err != nil {
		return err
	}
	behind := nftBehind(chain)
	hidden := nftHidden(behind, h)
	return k.withNFT(func(conn *nftables.Conn) error {
		if nftHas(conn, chain, rules) && (h.empty() || nftHas(conn, behind, hidden)) {
			return nil
		}
		conn.AddTable(nftTable)
		conn.AddChain(chain)
		conn.FlushChain(chain)
		if !h.empty() {
			conn.AddChain(behind)
			conn.FlushChain(behind)
			for _, r := range hidden {
				conn.AddRule(r)
			}
		}
		return nftAdd(conn, rules)
	})
}

// nftHas reports whether a chain has these rules.
func nftHas(conn *nftables.Conn, chain *nftables.Chain, rules []*nftables.Rule) bool {
	has, err := conn.GetRules(nftTable, chain)
	return err == nil && slices.EqualFunc(has, rules, sameRule)
}

// nftAdd sends the rules with what is to be done before them.
func nftAdd(conn *nftables.Conn, rules []*nftables.Rule) error {
	for {
		some := rules[:min(len(rules), nftRules)]
		for _, r := range some {
			conn.AddRule(r)
		}
		if err := conn.Flush(); err != nil || len(some) == len(rules) {
			return err
		}
		rules = rules[len(some):]
	}
}

// nftFilter are the rules of a filter, and what is looked for behind extension headers.
func nftFilter(chain *nftables.Chain, s plan.AddFilter) ([]*nftables.Rule, hidden, error) {
	// What the chain accepts is asked about by those of others yet.
	pass, err := nftRulesOf(chain, s.Pass, expr.VerdictAccept)
	if err != nil {
		return nil, hidden{}, err
	}
	drop, h, err := nftDropped(chain, s)
	var vlans []*nftables.Rule
	if s.Guard == nil && !matchesAll(s.Drop) {
		vlans = nftOfVLANs(chain, expr.VerdictAccept)
	}
	return slices.Concat(vlans, pass, drop), h, err
}

// nftRule is a rule, with what it is in words, and a digest of what it does: by both it
// is known again.
func nftRule(chain *nftables.Chain, verdict *expr.Verdict, text string, exprs ...[]expr.Any) *nftables.Rule {
	all := append(slices.Concat(exprs...), verdict)
	digest := sha256.New()
	for _, e := range all {
		wire, err := expr.Marshal(byte(nftTable.Family), e)
		if err != nil { // the library says it again when it sends the rule
			wire = []byte(err.Error())
		}
		digest.Write(wire)
	}
	return &nftables.Rule{
		Table: nftTable, Chain: chain, Exprs: all,
		UserData: userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf("%s %x", text, digest.Sum(nil)[:8])),
	}
}

// nftOfVLANs have a verdict on frames of a VLAN, as ofVLAN has it.
func nftOfVLANs(chain *nftables.Chain, verdict expr.VerdictKind) []*nftables.Rule {
	var out []*nftables.Rule
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		out = append(out, nftRule(chain, &expr.Verdict{Kind: verdict}, fmt.Sprintf("vlan (%#x)", tag),
			load(expr.PayloadBaseLLHeader, offEtherType, port(tag)...), []expr.Any{
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: etherEnd, Len: 2},
				bitsOf(port(vlanID)),
				&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: port(0)},
			}))
	}
	return out
}

// nftDropped are the rules that drop, and what is looked for behind extension headers.
func nftDropped(chain *nftables.Chain, s plan.AddFilter) ([]*nftables.Rule, hidden, error) {
	if s.Guard != nil {
		rules, err := nftGuard(chain, s)
		return rules, guardHidden, err
	}
	rules, err := nftRulesOf(chain, s.Drop, expr.VerdictDrop)
	h := hiddenOf(s.Drop)
	if !h.empty() {
		rules = append(rules, nftJumps(chain)...)
	}
	return rules, h, err
}

// nftRulesOf makes a rule of each match.
func nftRulesOf(chain *nftables.Chain, matches []plan.Match, verdict expr.VerdictKind) ([]*nftables.Rule, error) {
	rules := make([]*nftables.Rule, len(matches))
	for i, m := range matches {
		exprs, err := matchExprs(m)
		if err != nil {
			return nil, err
		}
		text := m.String()
		if verdict == expr.VerdictAccept {
			text = "pass " + text
		}
		rules[i] = nftRule(chain, &expr.Verdict{Kind: verdict}, text, exprs)
	}
	return rules, nil
}

// sameRule compares rules by what they carry as a comment. One of a release that wrote no
// digest is another.
func sameRule(a, b *nftables.Rule) bool { return slices.Equal(a.UserData, b.UserData) }

func chainOf(s plan.AddFilter) *nftables.Chain {
	accept, hook := nftables.ChainPolicyAccept, nftables.ChainHookIngress
	if s.Egress {
		hook = nftables.ChainHookEgress
	}
	return &nftables.Chain{
		Name:     nftChain{s.Link, s.Name}.String(),
		Table:    nftTable,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  hook,
		Priority: nftables.ChainPriorityFilter,
		Policy:   &accept,
		Device:   s.Link,
	}
}

// deleteNFTFilter removes the filter's chain, and the table with the last one.
func (k *Kernel) deleteNFTFilter(ctx context.Context, s plan.AddFilter) error {
	chains, err := k.nftFilters(ctx)
	if err != nil || !slices.Contains(chains, nftChain{s.Link, s.Name}) {
		return err
	}
	return k.withNFT(func(conn *nftables.Conn) error {
		if len(chains) == 1 {
			conn.DelTable(nftTable)
		} else {
			chain := &nftables.Chain{Name: nftChain{s.Link, s.Name}.String(), Table: nftTable}
			behind := nftBehind(chain)
			conn.AddChain(behind) // so that there is one to delete
			conn.FlushChain(chain)
			conn.DelChain(chain)
			conn.FlushChain(behind)
			conn.DelChain(behind)
		}
		return unless(conn.Flush(), unix.ENOENT)
	})
}

// matchExprs says in nftables' terms what compile says in BPF's. What a load would read beyond the frame is no
// match.
func matchExprs(m plan.Match) ([]expr.Any, error) {
	if err := checkMatch(m); err != nil {
		return nil, err
	}
	switch m.Kind {
	case plan.MatchDHCPClient:
		return slices.Concat(udp4Exprs(), load(expr.PayloadBaseTransportHeader, 2, port(portServer)...)), nil
	case plan.MatchDHCPServer:
		ports := append(port(portServer), port(portClient)...)
		return slices.Concat(udp4Exprs(), load(expr.PayloadBaseTransportHeader, 0, ports...)), nil
	case plan.MatchARPWhoHas:
		return slices.Concat(arpExprs(), network(offARPTarget, m.Addr.AsSlice()...)), nil
	case plan.MatchARPProbe:
		return slices.Concat(arpExprs(),
			network(offARPSender, netip.IPv4Unspecified().AsSlice()...), network(offARPTarget, m.Addr.AsSlice()...)), nil
	case plan.MatchDHCP6Client:
		return slices.Concat(ipv6Exprs(unix.IPPROTO_UDP), network(ipv6End+2, port(portServer6)...)), nil
	case plan.MatchDHCP6Server:
		ports := append(port(portServer6), port(portClient6)...)
		return slices.Concat(ipv6Exprs(unix.IPPROTO_UDP), network(ipv6End, ports...)), nil
	case plan.MatchRS:
		return slices.Concat(ipv6Exprs(unix.IPPROTO_ICMPV6), network(ipv6End, typeRS)), nil
	case plan.MatchRA:
		return slices.Concat(ipv6Exprs(unix.IPPROTO_ICMPV6), network(ipv6End, typeRA)), nil
	case plan.MatchNDWhoHas:
		return slices.Concat(ipv6Exprs(unix.IPPROTO_ICMPV6),
			network(ipv6End, typeNS), network(offNDTarget, m.Addr.AsSlice()...)), nil
	case plan.MatchNDProbe:
		return slices.Concat(ipv6Exprs(unix.IPPROTO_ICMPV6), network(ipv6End, typeNS),
			network(offIPv6Src, netip.IPv6Unspecified().AsSlice()...), network(offNDTarget, m.Addr.AsSlice()...)), nil
	case plan.MatchNDSays:
		return slices.Concat(ipv6Exprs(unix.IPPROTO_ICMPV6),
			network(ipv6End, typeNA), network(offNDTarget, m.Addr.AsSlice()...)), nil
	case plan.MatchTo:
		if m.Addr.Is4() {
			return slices.Concat(etherType(unix.ETH_P_IP), network(offIPv4Dst, m.Addr.AsSlice()...)), nil
		}
		return slices.Concat(etherType(unix.ETH_P_IPV6), network(offIPv6Dst, m.Addr.AsSlice()...)), nil
	case plan.MatchFrom:
		return slices.Concat(notEtherType(unix.ETH_P_8021Q), notEtherType(unix.ETH_P_8021AD),
			load(expr.PayloadBaseLLHeader, offSource, m.MAC[:]...)), nil
	default: // MatchAll
		return nil, nil
	}
}

// udp4Exprs go on with UDP over IPv4, but for later fragments.
func udp4Exprs() []expr.Any {
	return slices.Concat(etherType(unix.ETH_P_IP), network(offProtocol, unix.IPPROTO_UDP), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offFragment - etherEnd, Len: 2},
		bitsOf(port(fragOffset)),
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port(0)},
	})
}

// ipv6Exprs go on with a protocol directly behind the IPv6 header.
func ipv6Exprs(protocol byte) []expr.Any {
	return slices.Concat(etherType(unix.ETH_P_IPV6), network(offNextHeader, protocol))
}

// arpExprs go on with ARP requests.
func arpExprs() []expr.Any {
	return slices.Concat(etherType(unix.ETH_P_ARP),
		network(offARP, binary.BigEndian.AppendUint64(nil, arpHeader<<32|arpLengths)...))
}

// etherType goes on with frames of a type, without the tag that the kernel has taken
// out.
func etherType(v uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port(v)},
	}
}

// notEtherType goes on with frames of any other type.
func notEtherType(v uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offEtherType, Len: 2},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: port(v)},
	}
}

// network looks at what is at an offset of the frame that lies behind the
// Ethernet header.
func network(offset uint32, want ...byte) []expr.Any {
	return load(expr.PayloadBaseNetworkHeader, offset-etherEnd, want...)
}

// load loads as many octets as are wanted and goes on where they are the same.
func load(base expr.PayloadBase, offset uint32, want ...byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}
}

// port is a number of 16 bits as it is on the wire.
func port(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
