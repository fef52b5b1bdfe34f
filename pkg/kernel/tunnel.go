//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// ownTime is how long an address may take to be the namespace's own.
const ownTime = 5 * time.Second

// OpenTunnel makes a TUN and hands out its other end: a Read is one IP packet that
// the namespace sends by it, a Write one that it receives. The namespace has the
// local addresses on it, each by itself, and reaches the peers by it, whatever its
// other routes say. It is the namespace's own device, and its routing is as
// with any other; as the way back is by the device that a packet came by, the
// strictest reverse path filter lets it pass.
//
// The device vanishes with its end: on Close, which ends a Read with os.ErrClosed,
// and with the process. It takes CAP_NET_ADMIN and /dev/net/tun. Where there is a
// link of that name the error is ErrConflict. A reader must expect packets that it
// has no use for: the kernel reports multicast groups on every link.
func (k *Kernel) OpenTunnel(ctx context.Context, name string, local, peers []netip.Addr, mtu int) (io.ReadWriteCloser, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := k.makeTunnel(ctx, name)
	if err == nil {
		if err = k.wireTunnel(ctx, name, local, peers, mtu); err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return nil, explain(fmt.Errorf("opening tunnel %q: %w", name, err))
	}
	return f, nil
}

func (k *Kernel) makeTunnel(ctx context.Context, name string) (f *os.File, err error) {
	l, found, err := k.findLink(ctx, name)
	if err != nil {
		return nil, err
	}
	if found {
		return nil, conflict(l)
	}
	err = k.netns.do(func() (err error) {
		f, err = newTunnel(name)
		return err
	})
	return f, err
}

// newTunnel makes the device. It must be there before the file is handed to the
// poller, which takes a tun that is attached to nothing for broken.
func newTunnel(name string) (*os.File, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	fd, err := openTunFD(unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
	if err := uninterrupted(func() error { return unix.IoctlIfreq(fd, unix.TUNSETIFF, req) }); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EBUSY) { // made since it was looked for
			return nil, fmt.Errorf("the name is %w: %w", ErrConflict, err)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// wireTunnel gives the device what belongs to it. Its routes need its addresses,
// and those of IPv6 a link that is up.
func (k *Kernel) wireTunnel(ctx context.Context, name string, local, peers []netip.Addr, mtu int) error {
	l, err := k.link(ctx, name)
	if err != nil {
		return err
	}
	if err := k.converge(ctx, l, l.MAC, mtu); err != nil {
		return err
	}
	if err := k.setUp(ctx, l.Index, true); err != nil {
		return fmt.Errorf("bringing it up: %w", err)
	}
	for _, a := range local {
		if err := k.putAddr(ctx, tunnelAddr(l.Index, a), unix.IFA_F_NODAD, unix.NLM_F_CREATE|unix.NLM_F_EXCL); err != nil {
			return err
		}
	}
	for _, p := range peers {
		if err := k.addRoute(ctx, tunnelRoute(l.Index, p, local)); err != nil {
			return err
		}
	}
	return k.awaitOwn(ctx, l.Index, local)
}

// awaitOwn waits until the namespace takes packets to the addresses for its own:
// with IPv6 the kernel makes the route that says so a moment after the address.
func (k *Kernel) awaitOwn(ctx context.Context, link int, addrs []netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, ownTime)
	defer cancel()
	for {
		routes, err := k.routesOf(ctx, link)
		if err != nil {
			return err
		}
		missing := slices.IndexFunc(addrs, func(a netip.Addr) bool {
			return !slices.ContainsFunc(routes, func(r netstate.Route) bool {
				return r.Table == netstate.TableLocal && r.Dst == hostPrefix(a)
			})
		})
		if missing < 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for address %s to be the namespace's own: %w", addrs[missing], ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// tunnelAddr is an address without a network. One that is link-local is not for
// packets to elsewhere (RFC 3927 §2.6.2); with IPv6 the kernel knows.
func tunnelAddr(link int, a netip.Addr) netstate.Addr {
	addr := netstate.Addr{
		Link: link, Prefix: hostPrefix(a), ValidLft: netstate.Forever, PreferredLft: netstate.Forever,
	}
	if a.IsLinkLocalUnicast() {
		addr.Scope = netstate.ScopeLink
	}
	return addr
}

// tunnelRoute is the route to a peer, with the first address of its family as the
// source.
func tunnelRoute(link int, peer netip.Addr, local []netip.Addr) netstate.Route {
	r := netstate.Route{
		Link: link, Dst: hostPrefix(peer), Table: netstate.TableMain,
		Protocol: unix.RTPROT_STATIC, Type: netstate.TypeUnicast,
	}
	if peer.Is4() {
		r.Scope = netstate.ScopeLink
	}
	for _, a := range local {
		if a.Is4() == peer.Is4() {
			r.PrefSrc = hostPrefix(a).Addr()
			break
		}
	}
	return r
}

// hostPrefix is the prefix of an address alone.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a.WithZone(""), a.BitLen()) }
