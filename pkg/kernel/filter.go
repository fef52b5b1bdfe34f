//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// errNoTC says that this kernel cannot filter by clsact and cls_bpf.
var errNoTC = errors.New("no clsact or cls_bpf in this kernel")

// addFilter filters by tc, or where the kernel has it not, by nftables.
func (k *Kernel) addFilter(ctx context.Context, s plan.AddFilter) error {
	err := k.makeFilter(ctx, s)
	if err != nil {
		return fmt.Errorf("adding filter %q to %q: %w", s.Name, s.Link, err)
	}
	return nil
}

func (k *Kernel) makeFilter(ctx context.Context, s plan.AddFilter) error {
	l, err := k.link(ctx, s.Link)
	if err != nil {
		return err
	}
	if k.nftOnly {
		return k.addNFTFilter(s)
	}
	err = k.addTCFilter(ctx, l, s)
	if err == nil {
		return k.keepQueue(ctx, s)
	}
	if !errors.Is(err, errNoTC) {
		return err
	}
	if nft := k.addNFTFilter(s); nft != nil {
		return fmt.Errorf("%w; by nftables: %w", err, nft)
	}
	return nil
}

// keepQueue gives the link the length of its queue back, which the kernel may have
// changed along with the hook.
func (k *Kernel) keepQueue(ctx context.Context, s plan.AddFilter) error {
	if s.TxQLen == nil {
		return nil
	}
	l, err := k.link(ctx, s.Link)
	if err != nil || l.TxQLen == *s.TxQLen {
		return err
	}
	return k.setLink(ctx, l.Index, func(m *message) { m.u32(unix.IFLA_TXQLEN, uint32(*s.TxQLen)) })
}

// deleteFilter removes the filter wherever it is.
func (k *Kernel) deleteFilter(ctx context.Context, s plan.AddFilter) error {
	if err := k.unmakeFilter(ctx, s); err != nil {
		return fmt.Errorf("deleting filter %q from %q: %w", s.Name, s.Link, err)
	}
	return nil
}

func (k *Kernel) unmakeFilter(ctx context.Context, s plan.AddFilter) error {
	l, found, err := k.findLink(ctx, s.Link)
	if err != nil {
		return err
	}
	if found && !k.nftOnly {
		deleted, err := k.deleteTCFilter(ctx, l.Index, s)
		if err == nil {
			err = k.keepQueue(ctx, s)
		}
		if deleted || err != nil {
			return err
		}
	}
	// A chain may outlive its link: since Linux 6.16 it waits for one of that
	// name.
	return k.deleteNFTFilter(ctx, s)
}

// filters lists podwire's own filters on all links.
func (k *Kernel) filters(ctx context.Context, links []netstate.Link, qdiscs []netstate.Qdisc) ([]netstate.Filter, error) {
	var out []netstate.Filter
	for _, q := range qdiscs {
		if q.Parent != ingressQdisc {
			continue
		}
		on, err := k.tcFilters(ctx, q.Link, ingressHook)
		if err != nil {
			return nil, err
		}
		for _, f := range on {
			if f.name != "" {
				out = append(out, netstate.Filter{Link: q.Link, Name: f.name})
			}
		}
	}
	chains, err := k.nftFilters(ctx)
	if isErrno(err, unix.EPERM) {
		return out, nil // a reader without capabilities sees what it may
	}
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if l, ok := (netstate.Snapshot{Links: links}).LinkByName(c.link); ok {
			out = append(out, netstate.Filter{Link: l.Index, Name: c.name})
		}
	}
	return out, nil
}
