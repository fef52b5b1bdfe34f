//go:build linux

package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// Snapshot reads what the namespace holds. It needs no capability; without
// CAP_NET_ADMIN the tables of nftables and the filters of its fallback are not
// seen.
func (k *Kernel) Snapshot(ctx context.Context) (netstate.Snapshot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.snapshot(ctx)
	if err != nil {
		return netstate.Snapshot{}, fmt.Errorf("reading the network namespace: %w", err)
	}
	return s, nil
}

func (k *Kernel) snapshot(ctx context.Context) (s netstate.Snapshot, err error) {
	s.Uptime = Uptime()
	if s.NetNS, err = k.Identity(); err != nil {
		return s, err
	}
	if s.Links, err = k.links(ctx); err != nil {
		return s, err
	}
	if s.Addrs, err = k.addrs(ctx); err != nil {
		return s, err
	}
	if s.Routes, err = k.routes(ctx); err != nil {
		return s, err
	}
	if s.Neighbors, err = k.neighbors(ctx); err != nil {
		return s, err
	}
	if s.Rules, err = k.rules(ctx); err != nil {
		return s, err
	}
	if s.Qdiscs, err = k.qdiscs(ctx); err != nil {
		return s, err
	}
	if s.Filters, err = k.filters(ctx, s.Links, s.Qdiscs); err != nil {
		return s, err
	}
	if s.Forwarding6, err = k.forwards6(ctx); err != nil {
		return s, err
	}
	s.Tables, err = k.tables(ctx)
	if isErrno(err, unix.EPERM) {
		s.Blind, err = true, nil
	}
	return s, err
}
