package local

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// foreign is the prefix that the router on the pod's network is eager to give away.
var foreign = netip.MustParsePrefix("fd00:bad::/64")

// routerOnPodNetwork starts a router in the other pod that advertises itself and a
// prefix for autoconfiguration, and gives addresses of it away by DHCPv6.
func (w *testWorld) routerOnPodNetwork(t *testing.T) func() string {
	t.Helper()
	if err := w.Other.IP(w.Ctx, "address add %s1/64 dev eth0 nodad", foreign.Addr()); err != nil {
		t.Fatal(err)
	}
	return world.Daemon(t, w.Other.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root",
		"--conf-file=/dev/null", "--pid-file=", "--port=0", "--no-ping", "--leasefile-ro", "--dhcp-authoritative", "--interface=eth0",
		"--enable-ra", "--dhcp-range=fd00:bad::100,fd00:bad::1ff,slaac,64")
}

// counter6 reads one of the kernel's counters of IPv6 messages of a link.
func (w *testWorld) counter6(t *testing.T, space *pod.Space, link, name string) int {
	t.Helper()
	content := w.Output(t, space, "cat /proc/net/dev_snmp6/"+link)
	for line := range strings.Lines(content) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == name {
			n, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no %s of %s in %q:\n%s", name, link, space.Name(), content)
	return 0
}

// flap takes a link down and up again, upon which its kernel solicits routers.
func (w *testWorld) flap(t *testing.T, space *pod.Space, link string) {
	t.Helper()
	for _, state := range []string{"down", "up"} {
		if err := space.IP(w.Ctx, "link set %s %s", link, state); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPodNetworkNeverHearsTheGuestsIPv6 has an eager router and DHCPv6 server on the
// pod's L2, which a third host there listens to.
func TestPodNetworkNeverHearsTheGuestsIPv6(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
		third, err := world.DualBridge(w.Ctx, w.Node, "third-0", 0)
		if err != nil {
			t.Fatal(err)
		}
		thirdMAC, err := third.MAC("eth0")
		if err != nil {
			t.Fatal(err)
		}
		if b.Keeps() {
			// Its own kernel asks for routers as well, and has the guest's MAC.
			if err := w.VM.Sysctl("net/ipv6/conf/eth0/router_solicitations", "0"); err != nil {
				t.Fatal(err)
			}
		}
		to := w.Prestart(t)
		tap, guest := w.Plug(t, to)
		router := w.hasDefault6(t, guest, 1)[0]

		log := w.routerOnPodNetwork(t)
		w.Eventually(t, "is given an address by the other router", func() string {
			return world.Without(w.Output(t, third.Space, "ip -6 address show dev eth0"), "fd00:bad:")
		})
		w.bind6(t, third.Space, "eth0")

		asked := tap.Sent()["RS"]
		w.flap(t, guest, "nic0")
		w.Eventually(t, "solicits again", func() string {
			if n := tap.Sent()["RS"]; n <= asked {
				return fmt.Sprintf("%d RS", n)
			}
			return ""
		})
		w.bind6(t, guest, "nic0")
		if routers := w.hasDefault6(t, guest, 1); routers[0] != router {
			t.Errorf("the guest's router is %v, and was %s", routers, router)
		}
		w.Reaches(t, guest, pod.Outside6)
		for name, space := range map[string]*pod.Space{"the guest": guest, "the pod": w.VM.Space} {
			if out := w.Output(t, space, "ip -6 address show"); strings.Contains(out, "fd00:bad:") {
				t.Errorf("%s has an address of the other router's prefix:\n%s", name, out)
			}
		}
		// Nor while nobody answers it.
		w.KillServer(t)
		asked = tap.Sent()["RS"]
		w.flap(t, guest, "nic0")
		w.LinkLocal(t, guest, "nic0")
		c, err := client.Udhcpc6(guest, w.Dir, "nic0", "-n", "-t", "2")
		if event := w.Wait(t, world.Running(t, c, err), "leasefail", "bound"); event.Reason != "leasefail" || tap.Sent()["RS"] == asked {
			t.Errorf("without a server: %s %s, %v", event.Reason, event.Told["ipv6"], tap.Sent())
		}
		if routers := w.defaults6(t, guest); len(routers) != 0 {
			t.Errorf("without a server the guest's routers are %v", routers)
		}
		if !strings.Contains(log(), thirdMAC) {
			t.Errorf("the router on the pod's network did not even hear the third host:\n%s", log())
		}
		if strings.Contains(log(), to.MAC) {
			t.Errorf("the router on the pod's network heard the guest:\n%s", log())
		}
	})
}

// TestPodNetworkNeverGetsAdvertisements asks for routers and for a lease of DHCPv6 from
// another host of the L2, while podwire advertises to its guest.
func TestPodNetworkNeverGetsAdvertisements(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
		tap, guest := w.Plug(t, w.Prestart(t))
		w.hasDefault6(t, guest, 1)
		w.bind6(t, guest, "nic0")

		const sent, got = "Icmp6OutRouterSolicits", "Icmp6InRouterAdvertisements"
		asked, told := w.counter6(t, w.Other.Space, "eth0", sent), tap.Counts6()["RA"]
		w.flap(t, w.Other.Space, "eth0")
		w.LinkLocal(t, w.Other.Space, "eth0")
		c, err := client.Udhcpc6(w.Other.Space, w.Dir, "eth0", "-n", "-t", "2")
		event := w.Wait(t, world.Running(t, c, err), "leasefail", "bound")
		if event.Reason != "leasefail" {
			t.Errorf("another host was given %s", event.Told["ipv6"])
		}
		w.Eventually(t, "solicits routers", func() string {
			if n := w.counter6(t, w.Other.Space, "eth0", sent); n <= asked {
				return fmt.Sprintf("%d solicitations", n)
			}
			return ""
		})
		// A change of the lease has podwire speak to all of its guests at once.
		w.Podwire(t, "setup", "--dns", "fd00:10:96::b")
		w.Eventually(t, "is told of the change", func() string {
			if n := tap.Counts6()["RA"]; n <= told {
				return fmt.Sprintf("%d RA", n)
			}
			return ""
		})
		if n := w.counter6(t, w.Other.Space, "eth0", got); n != 0 {
			t.Errorf("another host heard %d router advertisements", n)
		}
	})
}

// TestIPv6OnlyPodHasNoIPv4 has a guest ask for an IPv4 address that its pod has not
// got, while somebody on the pod's L2 would give it one.
func TestIPv6OnlyPodHasNoIPv4(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.IPv6Bridge, "nameserver fd00:10:96::a\n", time.Minute).with(b)
		to := w.Prestart(t)
		tap, guest := w.Plug(t, to)
		if err := w.Other.IP(w.Ctx, "address add 10.244.1.9/24 dev eth0"); err != nil {
			t.Fatal(err)
		}
		log := w.serverOnPodNetwork(t)
		c, err := client.Udhcpc(guest, w.Dir, "nic0", "-n", "-t", "2")
		event := w.Wait(t, world.Running(t, c, err), "leasefail", "bound")
		if event.Reason != "leasefail" || tap.Counts()["OFFER"] != 0 {
			t.Errorf("a guest of a pod without IPv4 was given %s by %s", event.Told["ip"], event.Told["serverid"])
		}
		if strings.Contains(log(), to.MAC) {
			t.Errorf("the server on the pod's network heard the guest:\n%s", log())
		}
		w.bind6(t, guest, "nic0")
		w.hasDefault6(t, guest, 1)
		w.Reaches(t, guest, world.Addr6(w.Other), pod.Outside6)
	})
}

// TestDuplicateAddressDetectionSucceeds has a node that answers for every address.
func TestDuplicateAddressDetectionSucceeds(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.DualCilium, world.ResolvConf6, time.Minute).with(b)
		tap, guest := w.Plug(t, w.Prestart(t))
		w.bind6(t, guest, "nic0")
		w.Eventually(t, "is done with its addresses", func() string {
			out := w.Output(t, guest, "ip -6 address show dev nic0 -tentative")
			return world.Without(out, " "+w.GuestAddr6().String()+"/")
		})
		if out := w.Output(t, guest, "ip -6 address show dev nic0"); strings.Contains(out, "dadfailed") {
			t.Errorf("an address of the guest was taken for a duplicate:\n%s", out)
		}
		if tap.Sent()["NS"] < 2 {
			t.Errorf("the guest did not look for duplicates: it sent %v", tap.Sent())
		}
		w.Reaches(t, guest, world.Addr6(w.Other), pod.Outside6)

		// Another pod's, which nobody shields, is.
		if err := w.Other.Sysctl("net/ipv6/conf/eth0/accept_dad", "1"); err != nil {
			t.Fatal(err)
		}
		if err := w.Other.IP(w.Ctx, "address add fd00:10:244:1::77/128 dev eth0"); err != nil {
			t.Fatal(err)
		}
		w.Eventually(t, "is a duplicate", func() string {
			return world.Without(w.Output(t, w.Other.Space, "ip -6 address show dev eth0"), "dadfailed")
		})
	})
}
