package pod

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var subnet = netip.MustParsePrefix("10.244.1.0/24")

func newNode(t *testing.T) (context.Context, *Node) {
	t.Helper()
	ctx, _, n := NewTestNode(t, 30*time.Second)
	return ctx, n
}

var subnet6 = netip.MustParsePrefix("fd00:10:244:1::/64")

// shapes are the ways in which a CNI plugin gives a pod its network, of both families.
var shapes = map[string]func(context.Context, *Node, string) (*Pod, error){
	"bridge": func(ctx context.Context, n *Node, name string) (*Pod, error) {
		return n.NewPod(ctx, name, BridgeNetwork(subnet, 1450).And(subnet6))
	},
	"ptp": func(ctx context.Context, n *Node, name string) (*Pod, error) {
		return n.NewPod(ctx, name, PTPNetwork(subnet, 1450).And(subnet6))
	},
	"calico":         shaped(Calico),
	"aws":            shaped(AWS),
	"cilium":         shaped(Cilium),
	"cilium on-link": shaped(CiliumOnLink),
	"ovn": func(ctx context.Context, n *Node, name string) (*Pod, error) {
		if len(n.pods) == 0 {
			if err := n.AddOVNSwitch(ctx); err != nil {
				return nil, err
			}
		}
		return shaped(OVN)(ctx, n, name)
	},
}

func shaped(shape Shape) func(context.Context, *Node, string) (*Pod, error) {
	return func(ctx context.Context, n *Node, name string) (*Pod, error) {
		host := byte(10 + len(n.pods))
		v6 := subnet6.Addr().As16()
		v6[15] = host
		return n.NewShapedPod(ctx, name, shape, []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 1, host}), netip.AddrFrom16(v6)}, 1450)
	}
}

func TestPodReachesGatewayPodAndOutside(t *testing.T) {
	for shape, newPod := range shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			ctx, n := newNode(t)
			p, err := newPod(ctx, n, "vm-0")
			if err != nil {
				t.Fatal(err)
			}
			other, err := newPod(ctx, n, "web-0")
			if err != nil {
				t.Fatal(err)
			}
			routed := []netip.Addr{netip.MustParseAddr("10.244.2.9"), netip.MustParseAddr("fd00:10:244:2::9")}
			if _, err := n.NewRoutedPod(ctx, "far-0", routed...); err != nil {
				t.Fatal(err)
			}
			targets := append(routed, other.Addrs[0].Addr(), other.Addrs[1].Addr(), Outside, Outside6)
			for _, gateway := range p.Gateways {
				if !gateway.IsLinkLocalUnicast() { // which no link has, or which takes the name of one
					targets = append(targets, gateway)
				}
			}
			for _, target := range targets {
				if err := p.Ping(ctx, target); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestAWSGatewayAnswersNobody: a pod without the permanent neighbours is cut off.
func TestAWSGatewayAnswersNobody(t *testing.T) {
	t.Parallel()
	ctx, n := newNode(t)
	p, err := shaped(AWS)(ctx, n, "vm-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, gateway := range p.Gateways {
		target := OfFamily(gateway, Outside, Outside6)
		if err := p.Ping(ctx, target); err != nil {
			t.Error(err)
		}
		if err := p.IP(ctx, "neighbour del %s dev eth0", gateway); err != nil {
			t.Fatal(err)
		}
		if err := p.Ping(ctx, target); err == nil {
			t.Errorf("%s is reached though nothing says who %s is", target, gateway)
		}
	}
}

// TestOVNTakesNoOtherSource: neither another address nor another MAC leaves the pod.
func TestOVNTakesNoOtherSource(t *testing.T) {
	t.Parallel()
	ctx, n := newNode(t)
	p, err := shapes["ovn"](ctx, n, "vm-0")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := p.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, spoil := range [][2]string{
		{"address add 10.244.1.250/32 dev eth0", "address del 10.244.1.250/32 dev eth0"},
		{"address add fd00:10:244:1::250/128 dev eth0 nodad", "address del fd00:10:244:1::250/128 dev eth0"},
	} {
		if err := p.IP(ctx, "%s", spoil[0]); err != nil {
			t.Fatal(err)
		}
		source := netip.MustParsePrefix(strings.Fields(spoil[0])[2]).Addr()
		if err := p.IP(ctx, "route replace %s dev eth0 via %s src %s", OfFamily(source, Outside, Outside6),
			OfFamily(source, p.Gateways[0], p.Gateways[1]), source); err != nil {
			t.Fatal(err)
		}
		if err := p.Ping(ctx, OfFamily(source, Outside, Outside6)); err == nil {
			t.Errorf("a packet from %s left the pod", source)
		}
		if err := p.IP(ctx, "%s", spoil[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, each := range []struct {
		mac     string
		reaches bool
	}{{"02:00:00:00:00:99", false}, {mac, true}} {
		if err := p.IP(ctx, "link set eth0 address %s", each.mac); err != nil {
			t.Fatal(err)
		}
		for _, gateway := range p.Gateways {
			if err := p.Ping(ctx, gateway); (err == nil) != each.reaches {
				t.Errorf("with the MAC %s, %s: %v", each.mac, gateway, err)
			}
		}
	}
}

func TestPodHasItsOwnNameAndResolvConf(t *testing.T) {
	ctx, n := newNode(t)
	p, err := n.NewPod(ctx, "vm-0", BridgeNetwork(subnet, 1450))
	if err != nil {
		t.Fatal(err)
	}
	const content = "nameserver 10.96.0.10\n"
	if err := p.SetResolvConf(content); err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(ctx, "sh", "-c", "hostname; cat /etc/resolv.conf")
	if want := "vm-0\n" + content; err != nil || out != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	if mine, err := os.ReadFile("/etc/resolv.conf"); err == nil && string(mine) == content {
		t.Error("the machine's own resolv.conf was changed")
	}
}

func TestCloseEndsAllProcesses(t *testing.T) {
	ctx, n := newNode(t)
	marker := fmt.Sprintf("%d", 4000000+os.Getpid())
	sleep := exec.CommandContext(ctx, "sleep", marker)
	if err := n.Start(sleep); err != nil {
		t.Fatal(err)
	}
	// Start returns once the old program is gone, which is a moment before the kernel
	// shows the arguments of the new one.
	for !running(t, marker) {
		if ctx.Err() != nil {
			t.Fatal("the process did not start")
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- sleep.Wait() }()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the process ended by itself")
	}
	if running(t, marker) {
		t.Error("a process survived the node")
	}
}

func running(t *testing.T, marker string) bool {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range entries {
		line, _ := os.ReadFile("/proc/" + each.Name() + "/cmdline")
		if strings.HasPrefix(string(line), "sleep\x00"+marker) {
			return true
		}
	}
	return false
}

func TestDumpTellsAnAddedAddress(t *testing.T) {
	ctx, n := newNode(t)
	p, err := n.NewPod(ctx, "vm-0", BridgeNetwork(subnet, 1450))
	if err != nil {
		t.Fatal(err)
	}
	dump := func() string {
		t.Helper()
		lines, err := p.Settled(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	before := dump()
	if err := p.IP(ctx, "address add 192.0.2.1/32 dev eth0"); err != nil {
		t.Fatal(err)
	}
	if dump() == before {
		t.Error("the dump does not tell")
	}
	if err := p.IP(ctx, "address del 192.0.2.1/32 dev eth0"); err != nil {
		t.Fatal(err)
	}
	if diff := dump(); diff != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, diff)
	}
}

func TestDetachTakesTheInterfaceAway(t *testing.T) {
	ctx, n := newNode(t)
	for name, network := range map[string]Network{"a-0": BridgeNetwork(subnet, 1450), "b-0": PTPNetwork(subnet, 1450)} {
		p, err := n.NewPod(ctx, name, network)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Detach(ctx, "eth0"); err != nil {
			t.Error(err)
		}
		if err := p.IP(ctx, "link show dev eth0"); err == nil {
			t.Errorf("%s still has its eth0", network["type"])
		}
	}
}

// TestPluginThatFailsSaysWhy asks for a second address for one interface.
func TestPluginThatFailsSaysWhy(t *testing.T) {
	ctx, n := newNode(t)
	p, err := n.NewPod(ctx, "vm-0", PTPNetwork(subnet, 1450))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = p.Attach(ctx, "eth0", PTPNetwork(subnet, 1450))
	if err == nil || !strings.Contains(err.Error(), "duplicate allocation") {
		t.Errorf("got %v", err)
	}
}
