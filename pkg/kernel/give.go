//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func (k *Kernel) giveAddresses(ctx context.Context, s plan.TakeAddresses) error {
	if err := k.restore(ctx, s); err != nil {
		return fmt.Errorf("giving %q its addresses back: %w", s.Link, err)
	}
	return nil
}

// restore makes the link what the step says that it was. It looks at what is
// there and changes what differs, so it can be cut off and begun anew anywhere.
func (k *Kernel) restore(ctx context.Context, s plan.TakeAddresses) error {
	l, err := k.sameLink(ctx, s)
	if err != nil {
		return err
	}
	if s.AddrGenMode != "" && l.AddrGenMode != s.AddrGenMode {
		if err := k.setAddrGenMode(ctx, l.Index, s.AddrGenMode); err != nil {
			return err
		}
	}
	// It had routes, so it was up. A run that was killed while it changed the
	// MAC of a link that must be down for that leaves it down.
	if !l.Up && len(s.Routes) > 0 {
		if err := k.setUp(ctx, l.Index, true); err != nil {
			return fmt.Errorf("bringing it up: %w", err)
		}
	}
	if err := k.stripOfOtherMAC(ctx, l, s.Addrs); err != nil {
		return err
	}
	passed := Uptime() - time.Duration(s.Uptime)
	addrs, expired := remaining(s.Addrs, passed)
	if err := k.restoreAddrs(ctx, l.Index, addrs); err != nil {
		return err
	}
	routes := slices.DeleteFunc(unexpired(s.Routes, passed), func(r netstate.Route) bool {
		return slices.Contains(expired, r.PrefSrc)
	})
	// What was reached by way of an address that has run off is reached no more.
	var lost []unix.Errno
	if len(expired) > 0 {
		lost = []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL}
	}
	if err := k.restoreRoutes(ctx, l.Index, routes, addrs, lost); err != nil {
		return err
	}
	for _, n := range s.Neighbors {
		if err := k.putNeighbor(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// remaining are the addresses that are still good, with what is left of their
// lifetimes, and those that are not. Temporary ones (RFC 8981) are neither: they
// are the kernel's to make.
func remaining(addrs []netstate.Addr, passed time.Duration) (good []netstate.Addr, expired []netip.Addr) {
	for _, a := range addrs {
		if a.Prefix.Addr().Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0 {
			continue
		}
		a.ValidLft, a.PreferredLft = left(a.ValidLft, passed), left(a.PreferredLft, passed)
		if a.ValidLft == 0 {
			expired = append(expired, a.Prefix.Addr())
			continue
		}
		good = append(good, a)
	}
	return good, expired
}

// left is what is left of a lifetime.
func left(seconds uint32, passed time.Duration) uint32 {
	if seconds == netstate.Forever {
		return seconds
	}
	return seconds - uint32(min(max(passed, 0)/time.Second, time.Duration(seconds)))
}

// restoreAddrs puts the link's addresses back, each family by itself.
func (k *Kernel) restoreAddrs(ctx context.Context, link int, addrs []netstate.Addr) error {
	have, err := k.addrsOf(ctx, link)
	if err != nil {
		return err
	}
	for _, ipv4 := range []bool{true, false} {
		if err := k.restoreFamily(ctx, oldestFirst(addrs, ipv4), oldestFirst(have, ipv4)); err != nil {
			return err
		}
	}
	return nil
}

// oldestFirst is one family's addresses in the order in which they are to be
// added to be listed as they are: among those of one scope IPv4 lists the newest
// last, IPv6 first.
func oldestFirst(addrs []netstate.Addr, ipv4 bool) []netstate.Addr {
	out := slices.DeleteFunc(slices.Clone(addrs), func(a netstate.Addr) bool { return a.Prefix.Addr().Is4() != ipv4 })
	if !ipv4 {
		slices.Reverse(out)
	}
	return out
}

// restoreFamily adds addresses one after the other. Those that are there already
// must be the first of them and alike; else they are taken away and put anew,
// because an address cannot be moved. Addresses of others are left alone.
func (k *Kernel) restoreFamily(ctx context.Context, want, have []netstate.Addr) error {
	have = slices.DeleteFunc(slices.Clone(have), func(h netstate.Addr) bool {
		return !slices.ContainsFunc(want, func(w netstate.Addr) bool { return w.Prefix == h.Prefix })
	})
	if len(have) <= len(want) && slices.EqualFunc(want[:len(have)], have, sameAddr) {
		want = want[len(have):]
	} else {
		for _, h := range have {
			if err := k.deleteAddr(ctx, h); err != nil {
				return err
			}
		}
	}
	for _, a := range want {
		if err := k.addAddr(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// restoreRoutes makes the link's routes what they were: without those that the
// kernel made along with the addresses although the pod had not kept them (the
// ptp plugin deletes the connected route), and with all others.
func (k *Kernel) restoreRoutes(
	ctx context.Context, link int, want []netstate.Route, addrs []netstate.Addr, lost []unix.Errno,
) error {
	have, err := k.routesOf(ctx, link)
	if err != nil {
		return err
	}
	for _, r := range have {
		if !connected(r, addrs) || containsRoute(want, r) {
			continue
		}
		if err := k.deleteRoute(ctx, r); err != nil {
			return err
		}
	}
	missing := slices.DeleteFunc(want, func(r netstate.Route) bool { return ofAddress(r) || containsRoute(have, r) })
	return k.addRoutes(ctx, missing, lost)
}

// connected reports whether a route is the one that the kernel made to the
// network of one of the addresses.
func connected(r netstate.Route, addrs []netstate.Addr) bool {
	return r.Protocol == netstate.ProtocolKernel && !ofAddress(r) &&
		slices.ContainsFunc(addrs, func(a netstate.Addr) bool {
			network := a.Prefix
			if a.Peer.IsValid() {
				network = netip.PrefixFrom(a.Peer, a.Prefix.Bits())
			}
			return network.Masked() == r.Dst
		})
}

// ofAddress reports whether a route is the other side of an address, or of the
// link being up. The kernel alone makes and removes it, for IPv6 a moment late.
func ofAddress(r netstate.Route) bool {
	return r.Protocol == netstate.ProtocolKernel && r.Table == netstate.TableLocal
}

func containsRoute(routes []netstate.Route, r netstate.Route) bool {
	return slices.ContainsFunc(routes, func(other netstate.Route) bool { return sameRoute(other, r) })
}

// unexpired are the routes that are still good, with what is left of their time.
func unexpired(routes []netstate.Route, passed time.Duration) []netstate.Route {
	var out []netstate.Route
	for _, r := range routes {
		good := true
		r.Attrs = slices.Clone(r.Attrs)
		for i, a := range r.Attrs {
			if a.Type == unix.RTA_EXPIRES && len(a.Data) == 4 {
				seconds := left(binary.NativeEndian.Uint32(a.Data), passed)
				r.Attrs[i] = expiresAttr(seconds)
				good = seconds > 0
			}
		}
		if good {
			out = append(out, r)
		}
	}
	return out
}

// addRoutes adds routes in whatever order the kernel takes them: a gateway must
// be reachable by a route that is there. On-link ones go first; those that are
// refused are tried again for as long as others succeed. To be refused with one
// of the errors in lost is no failure in the end.
func (k *Kernel) addRoutes(ctx context.Context, routes []netstate.Route, lost []unix.Errno) error {
	pending := slices.Clone(routes)
	slices.SortStableFunc(pending, func(a, b netstate.Route) int { return hops(a) - hops(b) })
	for len(pending) > 0 {
		var refused []netstate.Route
		var errs []error
		for _, r := range pending {
			if err := k.addRoute(ctx, r); err != nil {
				refused, errs = append(refused, r), append(errs, unless(err, lost...))
			}
		}
		if len(refused) == len(pending) {
			return errors.Join(errs...)
		}
		pending = refused
	}
	return nil
}

// hops is 0 for a route that needs no other one, else 1.
func hops(r netstate.Route) int {
	if r.Via == (netip.Addr{}) && len(r.NextHops) == 0 {
		return 0
	}
	return 1
}
