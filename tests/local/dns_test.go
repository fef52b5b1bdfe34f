package local

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// resolver is a nameserver that only the pod itself reaches, as the one in a
// container engine's own network.
const resolver = "127.0.0.11"

// startResolver starts one in the VM's pod, and returns when it answers.
func (w *testWorld) startResolver(t *testing.T, addr string) {
	t.Helper()
	if err := w.VM.SetResolvConf("search pods.example\nnameserver " + addr + "\n"); err != nil {
		t.Fatal(err)
	}
	log := world.Daemon(t, w.VM.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", "--conf-file=/dev/null", "--pid-file=",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address="+addr,
		"--host-record=small.pods.example,10.1.2.3,fd00::1:2:3",
		"--txt-record=large.pods.example,"+strings.Join(slices.Repeat([]string{strings.Repeat("x", 250)}, 16), ","))
	for {
		if _, err := w.ask(w.VM.Space, addr).LookupHost(w.Ctx, "small.pods.example"); err == nil {
			return
		}
		select {
		case <-w.Ctx.Done():
			t.Fatalf("dnsmasq does not answer\n%s", log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ask asks a nameserver from inside of a space, over UDP, and over TCP where an
// answer is too long.
func (w *testWorld) ask(space *pod.Space, server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return space.Dial(ctx, network, net.JoinHostPort(server, "53"))
	}}
}

// TestNameserverInThePodIsRelayed has a guest ask podwire what only the pod can. The pod
// may have the guest's addresses itself, or be its router; and it refuses what comes by
// another link than it would answer by.
func TestNameserverInThePodIsRelayed(t *testing.T) {
	t.Parallel()
	for _, binding := range []string{"bridge", "tc", "masquerade"} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, world.DualBridge, world.ResolvConf, time.Minute)
			for _, link := range []string{"all", "default", "eth0"} {
				if err := w.VM.Sysctl("net/ipv4/conf/"+link+"/rp_filter", "1"); err != nil {
					t.Fatal(err)
				}
			}
			w.startResolver(t, resolver)
			_, guest := w.Plug(t, w.Prestart(t, "--dns-forward", "--binding", binding))
			event := w.Wait(t, w.start(t, "udhcpc", guest), "bound")
			if event.Told["dns"] != "169.254.75.1" {
				t.Fatalf("the guest was told to ask %q", event.Told["dns"])
			}
			w.bind6(t, guest, "nic0")
			w.Eventually(t, "may ask from its address", func() string {
				return world.Without(w.Output(t, guest, "ip -6 address show dev nic0 scope global -tentative"), "inet6")
			})
			for _, server := range w.nameservers(t) {
				t.Run(server.String(), func(t *testing.T) { w.asks(t, guest, server) })
			}
			status := w.Podwire(t, "status")
			if !strings.Contains(status, "dns-tcp") || !strings.Contains(status, resolver) {
				t.Errorf("status does not tell of the relay:\n%s", status)
			}
			w.reachesOutside(t, guest)
			w.ignoresNeighbour(t)
		})
	}
}

// TestGuestWithAnotherAddressIsRelayedOn: the server follows the pod's network, and so
// does its relay, without the privileges to make another way.
func TestGuestWithAnotherAddressIsRelayedOn(t *testing.T) {
	t.Parallel()
	for _, binding := range []string{"bridge", "tc"} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, world.DualBridge, world.ResolvConf, time.Minute)
			w.startResolver(t, resolver)
			to := w.Wire(t, "--dns-forward", "--binding", binding)[0]
			t.Cleanup(func() {
				w.Afresh(t)
				w.Podwire(t, "teardown")
			})
			_, guest := w.Plug(t, to)
			c := w.start(t, "udhcpc", guest)
			w.Wait(t, c, "bound")
			relay := netip.MustParseAddr("169.254.75.1")
			w.asks(t, guest, relay)
			for _, line := range []string{
				"address del " + w.VM.Addr.String() + " dev eth0", "address add 10.244.1.77/24 dev eth0",
				"route replace default via " + w.VM.Gateway.String() + " dev eth0",
			} {
				// A pod that is bound by a bridge has given its address away.
				if err := w.VM.IP(w.Ctx, "%s", line); err != nil && !strings.Contains(line, " del ") {
					t.Fatal(err)
				}
			}
			w.Eventually(t, "tells the guest", func() string {
				return world.Without(w.Output(t, w.VM.Space, "cat /run/podwire/serve.log"), "the guest is told")
			})
			if err := c.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			if event := w.Wait(t, c, "bound"); event.Told["ip"] != "10.244.1.77" {
				t.Fatalf("the guest was told the address %q", event.Told["ip"])
			}
			w.asks(t, guest, relay)
			w.Podwire(t, "setup")
			w.asks(t, guest, relay)
		})
	}
}

// ignoresNeighbour: another pod may know the relay's address, and the pod's kernel take
// what it sends there.
func (w *testWorld) ignoresNeighbour(t *testing.T) {
	t.Helper()
	w.Output(t, w.Other.Space, "ip route add 169.254.75.1 dev eth0")
	short, cancel := context.WithTimeout(w.Ctx, time.Second)
	defer cancel()
	if hosts, err := w.ask(w.Other.Space, "169.254.75.1").LookupHost(short, "small.pods.example"); err == nil {
		t.Errorf("the relay answers a neighbour of the pod: %v", hosts)
	}
}

// TestNameserverAtThePodsLocalhostIsRelayed has it at the very address by which those in
// the pod reach a guest that is behind it.
func TestNameserverAtThePodsLocalhostIsRelayed(t *testing.T) {
	t.Parallel()
	for _, binding := range []string{"bridge", "tc", "masquerade"} {
		t.Run(binding, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, world.DualBridge, world.ResolvConf, time.Minute)
			w.startResolver(t, "127.0.0.1")
			_, guest := w.Plug(t, w.Prestart(t, "--dns-forward", "--binding", binding))
			w.Wait(t, w.start(t, "udhcpc", guest), "bound")
			w.asks(t, guest, netip.MustParseAddr("169.254.75.1"))
		})
	}
}

// nameservers are those that the guest is told of, one of each family.
func (w *testWorld) nameservers(t *testing.T) []netip.Addr {
	t.Helper()
	var status struct {
		Interfaces []struct {
			DNS []netip.Addr `json:"dns"`
		} `json:"interfaces"`
	}
	if err := json.Unmarshal([]byte(w.Podwire(t, "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Interfaces) != 1 || len(status.Interfaces[0].DNS) != 2 {
		t.Fatalf("the guest is told of %+v", status)
	}
	return status.Interfaces[0].DNS
}

// asks has a guest ask a relay, which lets it reach nothing else.
func (w *testWorld) asks(t *testing.T, guest *pod.Space, server netip.Addr) {
	asked := w.ask(guest, server.String())
	hosts, err := asked.LookupHost(w.Ctx, "small.pods.example")
	if err != nil || !slices.Contains(hosts, "10.1.2.3") {
		t.Errorf("over UDP: %v, %v", hosts, err)
	}
	large, err := asked.LookupTXT(w.Ctx, "large.pods.example")
	if err != nil || len(strings.Join(large, "")) != 16*250 {
		t.Errorf("over TCP: %d octets, %v", len(strings.Join(large, "")), err)
	}
	port := w.startListener(t)
	short, cancel := context.WithTimeout(w.Ctx, time.Second) // nobody answers there
	defer cancel()
	if _, err := guest.Dial(short, "tcp", netip.AddrPortFrom(server, port).String()); err == nil {
		t.Errorf("the guest reaches port %d of the pod", port)
	}
}

// startListener has something listen in the pod, on all addresses.
func (w *testWorld) startListener(t *testing.T) (port uint16) {
	t.Helper()
	err := w.VM.Do(func() error {
		listener, err := net.Listen("tcp", ":0")
		if err == nil {
			t.Cleanup(func() { listener.Close() })
			port = listener.Addr().(*net.TCPAddr).AddrPort().Port()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// reachesOutside: what podwire answers itself does not take the rest away.
func (w *testWorld) reachesOutside(t *testing.T, guest *pod.Space) {
	t.Helper()
	for _, target := range []netip.Addr{w.Other.Addr.Addr(), pod.Outside} {
		if err := guest.Ping(w.Ctx, target); err != nil {
			t.Error(err)
		}
	}
}

// TestNameserverInThePodIsNamed is the same without the relay: the guest is told of
// no nameserver that it could not reach, and whoever wires the pod is told why.
func TestNameserverInThePodIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "bridge", 30*time.Second)
	if err := w.VM.SetResolvConf("nameserver " + resolver + "\nnameserver 10.96.0.10\n"); err != nil {
		t.Fatal(err)
	}
	_, guest := w.Plug(t, w.Prestart(t))
	c, err := client.Udhcpc(guest, w.Dir, "nic0")
	event := w.Wait(t, world.Running(t, c, err), "bound")
	if event.Told["dns"] != "10.96.0.10" {
		t.Errorf("the guest was told to ask %q", event.Told["dns"])
	}
	for _, command := range []string{"status", "doctor"} {
		if out := w.Podwire(t, command); !strings.Contains(out, resolver+" is inside the pod") || !strings.Contains(out, "--dns-forward") {
			t.Errorf("podwire %s does not say so:\n%s", command, out)
		}
	}
}
