package matrix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

// starter is a DHCP client that can be started in a guest's namespace.
type starter struct {
	name  string
	start func(w *world, guest *pod.Space) (stop func(), log func() string, err error)
}

var (
	networkd = starter{"systemd-networkd", startNetworkd}
	udhcpc   = starter{"udhcpc", startUdhcpc}
)

// client is the client that the world's cell runs.
func (w *world) client() starter {
	if w.layout.client.name != "" {
		return w.layout.client
	}
	return networkd
}

// nic is the guest's link, and guestName is what the guest calls itself.
const (
	nic       = "nic0"
	guestName = "guest"
)

// networkdConf is a guest's ordinary configuration: whatever the network offers.
const networkdConf = `[Match]
Name=` + nic + `
[Network]
DHCP=yes
IPv6AcceptRA=yes
[DHCPv4]
UseMTU=yes
UseHostname=no
[DHCPv6]
UseHostname=no
`

// guest plugs a host into the pod's tap, has its client configure it, and checks that it
// has taken the pod's place.
func (w *world) guest(to wired) (err error) {
	guest, err := pod.NewSpace(guestName, w.dir)
	if err != nil {
		return err
	}
	defer guest.Close()
	// The kernel is not to act on router advertisements before the client does.
	if err := guest.Sysctl("net/ipv6/conf/default/accept_ra", "0"); err != nil {
		return err
	}
	tap, err := wire.Connect(w.ctx, w.vm.Space, to.Tap, guest, nic, to.MAC, to.MTU)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tap.Close()) }()
	stop, log, err := w.client().start(w, guest)
	if err != nil {
		return err
	}
	defer stop()
	if err := w.configured(guest); err != nil {
		return fmt.Errorf("%w\non the tap: %v\n%s", err, tap.Counts(), log())
	}
	if err := w.listen(guest); err != nil {
		return err
	}
	return w.reaches(guest, nic)
}

func startUdhcpc(w *world, guest *pod.Space) (stop func(), log func() string, err error) {
	c, err := client.Udhcpc(guest, w.dir, nic)
	if err != nil {
		return nil, nil, err
	}
	return c.Stop, c.Log, nil
}

func startNetworkd(_ *world, guest *pod.Space) (stop func(), log func() string, err error) {
	return client.StartNetworkd(guest, networkdConf)
}

// clientTime is how long a client may take. It should need two seconds.
const clientTime = 15 * time.Second

// configured waits until a guest has all the addresses that it is to have, not tentative any more,
// and a route to elsewhere for each.
func (w *world) configured(guest *pod.Space) error {
	ctx, cancel := context.WithTimeout(w.ctx, clientTime)
	defer cancel()
	for {
		missing := w.missing(guest)
		if missing == "" {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			out, _ := guest.Run(w.ctx, "sh", "-c", "ip address show dev "+nic+"; ip route; ip -6 route")
			return fmt.Errorf("after %s it has no %s\n%s", clientTime, missing, out)
		}
	}
}

// missing names something that a guest has not got yet.
func (w *world) missing(guest *pod.Space) string {
	out, err := guest.Run(w.ctx, "ip", "-oneline", "address", "show", "dev", nic)
	if err != nil {
		return err.Error()
	}
	for _, own := range w.vm.Addrs {
		its := w.binding.Guest(own).Addr()
		has := false
		for line := range strings.Lines(out) {
			has = has || strings.Contains(line, " "+its.String()+"/") && !strings.Contains(line, "tentative")
		}
		if !has {
			return "address " + its.String()
		}
		if err := guest.IP(w.ctx, "route get %s", pod.OfFamily(own.Addr(), far4, far6)); err != nil {
			return pod.OfFamily(own.Addr(), "IPv4", "IPv6") + " route"
		}
	}
	return ""
}
