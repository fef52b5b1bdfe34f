package client

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Dual is a guest of both families.
type Dual struct {
	Driver // of which Run is not set
	// Use runs the clients until the guest has a default route and nameservers of both
	// families and returns when that was, and then until its DHCPv6 is done too.
	Use func(ctx context.Context, g Guest) (usable time.Time, err error)
}

// Duals are guests of both families.
func Duals() []Dual {
	return []Dual{
		{Driver{Name: "systemd-networkd"}, networkdDual},
		{Driver{Name: "kernel-udhcpc-udhcpc6", Kernel: true}, kernelDual},
	}
}

// networkdDual leaves all to systemd-networkd.
func networkdDual(ctx context.Context, g Guest) (usable time.Time, err error) {
	stop, err := networkd(ctx, g.Space, g.Link, fmt.Sprintf(networkd6Conf, g.Link, "yes"))
	if err != nil {
		return usable, err
	}
	defer stop()
	_, err = poll(ctx, "both families", func() (Told, bool, error) {
		told, err := kernelTold(ctx, g.Space, g.Link, false)
		if err != nil {
			return nil, false, err
		}
		told4, err := kernelTold(ctx, g.Space, g.Link, true)
		if err != nil {
			return nil, false, err
		}
		state, err := NetworkdState(ctx, g.Space, g.Link)
		told[DNS] = names(state["DNS"])
		if usable.IsZero() && told[Default] != "" && told4[Default] != "" && strings.Contains(told[DNS], " ") {
			usable = time.Now()
		}
		return told, !usable.IsZero() && told[Address] != "", err
	})
	return usable, err
}

// kernelDual is a guest of the plainest kind.
func kernelDual(ctx context.Context, g Guest) (usable time.Time, err error) {
	c, err := Udhcpc(g.Space, g.Dir, g.Link)
	if err != nil {
		return usable, err
	}
	defer c.Stop()
	if _, err := c.Wait(ctx, "bound"); err != nil {
		return usable, err
	}
	if _, err := kernelDriver.Run(ctx, g); err != nil {
		return usable, err
	}
	c6, err := Udhcpc6(g.Space, g.Dir, g.Link)
	if err != nil {
		return usable, err
	}
	defer c6.Stop()
	event, err := c6.Wait(ctx, "bound")
	if err == nil && event.Told["dns"] == "" {
		err = fmt.Errorf("udhcpc6 was told no nameserver: %q", event.Told)
	}
	return time.Now(), err
}
