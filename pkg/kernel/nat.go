//go:build linux

package kernel

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// translate puts the table in place. One that is as planned is left alone, and
// with it the connections that it has translated.
func (k *Kernel) translate(ctx context.Context, s plan.Translate) error {
	if err := k.putTable(ctx, s); err != nil {
		return fmt.Errorf("putting table %q of nftables in place: %w", s.Table, err)
	}
	return nil
}

func (k *Kernel) putTable(ctx context.Context, s plan.Translate) error {
	if l, err := k.link(ctx, s.Link); err != nil {
		return err
	} else if s.Index != 0 && l.Index != s.Index {
		return fmt.Errorf("link %q: number %d, and another has its name: %w", s.Link, s.Index, errLinkGone)
	}
	batch, err := tableBatch(s)
	if err != nil {
		return err
	}
	has, err := k.chainsOf(ctx, s.Table)
	if err != nil {
		return missingNAT(err)
	}
	if slices.EqualFunc(has, plannedChains(s), natChain.same) {
		return nil
	}
	if len(has) == 0 {
		k.holdTracking(ctx, s.Table)
	}
	return missingNAT(k.sendBatch(ctx, batch))
}

// untranslate deletes the table.
func (k *Kernel) untranslate(ctx context.Context, s plan.Translate) error {
	batch := newBatch()
	batch.add(unix.NFT_MSG_DELTABLE, 0, "delete table inet "+s.Table, newNFT().str(unix.NFTA_TABLE_NAME, s.Table))
	err := k.sendBatch(ctx, batch)
	if err := unless(err, unix.ENOENT, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP); err != nil {
		return fmt.Errorf("deleting table %q of nftables: %w", s.Table, err)
	}
	return nil
}

// missingNAT says what it takes where the kernel has not all of it. What an
// expression's or a chain's module is missing for is ENOENT.
func missingNAT(err error) error {
	if isErrno(err, unix.ENOENT, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP) {
		return fmt.Errorf("%w: %s", err, natModules)
	}
	return err
}

const natModules = "load the kernel modules nf_tables, nft_chain_nat, nft_nat and nft_masq on the node; translation in tables of inet takes Linux 5.2"

// natChain is a chain, as it is planned or as the kernel has it.
type natChain struct {
	name, kind string
	hook       string // empty for one that is jumped to
	priority   int
	rules      []string
}

func (c natChain) same(o natChain) bool {
	return c.name == o.name && c.kind == o.kind && c.hook == o.hook && c.priority == o.priority && slices.Equal(c.rules, o.rules)
}

// plannedChains are the chains of a step in the order of their names.
func plannedChains(s plan.Translate) []natChain {
	out := make([]natChain, len(s.Chains))
	for i, c := range s.Chains {
		out[i] = natChain{name: c.Name, kind: c.Type, hook: c.Hook, priority: c.Priority, rules: make([]string, len(c.Rules))}
		for j, r := range c.Rules {
			out[i].rules[j] = r.String()
		}
	}
	slices.SortFunc(out, func(a, b natChain) int { return cmp.Compare(a.name, b.name) })
	return out
}

// natHooks are the hooks that chains are on, by their names in nft(8).
var natHooks = map[string]uint32{
	"prerouting":  unix.NF_INET_PRE_ROUTING,
	"input":       unix.NF_INET_LOCAL_IN,
	"forward":     unix.NF_INET_FORWARD,
	"output":      unix.NF_INET_LOCAL_OUT,
	"postrouting": unix.NF_INET_POST_ROUTING,
}

// tableBatch makes the table anew, in place of the one that may be there: to
// delete one that is not there is an error, so that it is made before that.
func tableBatch(s plan.Translate) (*nftBatch, error) {
	b := newBatch()
	named := func() *message { return newNFT().str(unix.NFTA_TABLE_NAME, s.Table) }
	b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "add table inet "+s.Table, named())
	b.add(unix.NFT_MSG_DELTABLE, 0, "delete table inet "+s.Table, named())
	b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "add table inet "+s.Table, named())
	for _, c := range s.Chains {
		m, err := chainMessage(s.Table, c)
		if err != nil {
			return nil, fmt.Errorf("chain %q: %w", c.Name, err)
		}
		b.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "add chain "+c.String(), m)
	}
	for _, c := range s.Chains {
		for _, r := range c.Rules {
			m, err := ruleMessage(s.Table, c.Name, r)
			if err != nil {
				return nil, fmt.Errorf("rule %q: %w", r, err)
			}
			b.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "add rule "+c.Name+" "+r.String(), m)
		}
	}
	return b, nil
}

func chainMessage(table string, c plan.Chain) (*message, error) {
	m := newNFT().str(unix.NFTA_CHAIN_TABLE, table).str(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook == "" {
		return m, nil
	}
	hook, ok := natHooks[c.Hook]
	if !ok {
		return nil, fmt.Errorf("hook %q: %w", c.Hook, errors.ErrUnsupported)
	}
	m.nest(unix.NFTA_CHAIN_HOOK, func(m *message) {
		m.attr(unix.NFTA_HOOK_HOOKNUM, be32(hook)).attr(unix.NFTA_HOOK_PRIORITY, be32(uint32(int32(c.Priority))))
	})
	return m.str(unix.NFTA_CHAIN_TYPE, c.Type), nil
}

// A rule's words are in its user data, which is what it is compared by. They are
// of a kind of their own there, and not its comment: nft(8) would say them twice.
const (
	userWords = userdata.Type(0x70)
	mostWords = 254 // their length and their end are an octet each
)

func ruleMessage(table, chain string, r plan.Rule) (*message, error) {
	exprs, err := ruleExprs(r)
	if err != nil {
		return nil, err
	}
	words := r.String()
	if len(words) > mostWords {
		return nil, fmt.Errorf("%d characters where %d is the most: %w", len(words), mostWords, errors.ErrUnsupported)
	}
	m := newNFT().str(unix.NFTA_RULE_TABLE, table).str(unix.NFTA_RULE_CHAIN, chain)
	m.nest(unix.NFTA_RULE_EXPRESSIONS, func(m *message) {
		for _, e := range exprs {
			var b []byte
			if b, err = expr.Marshal(unix.NFPROTO_INET, e); err != nil {
				return
			}
			m.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		}
	})
	return m.attr(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userWords, words)), err
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// tables lists podwire's own tables. A kernel without nftables has none.
func (k *Kernel) tables(ctx context.Context) ([]netstate.Table, error) {
	msgs, err := k.dumpNFT(ctx, unix.NFT_MSG_GETTABLE, newNFT())
	if err != nil {
		return nil, err
	}
	var out []netstate.Table
	for _, msg := range msgs {
		_, attrs, err := split(msg, sizeofNfGenMsg)
		if err != nil {
			return nil, fmt.Errorf("reading nftables: %w", err)
		}
		for _, a := range attrs {
			if a.kind != unix.NFTA_TABLE_NAME || !strings.HasPrefix(a.text(), plan.TablePrefix) {
				continue
			}
			chains, err := k.chainsOf(ctx, a.text())
			if err != nil {
				return nil, err
			}
			out = append(out, netstate.Table{Name: a.text(), Chains: inWords(chains)})
		}
	}
	return out, nil
}

func inWords(chains []natChain) []netstate.Chain {
	out := make([]netstate.Chain, len(chains))
	for i, c := range chains {
		out[i] = netstate.Chain{Name: c.name, Rules: c.rules}
	}
	return out
}

// chainsOf reads the chains of a table, in the order of their names, with their
// rules. There are none in a table that is not there.
func (k *Kernel) chainsOf(ctx context.Context, table string) ([]natChain, error) {
	msgs, err := k.dumpNFT(ctx, unix.NFT_MSG_GETCHAIN, newNFT())
	if err != nil {
		return nil, err
	}
	var out []natChain
	for _, msg := range msgs {
		c, of, err := parseNATChain(msg)
		if err != nil {
			return nil, err
		}
		if of == table {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	slices.SortFunc(out, func(a, b natChain) int { return cmp.Compare(a.name, b.name) })
	msgs, err = k.dumpNFT(ctx, unix.NFT_MSG_GETRULE, newNFT().str(unix.NFTA_RULE_TABLE, table))
	if err != nil {
		return nil, err
	}
	for _, msg := range msgs {
		chain, words, err := parseNATRule(msg)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(out, func(c natChain) bool { return c.name == chain }); i >= 0 {
			out[i].rules = append(out[i].rules, words)
		}
	}
	return out, nil
}

func parseNATChain(msg []byte) (c natChain, table string, err error) {
	_, attrs, err := split(msg, sizeofNfGenMsg)
	if err != nil {
		return c, "", fmt.Errorf("reading a chain of nftables: %w", err)
	}
	c.rules = []string{}
	for _, a := range attrs {
		switch a.kind {
		case unix.NFTA_CHAIN_TABLE:
			table = a.text()
		case unix.NFTA_CHAIN_NAME:
			c.name = a.text()
		case unix.NFTA_CHAIN_TYPE:
			c.kind = a.text()
		case unix.NFTA_CHAIN_HOOK:
			for _, h := range attributes(a.data) {
				switch h.kind {
				case unix.NFTA_HOOK_HOOKNUM:
					c.hook = hookName(h.be32())
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = int(int32(h.be32()))
				}
			}
		}
	}
	return c, table, nil
}

func hookName(number uint32) string {
	for name, n := range natHooks {
		if n == number {
			return name
		}
	}
	return fmt.Sprint(number)
}

// parseNATRule reads whose rule it is and its words.
func parseNATRule(msg []byte) (chain, words string, err error) {
	_, attrs, err := split(msg, sizeofNfGenMsg)
	if err != nil {
		return "", "", fmt.Errorf("reading a rule of nftables: %w", err)
	}
	for _, a := range attrs {
		switch a.kind {
		case unix.NFTA_RULE_CHAIN:
			chain = a.text()
		case unix.NFTA_RULE_USERDATA:
			words = wordsOf(a.data)
		}
	}
	return chain, words, nil
}

// wordsOf are the words in a rule's user data: a list of kind, length and value,
// which anybody may have written.
func wordsOf(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		value := b[2 : 2+int(b[1])]
		if b[0] == byte(userWords) {
			return unix.ByteSliceToString(value)
		}
		b = b[2+len(value):]
	}
	return ""
}
