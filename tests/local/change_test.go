package local

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// TestServerThatDiedIsReplaced kills the server under a running guest, and starts it
// again: the guest notices nothing, and goes on with its lease. dhclient waits for ten
// seconds between two RENEWs (REN_TIMEOUT, RFC 8415 §7.6), also where it could rebind
// before: the lease must not run out meanwhile.
func TestServerThatDiedIsReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		lease string
		lose  func(kind string, frame []byte) bool
	}{
		"RENEW":  {"20s", nil},
		"REBIND": {"26s", func(kind string, _ []byte) bool { return kind == "RENEW" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
				tap, guest := w.Plug(t, w.Prestart(t, "--lease-time", test.lease))
				tap.Lose(test.lose)
				c := w.bind6(t, guest, "nic0")
				routers := w.hasDefault6(t, guest, 1)
				w.Reaches(t, guest, pod.Outside6)
				has := w.Output(t, guest, "ip -6 address show dev nic0 scope global -tentative")

				w.KillServer(t)
				w.Reaches(t, guest, pod.Outside6)
				w.Serve(t)
				w.Wait(t, c, name+"6")
				if n := tap.Counts6()["SOLICIT"]; n != 1 {
					t.Errorf("the lease was lost: the guest sent %d SOLICITs\n%s", n, c.Log())
				}
				if now := w.defaults6(t, guest); !slices.Equal(now, routers) {
					t.Errorf("the guest's routers are %v, and were %v", now, routers)
				}
				if diff := cmp.Diff(has, w.Output(t, guest, "ip -6 address show dev nic0 scope global -tentative")); diff != "" {
					t.Errorf("the guest's addresses (-before +after):\n%s", diff)
				}
				w.Reaches(t, guest, pod.Outside6)
			})
		})
	}
}

// networkdConf leaves DNS to router advertisements alone.
const networkdConf = `[Match]
Name=nic0
[Network]
DHCP=ipv6
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
[IPv6AcceptRA]
UseDNS=yes
UseDomains=yes
[DHCPv6]
UseDNS=no
UseDomains=no
UseHostname=no
`

// newNetworkdGuest is newGuest, where the kernel leaves all to systemd-networkd.
func (w *testWorld) newNetworkdGuest(t *testing.T) *pod.Space {
	t.Helper()
	guest := w.NewGuest(t)
	if err := guest.Sysctl("net/ipv6/conf/default/accept_ra", "0"); err != nil {
		t.Fatal(err)
	}
	return guest
}

// networkd starts systemd-networkd in a guest, and returns what reads a line of what it
// knows of the link's DNS.
func (w *testWorld) networkd(t *testing.T, guest *pod.Space) (state func(name string) string) {
	t.Helper()
	stop, _, err := client.StartNetworkd(guest, networkdConf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return func(name string) string {
		state, err := client.NetworkdState(w.Ctx, guest, "nic0")
		if err != nil {
			return "" // it has not begun yet
		}
		return state[name]
	}
}

// TestOtherNameserverIsToldAtOnce changes the settings of a running guest: what routers
// advertise, it hears without asking, and what they no longer do is gone.
func TestOtherNameserverIsToldAtOnce(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
		to := w.Prestart(t)
		guest := w.newNetworkdGuest(t)
		tap := w.PlugInto(t, to, guest, "nic0")
		state := w.networkd(t, guest)
		is := func(dns, search string) {
			t.Helper()
			w.Eventually(t, "is told of "+dns, func() string {
				if state("DNS") != dns || state("DOMAINS") != search {
					return fmt.Sprintf("DNS=%s DOMAINS=%s", state("DNS"), state("DOMAINS"))
				}
				return ""
			})
		}
		is("fd00:10:96::a", "default.svc.cluster.local")
		asked := tap.Sent()["RS"]
		w.Podwire(t, "setup", "--dns", "fd00:10:96::b", "--search", "other.example")
		is("fd00:10:96::b", "other.example")
		if n := tap.Sent()["RS"]; n != asked {
			t.Errorf("the guest asked for it: %d RS more", n-asked)
		}
		if text := world.Without(w.Podwire(t, "status"), "fd00:10:96::b"); text != "" {
			t.Error(text)
		}
	})
}

// TestAllIPv6AddressesAreHandedOut: DHCPv4 has room for one, DHCPv6 for all.
func TestAllIPv6AddressesAreHandedOut(t *testing.T) {
	for _, driver := range client.Drivers() {
		if driver.IPv4 || driver.Name != "systemd-networkd" && driver.Name != "dhcpcd" {
			continue
		}
		t.Run(driver.Name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				if b.Behind() {
					return // it has one of its own: see TestAllAddressesAreTheGuests
				}
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
				more := w.addAddresses(t)[1:]
				to := w.Prestart(t)
				if status := w.Status(t)[0]; !strings.Contains(strings.Join(status.Warnings, "\n"), "10.244.1.200") {
					t.Errorf("podwire status does not name the further IPv4 address: %q\n%s", status.Warnings, w.Podwire(t, "status", "-o", "json"))
				}
				guest := w.NewGuest(t)
				if err := driver.Prepare(guest); err != nil {
					t.Fatal(err)
				}
				w.PlugInto(t, to, guest, "nic0")
				if _, err := driver.Run(w.Ctx, client.Guest{Space: guest, Dir: w.Dir, Link: "nic0"}); err != nil {
					t.Fatal(err)
				}
				for _, addr := range append(more, world.Addr6(w.VM)) {
					w.Eventually(t, "has all addresses", func() string {
						return world.Without(w.Output(t, guest, "ip -6 address show dev nic0 -tentative"), " "+addr.String()+"/")
					})
				}
				w.Reaches(t, w.Other.Space, more[0], world.Addr6(w.VM))
			})
		})
	}
}

// addAddresses gives the pod further addresses, of which the last is no neighbour's.
func (w *testWorld) addAddresses(t *testing.T) []netip.Addr {
	t.Helper()
	more := []netip.Prefix{
		netip.MustParsePrefix("10.244.1.200/24"), netip.MustParsePrefix("fd00:10:244:1::77/64"), netip.MustParsePrefix("fd00:77::7/128"),
	}
	var addrs []netip.Addr
	for _, each := range more {
		if err := w.VM.IP(w.Ctx, "address add %s dev eth0%s", each, pod.OfFamily(each.Addr(), "", " nodad")); err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, each.Addr())
	}
	w.LocalRoute(t, addrs[1:]...)
	return addrs
}

// TestAllAddressesAreTheGuests: a guest behind the pod has what comes for any of the pod's
// addresses.
func TestAllAddressesAreTheGuests(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(pod.Masquerade)
	addrs := w.addAddresses(t)[:2]
	_, guest := w.Plug(t, w.Prestart(t))
	w.Wait(t, w.start(t, "udhcpc", guest), "bound")
	w.bind6(t, guest, "nic0")
	w.hasDefault6(t, guest, 1)
	w.listen(t, guest)
	for _, addr := range append(addrs, w.VM.Addr.Addr(), world.Addr6(w.VM)) {
		w.Eventually(t, "is reached at "+addr.String(), func() string {
			conn, err := w.Other.Dial(w.Ctx, "tcp", netip.AddrPortFrom(addr, port).String())
			if err != nil {
				return err.Error()
			}
			conn.Close()
			return ""
		})
	}
}

const port = 8080

// listen has a space take connections, of either family, until the test ends.
func (w *testWorld) listen(t *testing.T, s *pod.Space) {
	t.Helper()
	err := s.Do(func() error {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSeveralRoutersAdvertiseThemselves gives a pod a second default route, which is
// worse, and a further route, by another pod, which routes.
func TestSeveralRoutersAdvertiseThemselves(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
		const behind = "2001:db8:2::9"
		if err := w.Other.IP(w.Ctx, "address add %s/128 dev lo", behind); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"-6 route add default via " + world.Addr6(w.Other).String() + " metric 4096",
			"-6 route add 2001:db8:2::/48 via " + world.Addr6(w.Other).String(),
		} {
			if err := w.VM.IP(w.Ctx, "%s", line); err != nil {
				t.Fatal(err)
			}
		}
		tap, guest := w.Plug(t, w.Prestart(t))
		w.bind6(t, guest, "nic0")
		if b.Behind() { // the pod, its one router, has those
			w.hasDefault6(t, guest, 1)
			w.Reaches(t, guest, pod.Outside6, netip.MustParseAddr(behind))
			return
		}
		routers := w.hasDefault6(t, guest, 2)
		w.Reaches(t, guest, pod.Outside6, netip.MustParseAddr(behind))
		// Which router is whose, their MACs say.
		for i, space := range []struct {
			*pod.Space
			link string
		}{{w.Node.Space, "cni0"}, {w.Other.Space, "eth0"}} {
			mac, err := space.MAC(space.link)
			if err != nil {
				t.Fatal(err)
			}
			w.Reaches(t, guest, netip.MustParseAddr(routers[i]).WithZone("nic0"))
			if text := world.Without(w.Output(t, guest, "ip -6 neighbour show dev nic0 "+routers[i]), mac); text != "" {
				t.Errorf("router number %d is not %s: %s", i+1, space.Name(), text)
			}
		}
		if text := world.Without(w.Output(t, guest, "ip -6 route show 2001:db8:2::/48"), "via "+routers[1]+" "); text != "" {
			t.Error(text)
		}
		// The kernel's two, at the least: one for its link coming up, one for its question.
		if n := tap.Counts6()["RA"]; n < 4 || n%2 != 0 {
			t.Errorf("two routers sent %d advertisements", n)
		}
	})
}
