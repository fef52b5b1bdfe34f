//go:build linux

package kernel

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// settableFlags are the flags of an address that somebody chose. The others say
// what became of it, and the kernel sets them anew.
const settableFlags = unix.IFA_F_NODAD | unix.IFA_F_OPTIMISTIC | unix.IFA_F_HOMEADDRESS |
	unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

// addrs reads the addresses of all links, both families, in the kernel's order.
func (k *Kernel) addrs(ctx context.Context) ([]netstate.Addr, error) {
	msgs, err := k.route.dump(ctx, unix.RTM_GETADDR, newMessage(make([]byte, unix.SizeofIfAddrmsg)))
	if err != nil {
		return nil, fmt.Errorf("reading addresses: %w", err)
	}
	return parseAll("addresses", msgs, parseAddr)
}

func (k *Kernel) addrsOf(ctx context.Context, link int) ([]netstate.Addr, error) {
	all, err := k.addrs(ctx)
	return netstate.Snapshot{Addrs: all}.AddrsOf(link), err
}

// isIP reports whether an address family is one of the two that podwire knows;
// dumps of "all families" hold others, too.
func isIP(family uint8) bool { return family == unix.AF_INET || family == unix.AF_INET6 }

func parseAddr(msg []byte) (_ netstate.Addr, ok bool, err error) {
	fixed, attrs, err := split(msg, unix.SizeofIfAddrmsg)
	if err != nil || !isIP(fixed[0]) {
		return netstate.Addr{}, false, err
	}
	a := netstate.Addr{
		Flags: uint32(fixed[2]), Scope: fixed[3], Link: int(binary.NativeEndian.Uint32(fixed[4:])),
		ValidLft: netstate.Forever, PreferredLft: netstate.Forever,
	}
	var local, address netip.Addr
	for _, at := range attrs {
		switch at.kind {
		case unix.IFA_LOCAL:
			local = at.addr()
		case unix.IFA_ADDRESS:
			address = at.addr()
		case unix.IFA_BROADCAST:
			a.Broadcast = at.addr()
		case unix.IFA_LABEL:
			a.Label = at.text()
		case unix.IFA_FLAGS: // all 32 bits; the fixed part has eight
			a.Flags = at.u32()
		case unix.IFA_CACHEINFO: // struct ifa_cacheinfo: preferred, valid, two time stamps
			a.PreferredLft = at.u32()
			a.ValidLft = attribute{data: at.data[min(4, len(at.data)):]}.u32()
		default:
			a.Attrs = append(a.Attrs, at.carry())
		}
	}
	// IFA_ADDRESS is the other end; it is the local address too where there is
	// no other end, and IPv6 then has no IFA_LOCAL.
	if !local.IsValid() {
		local = address
	}
	if address != local {
		a.Peer = address
	}
	a.Prefix = netip.PrefixFrom(local, int(fixed[1]))
	return a, local.IsValid(), nil
}

// addrMessage is the message that adds the address or, by what of it identifies
// it, deletes it.
func addrMessage(a netstate.Addr) *message {
	fixed := make([]byte, unix.SizeofIfAddrmsg)
	fixed[0] = familyOf(a.Prefix.Addr())
	fixed[1] = uint8(a.Prefix.Bits())
	fixed[3] = a.Scope
	binary.NativeEndian.PutUint32(fixed[4:], uint32(a.Link))
	other := a.Prefix.Addr()
	if a.Peer.IsValid() {
		other = a.Peer
	}
	return newMessage(fixed).addr(unix.IFA_LOCAL, a.Prefix.Addr()).addr(unix.IFA_ADDRESS, other)
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addAddr adds an address that is not there.
func (k *Kernel) addAddr(ctx context.Context, a netstate.Addr) error {
	flags := a.Flags & settableFlags
	const unsettled = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_NODAD
	settled := a.Prefix.Addr().Is6() && a.Flags&unsettled == 0
	if settled {
		// The pod has made sure that the address is its own. To make sure once
		// more would take a second, in which the kernel takes no route with this
		// source, and some CNIs' responders would answer for it.
		flags |= unix.IFA_F_NODAD
	}
	err := k.putAddr(ctx, a, flags, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if isErrno(err, unix.EEXIST) && madeByItself(a) {
		// A router's advertisement was faster; it is made what it was.
		return k.putAddr(ctx, a, a.Flags&settableFlags, unix.NLM_F_REPLACE)
	}
	if err != nil || !settled {
		return err
	}
	return k.putAddr(ctx, a, flags&^unix.IFA_F_NODAD, unix.NLM_F_REPLACE)
}

func (k *Kernel) putAddr(ctx context.Context, a netstate.Addr, flags uint32, how int) error {
	m := addrMessage(a).addr(unix.IFA_BROADCAST, a.Broadcast)
	if a.Label != "" {
		m.str(unix.IFA_LABEL, a.Label)
	}
	m.u32(unix.IFA_FLAGS, flags)
	lifetimes := make([]byte, unix.SizeofIfaCacheinfo)
	binary.NativeEndian.PutUint32(lifetimes, a.PreferredLft)
	binary.NativeEndian.PutUint32(lifetimes[4:], a.ValidLft)
	m.attr(unix.IFA_CACHEINFO, lifetimes).carried(a.Attrs)
	err := k.route.change(ctx, unix.RTM_NEWADDR, how, m)
	if isErrno(err, unix.EACCES) && a.Prefix.Addr().Is6() {
		err = fmt.Errorf("%w: new links of this pod have no IPv6; give the pod the sysctl net.ipv6.conf.default.disable_ipv6=0, "+
			"or the guest no IPv6 (--vm-ipv6-network-cidr none)", err)
	}
	if err != nil {
		return fmt.Errorf("adding address %s: %w", a.Prefix, err)
	}
	return nil
}

// deleteAddr deletes an address. One that is gone is deleted: with a primary
// address the kernel may take its secondaries away.
func (k *Kernel) deleteAddr(ctx context.Context, a netstate.Addr) error {
	err := k.route.change(ctx, unix.RTM_DELADDR, 0, addrMessage(a))
	if err := unless(err, unix.EADDRNOTAVAIL); err != nil {
		return fmt.Errorf("deleting address %s: %w", a.Prefix, err)
	}
	return nil
}

// addAddresses gives a link of podwire's own its addresses. Nobody else can have
// them: duplicates are not looked for, which takes a second.
func (k *Kernel) addAddresses(ctx context.Context, s plan.AddAddresses) error {
	if err := k.addMissing(ctx, s); err != nil {
		return fmt.Errorf("adding addresses to %q: %w", s.Link, err)
	}
	return nil
}

func (k *Kernel) addMissing(ctx context.Context, s plan.AddAddresses) error {
	l, err := k.link(ctx, s.Link)
	if err != nil {
		return err
	}
	has, err := k.addrsOf(ctx, l.Index)
	if err != nil {
		return err
	}
	for _, p := range s.Addrs {
		if p.Addr().Is6() && p.Addr().IsLoopback() {
			err = k.addLocal(ctx, localRoute(l.Index, p))
		} else if !slices.ContainsFunc(has, func(a netstate.Addr) bool { return a.Prefix == p }) {
			err = k.addAddr(ctx, permanent(l.Index, p))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func permanent(link int, p netip.Prefix) netstate.Addr {
	a := netstate.Addr{Link: link, Prefix: p, ValidLft: netstate.Forever, PreferredLft: netstate.Forever}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// localRoute is all that a link can have of IPv6's loopback address, which no link
// but lo takes: what has become a packet for ::1 on this link, because an answer was
// translated back, is only the namespace's own with a route of this link. It comes
// behind that of lo. From the wire the kernel takes none such (RFC 4291 §2.5.3).
func localRoute(link int, p netip.Prefix) netstate.Route {
	return netstate.Route{
		Link: link, Dst: p, Table: netstate.TableLocal, Type: netstate.TypeLocal, Protocol: unix.RTPROT_BOOT, Priority: localMetric,
	}
}

const localMetric = 1024 // IP6_RT_PRIO_USER

func (k *Kernel) addLocal(ctx context.Context, r netstate.Route) error {
	has, err := k.routesOf(ctx, r.Link)
	same := func(o netstate.Route) bool { return o.Dst == r.Dst && o.Table == r.Table && o.Type == r.Type }
	if err != nil || slices.ContainsFunc(has, same) {
		return err
	}
	return k.addRoute(ctx, r)
}

// removeAddresses takes them away again. A link that is gone has none.
func (k *Kernel) removeAddresses(ctx context.Context, s plan.AddAddresses) error {
	l, found, err := k.findLink(ctx, s.Link)
	if err != nil || !found {
		return err
	}
	for _, p := range s.Addrs {
		if p.Addr().Is6() && p.Addr().IsLoopback() {
			err = k.deleteRoute(ctx, localRoute(l.Index, p))
		} else {
			err = k.deleteAddr(ctx, netstate.Addr{Link: l.Index, Prefix: p})
		}
		if err != nil {
			return fmt.Errorf("removing addresses from %q: %w", s.Link, err)
		}
	}
	return nil
}

// sameAddr reports whether two addresses were set alike. Lifetimes run and are
// compared by whether they do.
func sameAddr(a, b netstate.Addr) bool {
	return a.Prefix == b.Prefix && a.Peer == b.Peer && a.Broadcast == b.Broadcast &&
		a.Label == b.Label && a.Scope == b.Scope &&
		a.Flags&settableFlags == b.Flags&settableFlags &&
		(a.ValidLft == netstate.Forever) == (b.ValidLft == netstate.Forever) &&
		(a.PreferredLft == netstate.Forever) == (b.PreferredLft == netstate.Forever) &&
		sameAttrs(a.Attrs, b.Attrs)
}

// sameAttrs compares attributes that are carried, in whatever order.
func sameAttrs(a, b []netstate.Attr) bool {
	return slices.EqualFunc(sortedAttrs(a), sortedAttrs(b), func(x, y netstate.Attr) bool {
		return x.Type == y.Type && bytes.Equal(x.Data, y.Data)
	})
}

func sortedAttrs(attrs []netstate.Attr) []netstate.Attr {
	return slices.SortedStableFunc(slices.Values(attrs), func(x, y netstate.Attr) int {
		return cmp.Compare(x.Type, y.Type)
	})
}
