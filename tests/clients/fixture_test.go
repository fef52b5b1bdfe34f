package clients

import (
	"context"
	"encoding/json"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
)

var (
	subnet4 = netip.MustParsePrefix("10.244.1.0/24")
	subnet6 = netip.MustParsePrefix("fd00:244:1::/64")
)

const (
	podMTU     = 1450
	resolvConf = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver fd00:96::a\n"
)

// told4 and told6 are what each client must be told of the pod of newWorld, besides its
// own address and gateway.
var (
	told4 = client.Told{
		client.Routes: "192.0.2.0/24 via 10.244.1.3", client.DNS: "10.96.0.10",
		client.Search: "default.svc.cluster.local svc.cluster.local cluster.local", client.MTU: "1450", client.Hostname: "vm-0",
	}
	told6 = client.Told{
		client.DNS:    "fd00:96::a",
		client.Search: "default.svc.cluster.local svc.cluster.local cluster.local", client.MTU: "1450",
		client.Hostname: "vm-0.default.svc.cluster.local", // DHCPv6 has full names (RFC 4704)
	}
)

// world is a node with a pod for the VM and another on the same network, by which a
// further route goes.
type world struct {
	ctx     context.Context
	dir     checkout.Dir
	binding pod.Binding
	node    *pod.Node
	vm      *pod.Pod
	other   *pod.Pod
}

// newWorld makes the world for a binding, and for a family or both.
func newWorld(t *testing.T, limit time.Duration, b pod.Binding, ipv4, ipv6 bool) *world {
	t.Helper()
	w := &world{binding: b}
	w.ctx, w.dir, w.node = pod.NewTestNode(t, limit)
	network := pod.BridgeNetwork(subnet4, podMTU)
	switch {
	case ipv4 && ipv6:
		network = network.And(subnet6)
	case ipv6:
		network = pod.BridgeNetwork(subnet6, podMTU)
	}
	var err error
	if w.vm, err = w.node.NewPod(w.ctx, "vm-0", network); err != nil {
		t.Fatal(err)
	}
	if w.other, err = w.node.NewPod(w.ctx, "web-0", network); err != nil {
		t.Fatal(err)
	}
	w.vm.Bind(b)
	if err := w.vm.SetResolvConf(resolvConf); err != nil {
		t.Fatal(err)
	}
	for _, each := range []struct {
		is          bool
		option, dst string
		via         string
	}{{ipv4, "-4", "192.0.2.0/24", "10.244.1.3"}, {ipv6, "-6", "2001:db8:2::/48", "fd00:244:1::3"}} {
		if !each.is {
			continue
		}
		if err := w.vm.IP(w.ctx, "%s route add %s via %s dev eth0", each.option, each.dst, each.via); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// wired is what podwire's setup prints, in so far as the tests want it.
type wired struct {
	Tap string `json:"tap"`
	MAC string `json:"mac"`
}

// podwire runs podwire in the VM's pod and returns what it printed.
func (w *world) podwire(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	program, err := w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.vm.Run(ctx, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prestart wires the pod and serves it. At the end of the test the network is given
// back, and must be what it was.
func (w *world) prestart(t *testing.T, args ...string) wired {
	t.Helper()
	before, err := w.vm.Settled(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var result struct{ Interfaces []wired }
	out := w.podwire(w.ctx, t, append([]string{"prestart", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire prestart printed %q: %v", out, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), 10*time.Second)
		defer cancel()
		w.podwire(ctx, t, "teardown")
		after, err := w.vm.Settled(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the pod's network after teardown (-before +after):\n%s", diff)
		}
	})
	return result.Interfaces[0]
}

// plug opens the tap for a guest, whose link "nic0" has Ethernet's own MTU: the
// pod's, which is smaller, is for the client to set.
func (w *world) plug(t *testing.T, to wired, prepare func(*pod.Space) error) (*wire.Wire, client.Guest) {
	t.Helper()
	guest, err := pod.NewSpace("guest", w.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	if err := prepare(guest); err != nil {
		t.Fatal(err)
	}
	tap, err := wire.Connect(w.ctx, w.vm.Space, to.Tap, guest, "nic0", to.MAC, 1500)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	})
	return tap, client.Guest{Space: guest, Dir: w.dir, Link: "nic0"}
}

// serveBootFile starts a TFTP server in the other pod, with iPXE's script.
func (w *world) serveBootFile(t *testing.T) {
	t.Helper()
	if err := w.other.WriteFile("/run/tftp/boot.ipxe", []byte(client.IPXEScript), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", "--conf-file=/dev/null", "--pid-file=",
		"--port=0", "--enable-tftp", "--tftp-root=/run/tftp")
	if err := w.other.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
}
