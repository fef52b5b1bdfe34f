package local

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// ipv4ByIPv6 makes pods of IPv4 alone, whose gateway has none (RFC 5549).
func ipv4ByIPv6(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	p, err := n.NewPod(ctx, name, pod.BridgeNetwork(subnet, podMTU).With("isDefaultGateway", false))
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
// (RFC 4861 §7.3), and goes on five seconds later.
func TestGatewayWithAnotherMACIsFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		pods      shape
		far       netip.Addr
		announces string // the node's setting of that
		within    time.Duration
	}{
		"announced":           {dualBridge, pod.Outside6, "1", 5 * time.Second},
		"silent":              {dualBridge, pod.Outside6, "0", settleTime},
		"announced, for IPv4": {ipv4ByIPv6, pod.Outside, "1", 5 * time.Second},
		"silent, for IPv4":    {ipv4ByIPv6, pod.Outside, "0", settleTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, test.pods, resolvConf6, time.Minute)
			_, guest := w.plug(t, w.prestart(t))
			if test.far.Is6() {
				w.bind6(t, guest, "nic0")
				w.hasDefault6(t, guest, 1)
			} else {
				w.wait(t, w.start(t, "udhcpc", guest), "bound")
			}
			w.reaches(t, guest, test.far)
			gateway, was := w.hop(t, guest, test.far)
			if mac, err := w.node.MAC("cni0"); err != nil || mac != was {
				t.Fatalf("the guest sends to %s, and the gateway's MAC is %s, %v", was, mac, err)
			}

			const is = "02:00:00:00:00:77"
			err := errors.Join(
				guest.IP(w.ctx, "neighbour change %s lladdr %s dev nic0 nud stale", gateway, was),
				w.node.Sysctl("net/ipv6/conf/cni0/ndisc_notify", test.announces),
				w.node.IP(w.ctx, "link set cni0 address %s", is),
			)
			if err != nil {
				t.Fatal(err)
			}
			changed := time.Now()
			w.reaches(t, guest, test.far)
			after := time.Since(changed).Round(time.Millisecond)
			t.Logf("the guest reached the outside again after %s", after)
			if after > test.within {
				t.Errorf("that is more than %s", test.within)
			}
			if now, mac := w.hop(t, guest, test.far); now != gateway || mac != is {
				t.Errorf("the guest sends to %s at %s, want %s at %s", now, mac, gateway, is)
			}
			if counts := w.status(t)[0].Counts; counts["gateway-moved"] != 1 {
				t.Errorf("podwire status counts %v, want one gateway-moved", counts)
			}
		})
	}
}

// hop returns the gateway by which a guest sends to an address, and its MAC.
func (w *world) hop(t *testing.T, guest *pod.Space, to netip.Addr) (gateway, mac string) {
	t.Helper()
	_, after, _ := strings.Cut(w.output(t, guest, "ip route get "+to.String()), " via ")
	gateway, _, _ = strings.Cut(after, " ")
	_, after, _ = strings.Cut(w.output(t, guest, "ip neighbour show dev nic0 to "+gateway), " lladdr ")
	mac, _, _ = strings.Cut(after, " ")
	return gateway, mac
}
