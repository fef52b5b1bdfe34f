package world

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

// Plug opens the tap for a DHCP client, which gets a link "nic0" in a namespace
// of its own.
func (w *World) Plug(t *testing.T, to Wired) (*wire.Wire, *pod.Space) {
	t.Helper()
	guest := w.NewGuest(t)
	return w.PlugInto(t, to, guest, "nic0"), guest
}

// NewGuest makes a namespace without links, whose kernel takes all that routers
// advertise: by itself, it would take no route information (RFC 4191).
func (w *World) NewGuest(t *testing.T) *pod.Space {
	t.Helper()
	guest, err := pod.NewSpace("guest", w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	if err := guest.Sysctl("net/ipv6/conf/default/accept_ra_rt_info_max_plen", "128"); err != nil {
		t.Fatal(err)
	}
	return guest
}

// PlugInto opens a tap for a link of a guest.
func (w *World) PlugInto(t *testing.T, to Wired, guest *pod.Space, link string) *wire.Wire {
	t.Helper()
	tap, err := wire.Connect(w.Ctx, w.VM.Space, to.Tap, guest, link, to.MAC, to.MTU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	})
	return tap
}

// LinkLocal waits until a link has a link-local address that is ready: DHCPv6 asks
// from there (RFC 8415 §13.1).
func (w *World) LinkLocal(t *testing.T, space *pod.Space, link string) netip.Addr {
	t.Helper()
	var addr netip.Addr
	w.Eventually(t, "has a link-local address", func() string {
		for word := range strings.FieldsSeq(w.Output(t, space, "ip -6 address show dev "+link+" scope link -tentative")) {
			if prefix, err := netip.ParsePrefix(word); err == nil {
				addr = prefix.Addr()
				return ""
			}
		}
		return "none yet"
	})
	return addr
}

// Running ends a client with the test; err is that of starting it.
func Running(t *testing.T, c *client.Client, err error) *client.Client {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// Wait waits for an event.
func (w *World) Wait(t *testing.T, c *client.Client, reasons ...string) client.Event {
	t.Helper()
	event, err := c.Wait(w.Ctx, reasons...)
	if err != nil {
		t.Fatal(err)
	}
	return event
}
