package local

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

// starters start each of the clients, with nothing known from before.
var starters = map[string]struct {
	start func(*testWorld, *pod.Space) (*client.Client, error)
	bound string
	told  func(addr, gateway string) map[string]string // the client's names of what it must be told
}{
	"udhcpc": {
		start: func(w *testWorld, guest *pod.Space) (*client.Client, error) {
			return client.Udhcpc(guest, w.Dir, "nic0")
		},
		bound: "bound",
		told: func(addr, gateway string) map[string]string {
			return map[string]string{
				"ip": addr, "subnet": "255.255.255.0", "mask": "24", "router": gateway, "dns": "10.96.0.10",
				"search":       "default.svc.cluster.local svc.cluster.local cluster.local",
				"staticroutes": "0.0.0.0/0 " + gateway, "mtu": "1450", "hostname": "vm-0", "serverid": "169.254.75.1",
			}
		},
	},
	"dhclient": {
		start: func(w *testWorld, guest *pod.Space) (*client.Client, error) {
			return client.Dhclient(guest, w.Dir, "nic0", "", "")
		},
		bound: "BOUND",
		told: func(addr, gateway string) map[string]string {
			return map[string]string{
				"new_ip_address": addr, "new_subnet_mask": "255.255.255.0", "new_routers": gateway,
				"new_domain_name_servers":             "10.96.0.10",
				"new_domain_search":                   "default.svc.cluster.local. svc.cluster.local. cluster.local.",
				"new_rfc3442_classless_static_routes": "0 " + strings.ReplaceAll(gateway, ".", " "), "new_interface_mtu": "1450",
				"new_host_name": "vm-0", "new_dhcp_server_identifier": "169.254.75.1",
			}
		},
	},
}

// start starts a client, and ends it with the test.
func (w *testWorld) start(t *testing.T, name string, guest *pod.Space) *client.Client {
	t.Helper()
	c, err := starters[name].start(w, guest)
	return world.Running(t, c, err)
}

func TestClientIsBoundAfterOneDiscover(t *testing.T) {
	for name, starter := range starters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorld(t, "bridge", 30*time.Second).with(b)
				tap, guest := w.Plug(t, w.Prestart(t))
				event := w.Wait(t, w.start(t, name, guest), starter.bound)
				want, got := starter.told(w.GuestAddr().String(), w.GuestGateway().String()), map[string]string{}
				for key := range want {
					got[key] = event.Told[key]
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("what the client was told (-want +got):\n%s", diff)
				}
				wantExchange(t, tap, map[string]int{"DISCOVER": 1, "OFFER": 1, "REQUEST": 1, "ACK": 1})
			})
		})
	}
}

// wantExchange compares the numbers of DHCP messages that crossed the tap.
func wantExchange(t *testing.T, tap *wire.Wire, want map[string]int) {
	t.Helper()
	got := tap.Counts()
	for _, kind := range []string{"arp", "ipv4", "ipv6", "other"} {
		delete(got, kind)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages on the tap (-want +got):\n%s", diff)
	}
}

// TestStaleAddressGetsNAK is INIT-REBOOT (RFC 2131 §4.3.2): the pod has another
// address than the guest had when it last ran.
func TestStaleAddressGetsNAK(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 30*time.Second).with(b)
		tap, guest := w.Plug(t, w.Prestart(t))
		stale := client.Leased("nic0", netip.MustParseAddr("10.244.9.9"), netip.MustParseAddr("169.254.75.1"))
		c, err := client.Dhclient(guest, w.Dir, "nic0", stale, "")
		world.Running(t, c, err)
		event := w.Wait(t, c, "BOUND")
		if got := event.Told["new_ip_address"]; got != w.GuestAddr().String() {
			t.Errorf("bound to %s, want %s", got, w.GuestAddr())
		}
		wantExchange(t, tap, map[string]int{"REQUEST": 2, "NAK": 1, "DISCOVER": 1, "OFFER": 1, "ACK": 1})
	})
}

// TestRightAddressIsConfirmed is INIT-REBOOT with the address that the pod has.
func TestRightAddressIsConfirmed(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 30*time.Second).with(b)
		tap, guest := w.Plug(t, w.Prestart(t))
		lease := client.Leased("nic0", w.GuestAddr(), netip.MustParseAddr("169.254.75.1"))
		c, err := client.Dhclient(guest, w.Dir, "nic0", lease, "")
		w.Wait(t, world.Running(t, c, err), "REBOOT")
		wantExchange(t, tap, map[string]int{"REQUEST": 1, "ACK": 1})
	})
}

// TestUnicastRenewIsAnswered has udhcpc renew at once, which its SIGUSR1 is for.
func TestUnicastRenewIsAnswered(t *testing.T) {
	t.Parallel()
	world.OnEachShape(t, func(t *testing.T, b pod.Binding, shape string) {
		w := newWorld(t, shape, 30*time.Second).with(b)
		tap, guest := w.Plug(t, w.Prestart(t))
		c := w.start(t, "udhcpc", guest)
		w.Wait(t, c, "bound")
		if err := c.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		w.Wait(t, c, "renew")
		// On a busy machine udhcpc may ask twice before it looks for an answer.
		got := tap.Counts()
		if got["DISCOVER"] != 1 || got["REQUEST"] < 2 || got["ACK"] != got["REQUEST"] {
			t.Errorf("messages on the tap: %v", got)
		}
	})
}

// TestShortLeaseIsRenewed has dhclient live on a lease of 20 seconds: it renews
// when half of it is gone (RFC 2131 §4.4.5).
func TestShortLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 60*time.Second).with(b)
		tap, guest := w.Plug(t, w.Prestart(t, "--lease-time", "20s"))
		c := w.start(t, "dhclient", guest)
		w.Wait(t, c, "BOUND")
		w.Wait(t, c, "RENEW")
		wantExchange(t, tap, map[string]int{"DISCOVER": 1, "OFFER": 1, "REQUEST": 2, "ACK": 2})
	})
}

// TestShortLeaseIsRebound loses the unicast requests, so that dhclient has to
// broadcast when seven eighths of the lease are gone. It must not wait for longer
// than the last eighth between two requests, or it would begin anew. What it calls
// the event then depends on the second.
func TestShortLeaseIsRebound(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 60*time.Second).with(b)
		tap, guest := w.Plug(t, w.Prestart(t, "--lease-time", "20s"))
		c, err := client.Dhclient(guest, w.Dir, "nic0", "", "backoff-cutoff 2;\n")
		world.Running(t, c, err)
		w.Wait(t, c, "BOUND")
		discovers := tap.Counts()["DISCOVER"]
		tap.Lose(wire.Unicast)
		w.Wait(t, c, "REBIND", "RENEW")
		if got := tap.Counts()["DISCOVER"]; got != discovers {
			t.Errorf("the lease was lost: %d more DISCOVERs\n%s", got-discovers, c.Log())
		}
	})
}

// TestPodNetworkNeverHearsTheGuest has an eager DHCP server on the pod's L2.
func TestPodNetworkNeverHearsTheGuest(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 30*time.Second).with(b)
		log := w.serverOnPodNetwork(t)
		to := w.Prestart(t)
		tap, guest := w.Plug(t, to)
		event := w.Wait(t, w.start(t, "udhcpc", guest), "bound")
		if got := event.Told["serverid"]; got != "169.254.75.1" {
			t.Errorf("bound by %s", got)
		}
		wantExchange(t, tap, map[string]int{"DISCOVER": 1, "OFFER": 1, "REQUEST": 1, "ACK": 1})
		// A third host on that L2 is heard, so the server is there and listens.
		third, err := w.Node.NewPod(w.Ctx, "third-0", pod.BridgeNetwork(world.Subnet, world.PodMTU))
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Udhcpc(third.Space, w.Dir, "eth0")
		event = w.Wait(t, world.Running(t, c, err), "bound")
		if got := event.Told["serverid"]; got != w.Other.Addr.Addr().String() {
			t.Errorf("a host on the pod's network was bound by %s, want %s", got, w.Other.Addr.Addr())
		}
		if strings.Contains(log(), to.MAC) {
			t.Errorf("the server on the pod's network heard the guest:\n%s", log())
		}
	})
}

// TestPodNetworkNeverGetsAnswers asks for a lease from another host of the L2.
func TestPodNetworkNeverGetsAnswers(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 30*time.Second).with(b)
		w.Prestart(t)
		c, err := client.Udhcpc(w.Other.Space, w.Dir, "eth0", "-n", "-t", "2")
		event := w.Wait(t, world.Running(t, c, err), "leasefail", "bound")
		if event.Reason != "leasefail" {
			t.Errorf("another host was given %s by %s", event.Told["ip"], event.Told["serverid"])
		}
	})
}

// TestClientReachesWhatThePodReached lets udhcpc's own host talk.
func TestClientReachesWhatThePodReached(t *testing.T) {
	t.Parallel()
	world.OnEachShape(t, func(t *testing.T, b pod.Binding, shape string) {
		w := newWorld(t, shape, 30*time.Second).with(b)
		_, guest := w.Plug(t, w.Prestart(t))
		w.Wait(t, w.start(t, "udhcpc", guest), "bound")
		for _, target := range w.Reachable() {
			if err := guest.Ping(w.Ctx, target); err != nil {
				t.Error(err)
			}
		}
	})
}
