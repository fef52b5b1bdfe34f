package local

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
)

// resolver is a nameserver that only the pod itself reaches, as the one in a
// container engine's own network.
const resolver = "127.0.0.11"

// startResolver starts it in the VM's pod, and returns when it answers.
func (w *world) startResolver(t *testing.T) {
	t.Helper()
	if err := w.vm.SetResolvConf("search pods.example\nnameserver " + resolver + "\n"); err != nil {
		t.Fatal(err)
	}
	log := daemon(t, w.vm.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", "--conf-file=/dev/null", "--pid-file=",
		"--no-resolv", "--no-hosts", "--bind-interfaces", "--listen-address="+resolver,
		"--host-record=small.pods.example,10.1.2.3,fd00::1:2:3",
		"--txt-record=large.pods.example,"+strings.Join(slices.Repeat([]string{strings.Repeat("x", 250)}, 16), ","))
	for {
		if _, err := w.ask(w.vm.Space, resolver).LookupHost(w.ctx, "small.pods.example"); err == nil {
			return
		}
		select {
		case <-w.ctx.Done():
			t.Fatalf("dnsmasq does not answer\n%s", log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ask asks a nameserver from inside of a space, over UDP, and over TCP where an
// answer is too long.
func (w *world) ask(space *pod.Space, server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return space.Dial(ctx, network, net.JoinHostPort(server, "53"))
	}}
}

// TestNameserverInThePodIsRelayed has a guest ask podwire what only the pod can.
func TestNameserverInThePodIsRelayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "bridge", 30*time.Second)
	w.startResolver(t)
	_, guest := w.plug(t, w.prestart(t, "--dns-forward"))
	event := w.wait(t, w.start(t, "udhcpc", guest), "bound")
	if event.Told["dns"] != "169.254.75.1" {
		t.Fatalf("the guest was told to ask %q", event.Told["dns"])
	}
	asked := w.ask(guest, event.Told["dns"])
	hosts, err := asked.LookupHost(w.ctx, "small.pods.example")
	if err != nil || !slices.Contains(hosts, "10.1.2.3") {
		t.Errorf("over UDP: %v, %v", hosts, err)
	}
	large, err := asked.LookupTXT(w.ctx, "large.pods.example")
	if err != nil || len(strings.Join(large, "")) != 16*250 {
		t.Errorf("over TCP: %d octets, %v", len(strings.Join(large, "")), err)
	}
	w.startListener(t, 5353)
	short, cancel := context.WithTimeout(w.ctx, time.Second) // nobody answers there
	defer cancel()
	if _, err := guest.Dial(short, "tcp", "169.254.75.1:5353"); err == nil {
		t.Error("the guest reaches another port of the pod")
	}
	status := w.podwire(t, "status")
	if !strings.Contains(status, "dns-tcp") || !strings.Contains(status, resolver) {
		t.Errorf("status does not tell of the relay:\n%s", status)
	}
	w.reachesOutside(t, guest)
}

// startListener has something listen in the pod, on all addresses.
func (w *world) startListener(t *testing.T, port int) {
	t.Helper()
	err := w.vm.Do(func() error {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			t.Cleanup(func() { listener.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reachesOutside: what podwire answers itself does not take the rest away.
func (w *world) reachesOutside(t *testing.T, guest *pod.Space) {
	t.Helper()
	for _, target := range []netip.Addr{w.other.Addr.Addr(), pod.Outside} {
		if err := guest.Ping(w.ctx, target); err != nil {
			t.Error(err)
		}
	}
}

// TestNameserverInThePodIsNamed is the same without the relay: the guest is told of
// no nameserver that it could not reach, and whoever wires the pod is told why.
func TestNameserverInThePodIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "bridge", 30*time.Second)
	if err := w.vm.SetResolvConf("nameserver " + resolver + "\nnameserver 10.96.0.10\n"); err != nil {
		t.Fatal(err)
	}
	_, guest := w.plug(t, w.prestart(t))
	c, err := client.Udhcpc(guest, w.dir, "nic0")
	event := w.wait(t, running(t, c, err), "bound")
	if event.Told["dns"] != "10.96.0.10" {
		t.Errorf("the guest was told to ask %q", event.Told["dns"])
	}
	for _, command := range []string{"status", "doctor"} {
		if out := w.podwire(t, command); !strings.Contains(out, resolver+" is inside the pod") || !strings.Contains(out, "--dns-forward") {
			t.Errorf("podwire %s does not say so:\n%s", command, out)
		}
	}
}
