//go:build linux

package kernel

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

const (
	// firstLook is when an answer is first looked for: on a link within the node
	// it comes in less.
	firstLook = 250 * time.Microsecond
	// lastLook is how often it is looked for in the end.
	lastLook = 50 * time.Millisecond
)

// known are the states in which an entry has a link-layer address that the kernel
// itself would send to.
const known = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// Resolve asks a link's network for the MAC addresses behind IP addresses, of
// either family, as the pod itself would before it sends a packet. What the pod
// knows already is taken as it is, without CAP_NET_ADMIN. It returns when all are
// found, or with those that are when ctx ends, which is no error. Those that the
// link has no way to ask for are not waited for.
//
// A question for an IPv6 address has the link's own link-local address as its
// source, and is not asked before that is known to be the link's.
func (k *Kernel) Resolve(ctx context.Context, link string, addrs []netip.Addr) (map[netip.Addr]netstate.MAC, error) {
	return k.resolve(ctx, link, addrs, (*resolver).run)
}

// Resolved is Resolve without asking: what the pod knows already. It needs no
// capability and changes nothing.
func (k *Kernel) Resolved(ctx context.Context, link string, addrs []netip.Addr) (map[netip.Addr]netstate.MAC, error) {
	return k.resolve(ctx, link, addrs, func(r *resolver, ctx context.Context) error {
		_, err := r.look(ctx)
		return err
	})
}

func (k *Kernel) resolve(ctx context.Context, link string, addrs []netip.Addr, how func(*resolver, context.Context) error) (map[netip.Addr]netstate.MAC, error) {
	r := &resolver{k: k, missing: map[netip.Addr]bool{}, found: map[netip.Addr]netstate.MAC{}}
	for _, a := range addrs {
		r.missing[a.WithZone("")] = true
	}
	var err error
	if r.link, err = k.link(ctx, link); err == nil {
		err = how(r, ctx)
	}
	if err != nil && ctx.Err() == nil {
		return r.found, explain(fmt.Errorf("resolving neighbours of %q: %w", link, err))
	}
	return r.found, nil
}

// resolver is one call of Resolve.
type resolver struct {
	k       *Kernel
	link    linkInfo
	missing map[netip.Addr]bool
	found   map[netip.Addr]netstate.MAC
}

func (r *resolver) run(ctx context.Context) error {
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		asked, err := r.look(ctx)
		if err != nil {
			return err
		}
		if err := r.ask(ctx, asked); err != nil {
			return err
		}
		if len(r.missing) == 0 || !r.link.Up {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// look moves what is known from the missing to the found, and says for which of
// the others a question is on its way.
func (r *resolver) look(ctx context.Context) (asked map[netip.Addr]bool, err error) {
	all, err := r.k.allNeighbors(ctx)
	if err != nil {
		return nil, err
	}
	asked = map[netip.Addr]bool{}
	for _, n := range all {
		switch {
		case n.Link != r.link.Index || !r.missing[n.Addr]:
		case n.State&known != 0 && !n.MAC.IsZero():
			r.found[n.Addr] = n.MAC
			delete(r.missing, n.Addr)
		case n.State&unix.NUD_INCOMPLETE != 0:
			asked[n.Addr] = true
		}
	}
	return asked, nil
}

// ask asks for what is missing, unless that is done, and gives up what cannot be
// asked for. To ask for one that failed begins anew.
func (r *resolver) ask(ctx context.Context, asked map[netip.Addr]bool) error {
	ready, never := true, false
	if slices.ContainsFunc(slices.Collect(maps.Keys(r.missing)), netip.Addr.Is6) {
		var err error
		if ready, err = r.hasSource(ctx); err != nil {
			return err
		}
		// Nothing will make it one.
		never = !ready && r.link.AddrGenMode == addrGenNone
	}
	for a := range r.missing {
		if asked[a] {
			continue
		}
		if a.Is6() && !ready {
			if never {
				delete(r.missing, a)
			}
			continue
		}
		err := r.k.solicit(ctx, r.link.Index, a)
		if isErrno(err, unix.EINVAL, unix.EAFNOSUPPORT, unix.ENETDOWN) {
			delete(r.missing, a) // the link has not this family
		} else if err != nil {
			return err
		}
	}
	return nil
}

// hasSource reports whether the link has a link-local address that is known to be
// its own, without which the kernel asks nothing by itself (RFC 4862 §5.4). A link
// that IPv6 is off for is let say so itself.
func (r *resolver) hasSource(ctx context.Context) (bool, error) {
	addrs, err := r.k.addrsOf(ctx, r.link.Index)
	return r.link.AddrGenMode == "" || slices.ContainsFunc(addrs, func(a netstate.Addr) bool {
		ip := a.Prefix.Addr()
		return ip.Is6() && ip.IsLinkLocalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC) == 0
	}), err
}

// solicit makes the kernel ask for an address. With NTF_USE nothing is set: the
// entry is as one that the kernel made for a packet, and is forgotten likewise.
func (k *Kernel) solicit(ctx context.Context, link int, a netip.Addr) error {
	m := neighborMessage(netstate.Neighbor{Link: link, Addr: a, State: unix.NUD_NONE, Flags: unix.NTF_USE})
	err := k.route.change(ctx, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE, m)
	if err != nil {
		return fmt.Errorf("asking for %s: %w", a, err)
	}
	return nil
}
