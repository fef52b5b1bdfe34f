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
	err = errNoTC
	if !k.nftOnly {
		err = k.addTCFilter(ctx, l, s)
	}
	switch {
	case err == nil:
		return k.keepQueue(ctx, s.Link, s.TxQLen)
	case !errors.Is(err, errNoTC) && !errors.Is(err, ErrConflict):
		return err
	case s.Ahead:
		return fmt.Errorf("%w; this binding cannot do without: load the kernel modules sch_ingress and cls_bpf on the node", err)
	}
	nft := k.addNFTFilter(s)
	if s.Try {
		nft = unless(nft, unix.ENOENT, unix.EOPNOTSUPP, unix.EINVAL, unix.EPROTONOSUPPORT)
	}
	if nft != nil {
		return fmt.Errorf("%w; by nftables: %w", err, nft)
	}
	return nil
}

func hookOf(egress bool) uint32 {
	if egress {
		return egressHook
	}
	return ingressHook
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
		deleted, err := k.removeFilter(ctx, l.Index, hookOf(s.Egress), filterPriority, s.Name, s.KeepHook)
		if err == nil {
			err = k.keepQueue(ctx, s.Link, s.TxQLen)
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
		hooks := []uint32{ingressHook, egressHook}
		if q.Kind != kindClsact {
			hooks = hooks[:1] // asked for the other, it would list the same again
		}
		for _, hook := range hooks {
			on, err := k.tcFilters(ctx, q.Link, hook)
			if err != nil {
				return nil, err
			}
			for _, f := range on {
				if f.name != "" {
					out = append(out, netstate.Filter{Link: q.Link, Name: f.name, To: max(f.action.to, 0)})
				}
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
