package local

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

var (
	subnet  = netip.MustParsePrefix("10.244.1.0/24")
	subnet6 = netip.MustParsePrefix("fd00:10:244:1::/64")
)

const (
	podMTU      = 1450
	resolvConf  = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
	resolvConf6 = "search default.svc.cluster.local\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n"
)

// world is a node with a pod for the VM and another pod on the same network.
type world struct {
	ctx     context.Context
	dir     checkout.Dir
	binding pod.Binding
	node    *pod.Node
	vm      *pod.Pod
	other   *pod.Pod
}

// onEach runs a test with each binding, as a subtest.
func onEach(t *testing.T, test func(t *testing.T, b pod.Binding)) {
	t.Helper()
	for _, b := range pod.Bindings {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// onEachShape runs a test with each binding in each shape of pod network.
func onEachShape(t *testing.T, test func(t *testing.T, b pod.Binding, shape string)) {
	t.Helper()
	for shape := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b pod.Binding) { test(t, b, shape) })
		})
	}
}

// shape makes a pod on a node, given its name and a number that no other has.
type shape func(ctx context.Context, n *pod.Node, name string, host byte) (*pod.Pod, error)

// shapes are the ways in which a CNI plugin gives a pod its network.
var shapes = map[string]shape{
	"bridge": func(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
		return n.NewPod(ctx, name, pod.BridgeNetwork(subnet, podMTU))
	},
	"ptp": func(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
		return n.NewPod(ctx, name, pod.PTPNetwork(subnet, podMTU))
	},
	"calico": func(ctx context.Context, n *pod.Node, name string, host byte) (*pod.Pod, error) {
		return n.NewCalicoPod(ctx, name, netip.AddrFrom4([4]byte{10, 244, 1, host}), podMTU)
	},
}

// newWorld makes the world, whose binding is bridge, and has the test end within the given
// time.
func newWorld(t *testing.T, name string, limit time.Duration) *world {
	t.Helper()
	return newWorldOf(t, shapes[name], resolvConf, limit)
}

func newWorldOf(t *testing.T, newPod shape, resolvConf string, limit time.Duration) *world {
	t.Helper()
	w := &world{binding: pod.Bridge}
	var err error
	w.ctx, w.dir, w.node = pod.NewTestNode(t, limit)
	if w.vm, err = newPod(w.ctx, w.node, "vm-0", 10); err != nil {
		t.Fatal(err)
	}
	if w.other, err = newPod(w.ctx, w.node, "web-0", 11); err != nil {
		t.Fatal(err)
	}
	if err := w.vm.SetResolvConf(resolvConf); err != nil {
		t.Fatal(err)
	}
	return w
}

// with has podwire use a binding.
func (w *world) with(b pod.Binding) *world {
	w.binding = b
	w.vm.Bind(b)
	return w
}

// guestAddr and guestGateway are the guest's of IPv4, and guestAddr6 is its address of
// IPv6, in a pod with one of each.
func (w *world) guestAddr() netip.Addr    { return w.binding.Guest(w.vm.Addr).Addr() }
func (w *world) guestGateway() netip.Addr { return w.binding.Gateway(w.vm.Gateway) }
func (w *world) guestAddr6() netip.Addr {
	own := addr6(w.vm)
	return w.binding.Guest(netip.PrefixFrom(own, own.BitLen())).Addr()
}

// afresh gives the clean-up of a test a context: the test's own has ended.
func (w *world) afresh(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), 10*time.Second)
	t.Cleanup(cancel)
	w.ctx = ctx
}

// reachable are the addresses that the pod reaches, and so its guest must.
func (w *world) reachable() []netip.Addr {
	addrs := []netip.Addr{w.other.Addr.Addr(), pod.Outside}
	if !w.vm.Gateway.IsLinkLocalUnicast() { // which no link has: it answers ARP and nothing else
		addrs = append(addrs, w.vm.Gateway)
	}
	return addrs
}

// podwire runs podwire in the VM's pod and returns what it printed.
func (w *world) podwire(t *testing.T, args ...string) string {
	t.Helper()
	program, err := w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.vm.Run(w.ctx, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wired is what podwire's setup prints, in so far as the tests want it.
type wired struct {
	Pod string `json:"podInterface"`
	Tap string `json:"tap"`
	MAC string `json:"mac"`
	MTU int    `json:"mtu"`
}

// prestart wires the pod's one interface and serves it. At the end of the test the
// network is given back, and must be what it was.
func (w *world) prestart(t *testing.T, args ...string) wired {
	t.Helper()
	all := w.prestartAll(t, args...)
	if len(all) != 1 {
		t.Fatalf("podwire prestart wired %v, want one interface", all)
	}
	return all[0]
}

// prestartAll is prestart for any number of interfaces.
func (w *world) prestartAll(t *testing.T, args ...string) []wired {
	t.Helper()
	before := w.settled(t)
	all := w.wire(t, args...)
	t.Cleanup(func() {
		w.afresh(t)
		w.podwire(t, "teardown")
		if diff := cmp.Diff(before, w.settled(t)); diff != "" {
			t.Errorf("the pod's network after teardown (-before +after):\n%s", diff)
		}
	})
	return all
}

// wire is prestartAll without the end.
func (w *world) wire(t *testing.T, args ...string) []wired {
	t.Helper()
	var result struct{ Interfaces []wired }
	out := w.podwire(t, append([]string{"prestart", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("podwire prestart printed %q: %v", out, err)
	}
	return result.Interfaces
}

// settled is the pod's network at rest, by sorted lines.
func (w *world) settled(t *testing.T) []string {
	t.Helper()
	lines, err := w.vm.Settled(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// plug opens the tap for a DHCP client, which gets a link "nic0" in a namespace
// of its own.
func (w *world) plug(t *testing.T, to wired) (*wire.Wire, *pod.Space) {
	t.Helper()
	guest := w.newGuest(t)
	return w.plugInto(t, to, guest, "nic0"), guest
}

// newGuest makes a namespace without links, whose kernel takes all that routers
// advertise: by itself, it would take no route information (RFC 4191).
func (w *world) newGuest(t *testing.T) *pod.Space {
	t.Helper()
	guest, err := pod.NewSpace("guest", w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	if err := guest.Sysctl("net/ipv6/conf/default/accept_ra_rt_info_max_plen", "128"); err != nil {
		t.Fatal(err)
	}
	return guest
}

// plugInto opens a tap for a link of a guest.
func (w *world) plugInto(t *testing.T, to wired, guest *pod.Space, link string) *wire.Wire {
	t.Helper()
	tap, err := wire.Connect(w.ctx, w.vm.Space, to.Tap, guest, link, to.MAC, to.MTU)
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

// serverOnPodNetwork starts a DHCP server in the other pod, which would give any
// guest that it hears an address. It returns what the server has logged so far.
func (w *world) serverOnPodNetwork(t *testing.T) func() string {
	t.Helper()
	return daemon(t, w.other.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--user=root", "--conf-file=/dev/null",
		"--port=0", "--no-ping", "--leasefile-ro", "--dhcp-authoritative", "--interface=eth0", "--dhcp-range=10.244.1.100,10.244.1.200")
}
