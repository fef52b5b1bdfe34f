//go:build linux

package kernel

import (
	"context"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// holdTracking makes the table with one rule, by which no connection is tracked. The
// batch that makes the whole table takes the rule away in the same moment as it
// begins to translate. Without it, the kernel tracks connections from the moment that
// it reads of a rule that translates, and a packet that comes before that rule holds
// has its connection stay as it is for good: live traffic would not get to the guest.
//
// A kernel that cannot do it gets the table nevertheless.
func (k *Kernel) holdTracking(ctx context.Context, table string) {
	b := newBatch()
	b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, "add table inet "+table, newNFT().str(unix.NFTA_TABLE_NAME, table))
	chain := plan.Chain{Name: "untracked", Type: "filter", Hook: "prerouting", Priority: -301}
	m, err := chainMessage(table, chain)
	if err != nil {
		return
	}
	b.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "add chain "+chain.String(), m)
	rule, err := expr.Marshal(unix.NFPROTO_INET, &expr.Notrack{})
	if err != nil {
		return
	}
	m = newNFT().str(unix.NFTA_RULE_TABLE, table).str(unix.NFTA_RULE_CHAIN, chain.Name)
	m.nest(unix.NFTA_RULE_EXPRESSIONS, func(m *message) { m.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, rule) })
	b.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "add rule untracked notrack", m)
	_ = k.sendBatch(ctx, b)
}
