package kerneltest

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func (k *Kernel) takeAddresses(s plan.TakeAddresses) error {
	l := k.link(s.Link)
	if l == nil {
		return fmt.Errorf("taking the addresses of %q: %w", s.Link, syscall.ENODEV)
	}
	if l.AddrGenMode != "" && l.AddrGenMode != "none" {
		if err := k.op("setting addrgenmode of %q", s.Link); err != nil {
			return err
		}
		l.AddrGenMode = "none"
	}
	for _, r := range s.Routes {
		if r.Dst.Addr().Is6() {
			if err := k.delRoute(r); err != nil {
				return err
			}
		}
	}
	for _, a := range s.Addrs {
		if err := k.delAddr(a); err != nil {
			return err
		}
	}
	return nil
}

// giveAddresses is the way back. The kernel refuses a route whose gateway no
// other route reaches yet, so those come last.
func (k *Kernel) giveAddresses(s plan.TakeAddresses) error {
	l := k.link(s.Link)
	if l == nil {
		return nil
	}
	l.AddrGenMode = s.AddrGenMode
	for _, a := range s.Addrs {
		if err := k.addAddr(a); err != nil {
			return err
		}
	}
	for _, r := range k.State.RoutesOf(l.Index) {
		if !slices.ContainsFunc(s.Routes, func(want netstate.Route) bool { return same(r, want) }) {
			if err := k.delRoute(r); err != nil {
				return err
			}
		}
	}
	routes := slices.Clone(s.Routes)
	slices.SortStableFunc(routes, func(a, b netstate.Route) int {
		return b2i(a.Via.IsValid()) - b2i(b.Via.IsValid())
	})
	for _, r := range routes {
		if err := k.addRoute(r); err != nil {
			return err
		}
	}
	for _, n := range s.Neighbors {
		if !slices.ContainsFunc(k.State.Neighbors, func(have netstate.Neighbor) bool { return same(have, n) }) {
			if err := k.op("adding neighbour %s", n.Addr); err != nil {
				return err
			}
			k.State.Neighbors = append(k.State.Neighbors, n)
		}
	}
	return nil
}

func (k *Kernel) addAddr(a netstate.Addr) error {
	if slices.ContainsFunc(k.State.Addrs, func(have netstate.Addr) bool { return same(have, a) }) {
		return nil
	}
	if err := k.op("adding address %s", a.Prefix); err != nil {
		return err
	}
	k.State.Addrs = append(k.State.Addrs, a)
	if !a.Prefix.IsSingleIP() {
		return k.addRoute(connected(a))
	}
	return nil
}

// delAddr also forgets the link's IPv4 routes with its last IPv4 address.
func (k *Kernel) delAddr(a netstate.Addr) error {
	if !slices.ContainsFunc(k.State.Addrs, func(have netstate.Addr) bool { return same(have, a) }) {
		return nil
	}
	if err := k.op("deleting address %s", a.Prefix); err != nil {
		return err
	}
	k.State.Addrs = slices.DeleteFunc(k.State.Addrs, func(have netstate.Addr) bool { return same(have, a) })
	ipv4 := a.Prefix.Addr().Is4()
	last := !slices.ContainsFunc(k.State.Addrs, func(have netstate.Addr) bool {
		return have.Link == a.Link && have.Prefix.Addr().Is4()
	})
	k.State.Routes = slices.DeleteFunc(k.State.Routes, func(r netstate.Route) bool {
		return r.Uses(a.Link) && (ipv4 && last && r.Dst.Addr().Is4() || same(r, connected(a)))
	})
	return nil
}

func (k *Kernel) addRoute(r netstate.Route) error {
	if slices.ContainsFunc(k.State.Routes, func(have netstate.Route) bool { return same(have, r) }) {
		return nil
	}
	if r.Via.IsValid() && r.Flags&netstate.RouteOnlink == 0 && !k.reaches(r.Link, r.Via) {
		return fmt.Errorf("adding route %s via %s: %w", r.Dst, r.Via, syscall.ENETUNREACH)
	}
	if err := k.op("adding route %s", r.Dst); err != nil {
		return err
	}
	k.State.Routes = append(k.State.Routes, r)
	return nil
}

func (k *Kernel) reaches(link int, via netip.Addr) bool {
	return slices.ContainsFunc(k.State.Routes, func(r netstate.Route) bool {
		return r.Link == link && !r.Via.IsValid() && r.Dst.Contains(via)
	})
}

func (k *Kernel) delRoute(r netstate.Route) error {
	if !slices.ContainsFunc(k.State.Routes, func(have netstate.Route) bool { return same(have, r) }) {
		return nil
	}
	if err := k.op("deleting route %s", r.Dst); err != nil {
		return err
	}
	k.State.Routes = slices.DeleteFunc(k.State.Routes, func(have netstate.Route) bool { return same(have, r) })
	return nil
}

// connected is the route that the kernel makes for an address.
func connected(a netstate.Addr) netstate.Route {
	r := netstate.Route{
		Link: a.Link, Dst: a.Prefix.Masked(), Table: netstate.TableMain,
		Protocol: netstate.ProtocolKernel, Type: netstate.TypeUnicast,
	}
	if a.Prefix.Addr().Is4() {
		r.Scope, r.PrefSrc = netstate.ScopeLink, a.Prefix.Addr()
	}
	return r
}

func same[T any](a, b T) bool {
	return cmp.Equal(a, b, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty())
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Diff returns how two snapshots differ, whatever the order of their entries, or
// nothing. Neighbours that nobody set are left out: the kernel forgets them and
// finds them out again.
func Diff(want, got netstate.Snapshot) string {
	learned := func(n netstate.Neighbor) bool { return !n.Permanent() }
	want.Neighbors = slices.DeleteFunc(slices.Clone(want.Neighbors), learned)
	got.Neighbors = slices.DeleteFunc(slices.Clone(got.Neighbors), learned)
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(),
		cmpopts.SortSlices(func(a, b netstate.Route) bool { return fmt.Sprint(a) < fmt.Sprint(b) }),
		cmpopts.SortSlices(func(a, b netstate.Addr) bool { return fmt.Sprint(a) < fmt.Sprint(b) }),
		cmpopts.SortSlices(func(a, b netstate.Neighbor) bool { return fmt.Sprint(a) < fmt.Sprint(b) }))
}
