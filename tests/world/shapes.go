package world

import (
	"context"
	"net/netip"

	"github.com/podwire/podwire/tests/pod"
)

// The networks of the pods.
var (
	Subnet  = netip.MustParsePrefix("10.244.1.0/24")
	Subnet6 = netip.MustParsePrefix("fd00:10:244:1::/64")
)

// What the pods have.
const (
	PodMTU      = 1450
	ResolvConf  = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
	ResolvConf6 = "search default.svc.cluster.local\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n"
)

// Shape makes a pod on a node, given its name and a number that no other has.
type Shape func(ctx context.Context, n *pod.Node, name string, host byte) (*pod.Pod, error)

// Shapes are the ways in which a CNI plugin gives a pod its network.
var Shapes = map[string]Shape{
	"bridge": func(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
		return n.NewPod(ctx, name, pod.BridgeNetwork(Subnet, PodMTU))
	},
	"ptp": func(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
		return n.NewPod(ctx, name, pod.PTPNetwork(Subnet, PodMTU))
	},
	"calico": func(ctx context.Context, n *pod.Node, name string, host byte) (*pod.Pod, error) {
		return n.NewCalicoPod(ctx, name, netip.AddrFrom4([4]byte{10, 244, 1, host}), PodMTU)
	},
}

// DualBridge makes pods that have an address of either family, on one L2.
func DualBridge(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	return n.NewPod(ctx, name, pod.BridgeNetwork(Subnet, PodMTU).And(Subnet6))
}

// IPv6Bridge makes pods that have no IPv4.
func IPv6Bridge(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	return n.NewPod(ctx, name, pod.BridgeNetwork(Subnet6, PodMTU))
}

// DualCilium makes pods whose node answers for every address.
func DualCilium(ctx context.Context, n *pod.Node, name string, host byte) (*pod.Pod, error) {
	v4, v6 := Subnet.Addr().As4(), Subnet6.Addr().As16()
	v4[3], v6[15] = host, host
	return n.NewShapedPod(ctx, name, pod.Cilium, []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}, PodMTU)
}

// Addr6 is a pod's first IPv6 address.
func Addr6(p *pod.Pod) netip.Addr {
	for _, each := range p.Addrs {
		if each.Addr().Is6() {
			return each.Addr()
		}
	}
	return netip.Addr{}
}
