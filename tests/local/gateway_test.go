package local

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// ipv4ByIPv6 makes pods of IPv4 alone, whose gateway has none (RFC 5549).
func ipv4ByIPv6(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	p, err := n.NewPod(ctx, name, pod.BridgeNetwork(world.Subnet, world.PodMTU).With("isDefaultGateway", false))
	if err != nil {
		return nil, err
	}
	return p, errors.Join(
		n.IP(ctx, "address replace fe80::1/64 dev cni0 nodad"),
		p.IP(ctx, "-4 route add default via inet6 fe80::1 dev eth0"),
	)
}

// TestGatewayWithAnotherMACIsFollowed changes a gateway under a running guest, which
// knows it by an address that podwire made up for it. A gateway that says so is followed
// at once; of one that does not, a host asks when it has not heard of it for a while
// (RFC 4861 §7.3), and goes on five seconds later. Where the guest is behind the pod, that
// is the host.
func TestGatewayWithAnotherMACIsFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		pods      world.Shape
		far       netip.Addr
		announces string // the node's setting of that
		within    time.Duration
	}{
		"announced":           {world.DualBridge, pod.Outside6, "1", 5 * time.Second},
		"silent":              {world.DualBridge, pod.Outside6, "0", world.SettleTime},
		"announced, for IPv4": {ipv4ByIPv6, pod.Outside, "1", 5 * time.Second},
		"silent, for IPv4":    {ipv4ByIPv6, pod.Outside, "0", world.SettleTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorldOf(t, test.pods, world.ResolvConf6, time.Minute).with(b)
				_, guest := w.Plug(t, w.Prestart(t))
				if test.far.Is6() {
					w.bind6(t, guest, "nic0")
					w.hasDefault6(t, guest, 1)
				} else {
					w.Wait(t, w.start(t, "udhcpc", guest), "bound")
				}
				w.Reaches(t, guest, test.far)
				host, link, moved := guest, "nic0", uint64(1)
				if b.Behind() {
					host, link, moved = w.VM.Space, "eth0", 0
				}
				gateway, was := w.hop(t, host, link, test.far)
				if mac, err := w.Node.MAC("cni0"); err != nil || mac != was {
					t.Fatalf("it sends to %s, and the gateway's MAC is %s, %v", was, mac, err)
				}

				const is = "02:00:00:00:00:77"
				err := errors.Join(
					host.IP(w.Ctx, "neighbour change %s lladdr %s dev %s nud stale", gateway, was, link),
					w.Node.Sysctl("net/ipv6/conf/cni0/ndisc_notify", test.announces),
					w.Node.IP(w.Ctx, "link set cni0 address %s", is),
				)
				if err != nil {
					t.Fatal(err)
				}
				changed := time.Now()
				w.Reaches(t, guest, test.far)
				after := time.Since(changed).Round(time.Millisecond)
				t.Logf("the guest reached the outside again after %s", after)
				if after > test.within {
					t.Errorf("that is more than %s", test.within)
				}
				if now, mac := w.hop(t, host, link, test.far); now != gateway || mac != is {
					t.Errorf("it sends to %s at %s, want %s at %s", now, mac, gateway, is)
				}
				if counts := w.Status(t)[0].Counts; counts["gateway-moved"] != moved {
					t.Errorf("podwire status counts %v, want gateway-moved %d times", counts, moved)
				}
			})
		})
	}
}

// hop returns the gateway by which a host sends to an address, and its MAC.
func (w *testWorld) hop(t *testing.T, host *pod.Space, link string, to netip.Addr) (gateway, mac string) {
	t.Helper()
	_, after, _ := strings.Cut(w.Output(t, host, "ip route get "+to.String()), " via ")
	gateway, _, _ = strings.Cut(strings.TrimPrefix(after, "inet6 "), " ")
	_, after, _ = strings.Cut(w.Output(t, host, "ip neighbour show dev "+link+" to "+gateway), " lladdr ")
	mac, _, _ = strings.Cut(after, " ")
	return gateway, mac
}

// bareBridge makes pods of both families, whose IPv6 network is nobody's by itself.
func bareBridge(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	p, err := n.NewPod(ctx, name, pod.BridgeNetwork(world.Subnet, world.PodMTU).And(world.Subnet6).With("isDefaultGateway", false))
	if err != nil {
		return nil, err
	}
	return p, p.IP(ctx, "route add default via %s dev eth0", p.Gateway)
}

// TestAdvertisedRouterIsKept has a pod that knows its IPv6 router by advertisements alone:
// its guest reaches what is behind that, and so does the pod afterwards. A kernel that
// begins to forward forgets such routers, unless it is told not to.
func TestAdvertisedRouterIsKept(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorldOf(t, bareBridge, world.ResolvConf6, time.Minute).with(b)
		world.Daemon(t, w.Node.Space, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--user=root", "--conf-file=/dev/null", "--pid-file=",
			"--port=0", "--leasefile-ro", "--interface=cni0", "--enable-ra", "--dhcp-range=fd00:10:244:1::f00,fd00:10:244:1::fff")
		w.hasDefault6(t, w.VM.Space, 1)
		w.Reaches(t, w.VM.Space, pod.Outside6)

		t.Run("guest", func(t *testing.T) { // whose tap is let go of at the end
			_, guest := w.Plug(t, w.Wire(t)[0])
			w.bind6(t, guest, "nic0")
			w.hasDefault6(t, guest, 1)
			w.Reaches(t, guest, pod.Outside6)
			if b.Behind() {
				w.hasDefault6(t, w.VM.Space, 1)
				w.Reaches(t, w.VM.Space, pod.Outside6)
			}
		})

		w.Podwire(t, "teardown")
		w.hasDefault6(t, w.VM.Space, 1)
		w.Reaches(t, w.VM.Space, pod.Outside6)
	})
}
