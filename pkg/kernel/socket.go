//go:build linux

package kernel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// ListenPacket is net.ListenPacket inside the namespace. The address is a literal
// one; a zone in it is the name or the number of a link there.
func (k *Kernel) ListenPacket(ctx context.Context, network, addr string) (c net.PacketConn, err error) {
	err = k.withLiteral(ctx, addr, func(addr string) (err error) {
		c, err = new(net.ListenConfig).ListenPacket(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen is net.Listen inside the namespace, with an address as for ListenPacket.
func (k *Kernel) Listen(ctx context.Context, network, addr string) (l net.Listener, err error) {
	err = k.withLiteral(ctx, addr, func(addr string) (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, network, addr)
		return err
	})
	return l, err
}

// DialContext is net.Dialer's inside the namespace, with an address as for
// ListenPacket.
func (k *Kernel) DialContext(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = k.withLiteral(ctx, addr, func(addr string) (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// withLiteral calls f inside the namespace with the address, in which zones are
// numbers. A name would be looked up by goroutines that are not inside; and of
// the names of links the standard library remembers those of one namespace.
func (k *Kernel) withLiteral(ctx context.Context, addr string, f func(addr string) error) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: not an IP address and a port", addr)
	}
	if zone := ap.Addr().Zone(); zone != "" {
		if _, err := strconv.Atoi(zone); err != nil {
			l, err := k.link(ctx, zone)
			if err != nil {
				return fmt.Errorf("address %q: %w", addr, err)
			}
			ap = netip.AddrPortFrom(ap.Addr().WithZone(strconv.Itoa(l.Index)), ap.Port())
		}
	}
	return k.netns.do(func() error { return f(ap.String()) })
}
