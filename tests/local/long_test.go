package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// manyRoutes and manyDomains are more than an option of 255 octets holds, and
// together more than a frame of 1500 does.
const (
	manyRoutes  = 200
	manyDomains = 30
	jumbo       = 9000
)

// wireLarge makes a pod with all those routes and domains.
func wireLarge(t *testing.T, b pod.Binding) (w *testWorld, routes, domains []string, to world.Wired) {
	t.Helper()
	w = newWorld(t, "bridge", 30*time.Second)
	large, err := w.Node.NewPod(w.Ctx, "large-0", pod.BridgeNetwork(world.Subnet, jumbo))
	if err != nil {
		t.Fatal(err)
	}
	w.VM = large
	w.with(b)
	for i := range manyRoutes {
		routes = append(routes, fmt.Sprintf("172.20.%d.0/24", i))
		if err := w.VM.IP(w.Ctx, "route add %s via %s", routes[i], w.VM.Gateway); err != nil {
			t.Fatal(err)
		}
	}
	for i := range manyDomains {
		domains = append(domains, fmt.Sprintf("team-%d.svc.cluster.example", i))
	}
	if err := w.VM.SetResolvConf("nameserver 10.96.0.10\nsearch " + strings.Join(domains, " ") + "\n"); err != nil {
		t.Fatal(err)
	}
	return w, routes, domains, w.Prestart(t)
}

// TestLongOptionsArrive: all of it reaches a client that asks for it and has
// room (RFC 3396).
func TestLongOptionsArrive(t *testing.T) {
	t.Parallel()
	for _, b := range []pod.Binding{pod.Bridge, pod.TC} { // behind its pod a guest has one route
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			longOptionsArrive(t, b)
		})
	}
}

func longOptionsArrive(t *testing.T, b pod.Binding) {
	t.Helper()
	w, routes, domains, to := wireLarge(t, b)
	tap, guest := w.Plug(t, to)
	told, err := client.Networkd(w.Ctx, guest, "nic0")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(told["CLASSLESS_ROUTES"])
	for _, route := range append(slices.Clone(routes), "0.0.0.0/0") {
		if !slices.Contains(got, route+","+w.VM.Gateway.String()) {
			t.Fatalf("the route %s is missing among %d: %q", route, len(got), got)
		}
	}
	// systemd 252 heeds one piece of the list of names alone; see
	// TestLongSearchListArrives for a client that joins them.
	if got := strings.Fields(told["DOMAIN_SEARCH_LIST"]); !slices.Equal(got, domains[:len(got)]) || len(got) < 20 {
		t.Errorf("search = %q, want %q", got, domains)
	}
	if told["MTU"] != fmt.Sprint(jumbo) {
		t.Errorf("MTU = %s, want %d", told["MTU"], jumbo)
	}
	wantExchange(t, tap, map[string]int{"DISCOVER": 1, "OFFER": 1, "REQUEST": 1, "ACK": 1})
}

// TestLongSearchListArrives: dhclient joins the pieces, and takes frames of 1500
// octets.
func TestLongSearchListArrives(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, "bridge", 30*time.Second).with(b)
		var domains []string
		for i := range manyDomains {
			domains = append(domains, fmt.Sprintf("team-%d.svc.cluster-%d.example.", i, i))
		}
		if err := w.VM.SetResolvConf("nameserver 10.96.0.10\nsearch " + strings.Join(domains, " ") + "\n"); err != nil {
			t.Fatal(err)
		}
		_, guest := w.Plug(t, w.Prestart(t))
		c, err := client.Dhclient(guest, w.Dir, "nic0", "", "send dhcp-max-message-size 1450;\n")
		event := w.Wait(t, world.Running(t, c, err), "BOUND")
		if got := strings.Fields(event.Told["new_domain_search"]); !slices.Equal(got, domains) {
			t.Errorf("search = %q, want %q", got, domains)
		}
	})
}

// TestASmallClientStillGetsALease: udhcpc takes messages of 576 octets.
func TestASmallClientStillGetsALease(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w, _, _, to := wireLarge(t, b)
		tap, guest := w.Plug(t, to)
		event := w.Wait(t, w.start(t, "udhcpc", guest), "bound")
		for key, want := range map[string]string{
			"ip": w.GuestAddr().String(), "router": w.GuestGateway().String(), "dns": "10.96.0.10", "mtu": fmt.Sprint(jumbo),
		} {
			if event.Told[key] != want {
				t.Errorf("%s = %q, want %q", key, event.Told[key], want)
			}
		}
		if !strings.Contains(event.Told["staticroutes"], "0.0.0.0/0 "+w.GuestGateway().String()) {
			t.Errorf("the default route was left out of %q", event.Told["staticroutes"])
		}
		wantExchange(t, tap, map[string]int{"DISCOVER": 1, "OFFER": 1, "REQUEST": 1, "ACK": 1})
		for _, target := range w.Reachable() {
			if err := guest.Ping(w.Ctx, target); err != nil {
				t.Error(err)
			}
		}
	})
}
