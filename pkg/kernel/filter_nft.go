//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	if err := k.openNetfilter(); err != nil {
		return nil, unless(err, unix.EPROTONOSUPPORT)
	}
	const getChain = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN
	m := newMessage([]byte{byte(nftTable.Family), unix.NFNETLINK_V0, 0, 0}) // struct nfgenmsg
	msgs, err := k.netfilter.dump(ctx, getChain, m)
	if err := unless(err, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOENT); err != nil {
		return nil, fmt.Errorf("reading nftables chains: %w", err)
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
			c.link, c.name, ok = strings.Cut(a.text(), "/")
		}
	}
	return c, ok && table == nftTable.Name
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
	rules := make([]*nftables.Rule, len(s.Drop))
	chain := chainOf(s)
	for i, m := range s.Drop {
		exprs, err := matchExprs(m)
		if err != nil {
			return err
		}
		rules[i] = &nftables.Rule{
			Table: nftTable, Chain: chain,
			Exprs:    append(exprs, &expr.Verdict{Kind: expr.VerdictDrop}),
			UserData: userdata.AppendString(nil, userdata.TypeComment, m.String()),
		}
	}
	return k.withNFT(func(conn *nftables.Conn) error {
		if has, err := conn.GetRules(nftTable, chain); err == nil && slices.EqualFunc(has, rules, sameRule) {
			return nil
		}
		conn.AddTable(nftTable)
		conn.AddChain(chain)
		conn.FlushChain(chain)
		for _, r := range rules {
			conn.AddRule(r)
		}
		return conn.Flush()
	})
}

// sameRule compares rules by the words that they carry as a comment.
func sameRule(a, b *nftables.Rule) bool { return slices.Equal(a.UserData, b.UserData) }

func chainOf(s plan.AddFilter) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name:     nftChain{s.Link, s.Name}.String(),
		Table:    nftTable,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookIngress,
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
			conn.DelChain(&nftables.Chain{Name: nftChain{s.Link, s.Name}.String(), Table: nftTable})
		}
		return unless(conn.Flush(), unix.ENOENT)
	})
}

// matchExprs says in nftables' terms what compile says in BPF's. A chain on an
// ingress hook sees the VLAN tag that the kernel took out of the frame, so that
// one look at the type is enough.
func matchExprs(m plan.Match) ([]expr.Any, error) {
	udp := slices.Concat(
		load(expr.PayloadBaseLLHeader, offEtherType, unix.ETH_P_IP>>8, unix.ETH_P_IP&0xff),
		load(expr.PayloadBaseNetworkHeader, offProtocol-offIPv4, unix.IPPROTO_UDP),
		[]expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offFragment - offIPv4, Len: 2},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: port(fragOffset), Xor: port(0)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port(0)},
		},
	)
	arp := slices.Concat(
		load(expr.PayloadBaseLLHeader, offEtherType, unix.ETH_P_ARP>>8, unix.ETH_P_ARP&0xff),
		load(expr.PayloadBaseNetworkHeader, 0, binary.BigEndian.AppendUint64(nil, arpHeader<<32|arpLengths)...),
	)
	switch m.Kind {
	case plan.MatchAll:
		return nil, nil
	case plan.MatchDHCPClient:
		return append(udp, load(expr.PayloadBaseTransportHeader, 2, port(portServer)...)...), nil
	case plan.MatchDHCPServer:
		ports := append(port(portServer), port(portClient)...)
		return append(udp, load(expr.PayloadBaseTransportHeader, 0, ports...)...), nil
	case plan.MatchARPWhoHas, plan.MatchARPProbe:
		if !m.Addr.Is4() {
			return nil, fmt.Errorf("match %q: not an IPv4 address", m)
		}
		if m.Kind == plan.MatchARPProbe {
			arp = append(arp, load(expr.PayloadBaseNetworkHeader, offARPSender-offARP, 0, 0, 0, 0)...)
		}
		return append(arp, load(expr.PayloadBaseNetworkHeader, offARPTarget-offARP, m.Addr.AsSlice()...)...), nil
	default:
		return nil, fmt.Errorf("match %q: unknown kind", m.Kind)
	}
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
