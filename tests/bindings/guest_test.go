package bindings

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
)

// guestHost is a guest that is a namespace, behind a cable to the pod's tap.
type guestHost struct {
	*pod.Space
	cable *cable
	dhcp  *client.Client
	dhcp6 *client.Client
	told  map[string]string // by DHCPv4
	told6 map[string]string // by DHCPv6
}

// newGuest makes a guest whose cable leads nowhere yet.
func (w *world) newGuest(mac string, mtu int) (*guestHost, error) {
	space, err := pod.NewSpace("guest", w.dir)
	if err != nil {
		return nil, err
	}
	g := &guestHost{Space: space}
	if err = space.Sysctl("net/ipv6/conf/default/accept_ra_rt_info_max_plen", "128"); err == nil {
		g.cable, err = newCable(w.ctx, space, mac, mtu)
	}
	if err != nil {
		return nil, errors.Join(err, space.Close())
	}
	return g, nil
}

func (g *guestHost) close() {
	for _, c := range []*client.Client{g.dhcp, g.dhcp6} {
		if c != nil {
			c.Stop()
		}
	}
	g.cable.close()
	g.Close()
}

// configured gives a guest its addresses by hand, for a test that has no time for DHCP.
func (w *world) configured(g *guestHost) error {
	own4, own6 := w.binding.guest(w)
	gateway4, gateway6 := w.binding.gateway(w)
	return errors.Join(
		g.IP(w.ctx, "address add %s dev %s", own4, nicName),
		g.IP(w.ctx, "address add %s dev %s nodad", own6, nicName),
		g.IP(w.ctx, "route add default via %s", gateway4),
		g.IP(w.ctx, "route add default via %s", gateway6),
	)
}

// boundTime is how long a client may take. It should need two seconds.
const boundTime = 20 * time.Second

// bind has a guest configured as guests are: DHCPv4, the kernel by what routers
// advertise, DHCPv6.
func (w *world) bind(g *guestHost) (err error) {
	err = w.eventually(boundTime, func() error {
		own, err := g.Run(w.ctx, "ip", "-6", "address", "show", "dev", nicName, "scope", "link", "-tentative")
		if err != nil || !strings.Contains(own, "fe80:") {
			return errors.Join(err, errors.New("no link-local address"))
		}
		routes, err := g.Run(w.ctx, "ip", "-6", "route", "show", "default")
		if err != nil || !strings.Contains(routes, " proto ra ") {
			return errors.Join(err, fmt.Errorf("no router advertised itself: %q", routes))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if g.dhcp6, err = client.Udhcpc6(g.Space, w.dir, nicName); err != nil {
		return err
	}
	event, err := g.dhcp6.Wait(w.ctx, "bound")
	if err != nil {
		return err
	}
	g.told6 = event.Told
	// Last, as the script of DHCPv6 takes an address of IPv4 away when it begins.
	if g.dhcp, err = client.Udhcpc(g.Space, w.dir, nicName); err != nil {
		return err
	}
	if event, err = g.dhcp.Wait(w.ctx, "bound"); err != nil {
		return err
	}
	g.told = event.Told
	return w.eventually(boundTime, func() error {
		out, err := g.Run(w.ctx, "ip", "-6", "address", "show", "dev", nicName, "tentative")
		if err == nil && out != "" {
			err = errors.New("an address stays tentative")
		}
		return err
	})
}

// renew has both DHCP clients renew their leases.
func (g *guestHost) renew(w *world) error {
	for _, c := range []*client.Client{g.dhcp, g.dhcp6} {
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			return err
		}
		if _, err := c.Wait(w.ctx, "renew"); err != nil {
			return err
		}
	}
	return nil
}

// toldIs compares what DHCP said with what the binding gives.
func (w *world) toldIs() error {
	own4, own6 := w.binding.guest(w)
	g := w.guest
	addr6, err := netip.ParseAddr(g.told6["ipv6"]) // with all its zeros
	if err != nil {
		return fmt.Errorf("DHCPv6 said %q: %w", g.told6, err)
	}
	server6, err := netip.ParseAddr(g.told6["dns"])
	if err != nil {
		return fmt.Errorf("DHCPv6 said %q: %w", g.told6, err)
	}
	got := fmt.Sprintf("%s/%s dns %s, %s dns %s", g.told["ip"], g.told["mask"], g.told["dns"], addr6, server6)
	if want := fmt.Sprintf("%s dns %s, %s dns %s", own4, dns4, own6.Addr(), dns6); got != want {
		return fmt.Errorf("the guest was told %q, want %q", got, want)
	}
	return nil
}
