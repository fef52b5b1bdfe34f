//go:build linux

package kernel

import (
	"bytes"
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// stripAutoconf deletes the IPv6 addresses and routes that the kernel has made for
// a link by itself. With address generation off a link still takes every router's
// advertisement, and has an address and a default route of it; only sysctls could
// forbid that, which a container cannot set. A bridge port hears none any more.
func (k *Kernel) stripAutoconf(ctx context.Context, link int) error {
	addrs, err := k.addrsOf(ctx, link)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if !madeByItself(a) {
			continue
		}
		if err := k.deleteAddr(ctx, a); err != nil {
			return err
		}
	}
	routes, err := k.routesOf(ctx, link)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if !advertised(r) {
			continue
		}
		if err := k.deleteRoute(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// madeByItself reports whether an address may be one that the kernel has made: a
// link-local one, or one that is to run off, as all of an advertised prefix are.
func madeByItself(a netstate.Addr) bool {
	ip := a.Prefix.Addr()
	return ip.Is6() && (ip.IsLinkLocalUnicast() || a.Flags&unix.IFA_F_PERMANENT == 0)
}

// advertised reports whether a route may be of an advertisement: to a router, or
// to a prefix, which stays when the address in it goes.
func advertised(r netstate.Route) bool {
	return r.Dst.Addr().Is6() && r.Table != netstate.TableLocal &&
		(r.Protocol == unix.RTPROT_RA || r.Protocol == netstate.ProtocolKernel)
}

// stripOfOtherMAC deletes the addresses that a link which is no port any more has
// made itself of an advertisement while it had another MAC.
func (k *Kernel) stripOfOtherMAC(ctx context.Context, l linkInfo, keep []netstate.Addr) error {
	addrs, err := k.addrsOf(ctx, l.Index)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		kept := slices.ContainsFunc(keep, func(b netstate.Addr) bool { return a.Prefix == b.Prefix })
		if kept || !madeByItself(a) || !ofOtherMAC(a.Prefix.Addr(), l.MAC) {
			continue
		}
		if err := k.deleteAddr(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// ofOtherMAC reports whether the last half of an address is made of a MAC address
// (modified EUI-64, RFC 4291 appendix A), and of another than this.
func ofOtherMAC(a netip.Addr, mac netstate.MAC) bool {
	has, own := a.As16(), mac.LinkLocal().As16()
	return has[11] == 0xff && has[12] == 0xfe && !bytes.Equal(has[8:], own[8:])
}
