//go:build linux

package kernel

import (
	"context"
	"fmt"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func (k *Kernel) takeAddresses(ctx context.Context, s plan.TakeAddresses) error {
	if err := k.strip(ctx, s); err != nil {
		return fmt.Errorf("taking the addresses of %q: %w", s.Link, err)
	}
	return nil
}

// strip empties the link from the outside in: what points to an address goes
// before it, or the kernel would change it instead of forgetting it.
func (k *Kernel) strip(ctx context.Context, s plan.TakeAddresses) error {
	l, err := k.sameLink(ctx, s)
	if err != nil {
		return err
	}
	if l.AddrGenMode != "" && l.AddrGenMode != addrGenNone {
		if err := k.setAddrGenMode(ctx, l.Index, addrGenNone); err != nil {
			return err
		}
	}
	if err := k.stripRoutes(ctx, s); err != nil {
		return err
	}
	for _, n := range s.Neighbors {
		if err := k.deleteNeighbor(ctx, n); err != nil {
			return err
		}
	}
	for _, a := range s.Addrs {
		if err := k.deleteAddr(ctx, a); err != nil {
			return err
		}
	}
	return k.stripAutoconf(ctx, l.Index)
}

// sameLink reads the link that the step was planned for. Another of its name is
// not it, and its addresses are not the step's.
func (k *Kernel) sameLink(ctx context.Context, s plan.TakeAddresses) (linkInfo, error) {
	l, err := k.link(ctx, s.Link)
	if err == nil && l.Index != s.Index {
		return l, fmt.Errorf("number %d, and another has its name: %w", s.Index, errLinkGone)
	}
	return l, err
}

// stripRoutes deletes the routes that would outlive the addresses. IPv4 routes
// go with the link's last IPv4 address, unless they are by a next hop object;
// IPv6 ones stay. Those in the table of local addresses are the kernel's, and
// come and go with the addresses.
func (k *Kernel) stripRoutes(ctx context.Context, s plan.TakeAddresses) error {
	hasIPv4 := false
	for _, a := range s.Addrs {
		hasIPv4 = hasIPv4 || a.Prefix.Addr().Is4()
	}
	for _, r := range s.Routes {
		leaves := hasIPv4 && r.Dst.Addr().Is4() && !hasAttr(r.Attrs, rtaNexthopID)
		if leaves || r.Table == netstate.TableLocal {
			continue
		}
		if err := k.deleteRoute(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
