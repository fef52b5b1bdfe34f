package matrix

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// mtu is that of a pod behind a tunnel.
const mtu = 1450

// layout is a line of the table.
type layout struct {
	name    string
	kind    string   // of link that the kernel must have
	without []family // in which it does not exist
	reason  string   // of that

	prepare func(*world) error                     // of the node
	pod     func(*world, string) (*pod.Pod, error) // makes a pod
	odd     func(*world) error                     // what the VM's pod has besides
	ifname  string                                 // of the pod's interface, if not eth0
	mute    bool                                   // the gateway answers nothing

	alone       bool          // each family is tried alone with every binding
	client      starter       // systemd-networkd, if none is given
	refused     string        // what podwire says when it refuses
	refusedBy   []pod.Binding // when
	warns       string        // what podwire warns of where the guest has the pod's place
	guests      []family      // in which a guest of libvirt's runs as well, on bridge
	guestsOfAll bool          // also on the other bindings, in both families
}

// layouts are the lines of the table: those of CNI plugins first.
var layouts = []layout{
	{name: "bridge", pod: plugin(pod.BridgeNetwork), alone: true, guests: []family{ipv6}},
	{name: "ptp (kindnet)", pod: plugin(pod.PTPNetwork), alone: true, guests: []family{dual}, guestsOfAll: true},
	{name: "flannel", prepare: addFlannel, pod: flannel},
	{name: "Calico", pod: shaped(pod.Calico), alone: true, guests: []family{dual}, guestsOfAll: true},
	{name: "Cilium", pod: shaped(pod.Cilium), guests: []family{dual}},
	{name: "Cilium, GKE: on-link default", pod: shaped(pod.CiliumOnLink)},
	{
		name: "AWS VPC CNI", pod: shaped(pod.AWS), mute: true, guests: []family{ipv4, ipv6},
		without: []family{dual}, reason: "its pods have addresses of one family",
	},
	{name: "OVN-Kubernetes", prepare: addSwitch, pod: shaped(pod.OVN), guests: []family{ipv4}},
	{
		name: "macvlan", kind: "macvlan", prepare: outsideRoutes, pod: slave("macvlan"),
		refused: "macvlan", refusedBy: []pod.Binding{pod.Bridge},
	},
	{
		name: "ipvlan", kind: "ipvlan", prepare: outsideRoutes, pod: slave("ipvlan"),
		refused: "ipvlan", refusedBy: []pod.Binding{pod.Bridge, pod.TC},
	},

	{name: "gateway outside the prefix", pod: plugin(bare), odd: farGateway},
	{
		name: "IPv4 default via inet6", pod: plugin(bare), odd: viaInet6,
		without: []family{ipv6}, reason: "it is about IPv4",
	},
	{name: "multipath default", pod: plugin(pod.BridgeNetwork), odd: multipath, warns: "multipath"},
	{name: "policy rule", pod: plugin(pod.BridgeNetwork), odd: policyRule, warns: "lookup 100"},
	{
		// systemd-networkd takes no link whose MTU is below 604 for one that DHCP works on.
		name: "MTU 576", pod: pluginOf(pod.BridgeNetwork, 576), client: udhcpc,
		without: []family{ipv6, dual}, reason: "IPv6 needs 1280 (RFC 8200 §5)",
	},
	{name: "MTU 65535", pod: pluginOf(pod.BridgeNetwork, 65535)},
	{name: "net1 in place of eth0", pod: onNet1, ifname: "net1"},
	{
		name: "pod with disable_ipv6=1", pod: withoutIPv6,
		without: []family{ipv6, dual}, reason: "it has no IPv6",
	},
}

// plugin makes pods with a CNI plugin.
func plugin(network func(netip.Prefix, int) pod.Network) func(*world, string) (*pod.Pod, error) {
	return pluginOf(network, mtu)
}

func pluginOf(network func(netip.Prefix, int) pod.Network, mtu int) func(*world, string) (*pod.Pod, error) {
	return func(w *world, name string) (*pod.Pod, error) {
		return w.node.NewPod(w.ctx, name, w.network(network, mtu))
	}
}

// bare is a bridge that is nobody's default gateway.
func bare(subnet netip.Prefix, mtu int) pod.Network {
	return pod.BridgeNetwork(subnet, mtu).With("isDefaultGateway", false)
}

// shaped makes pods by hand.
func shaped(shape pod.Shape) func(*world, string) (*pod.Pod, error) {
	return func(w *world, name string) (*pod.Pod, error) {
		host := byte(10)
		if w.vm != nil {
			host = 11
		}
		return w.node.NewShapedPod(w.ctx, name, shape, w.addrs(host), mtu)
	}
}

// slave makes pods that share the node's link to the outside.
func slave(kind string) func(*world, string) (*pod.Pod, error) {
	return pluginOf(func(subnet netip.Prefix, _ int) pod.Network { return pod.SlaveNetwork(kind, "out0", subnet) }, 0)
}

// outsideRoutes has the host on the other end of that link be the pods' gateway: a node
// does not hear those that share its link.
func outsideRoutes(w *world) error {
	w.router = w.node.OutsideHost()
	var errs []error
	for _, gateway := range w.only(subnet4.Addr().Next(), subnet6.Addr().Next()) {
		errs = append(errs, w.router.IP(w.ctx, "address add %s/%d dev eth0", gateway, pod.OfFamily(gateway, subnet4, subnet6).Bits()))
	}
	return errors.Join(errs...)
}

func addSwitch(w *world) error { return w.node.AddOVNSwitch(w.ctx) }

// addFlannel builds the plugin, which distributions do not have, and writes what the
// daemon would.
func addFlannel(w *world) error {
	if err := buildFlannel(w.dir); err != nil {
		return err
	}
	var env strings.Builder
	if w.family != ipv6 {
		env.WriteString("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n")
	}
	if w.family != ipv4 {
		env.WriteString("FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\n")
	}
	fmt.Fprintf(&env, "FLANNEL_MTU=%d\nFLANNEL_IPMASQ=true\n", mtu)
	return w.node.WriteFile("/run/flannel/subnet.env", []byte(env.String()), 0o644)
}

// buildFlannel builds it from the module that the clusters have it from, once.
var buildFlannel = func() func(checkout.Dir) error {
	var once sync.Once
	var failed error
	return func(dir checkout.Dir) error {
		once.Do(func() {
			cmd := exec.Command(string(dir)+"/hack/go.sh", "build", "-trimpath", "-o", dir.Build("cni")+"/",
				"github.com/containernetworking/plugins/plugins/meta/flannel")
			cmd.Dir = string(dir) + "/hack/kind/plugins"
			if out, err := cmd.CombinedOutput(); err != nil {
				failed = fmt.Errorf("building the flannel plugin: %w\n%s", err, out)
			}
		})
		return failed
	}
}()

// flannel makes a pod with flannel's own configuration.
func flannel(w *world, name string) (*pod.Pod, error) {
	return w.node.NewPod(w.ctx, name, pod.Network{
		"cniVersion": "0.4.0", "name": "cbr0", "type": "flannel", "dataDir": "/run/cni/flannel",
		"delegate": map[string]any{"hairpinMode": true, "isDefaultGateway": true},
		"ipam":     map[string]any{"dataDir": "/run/cni/ipam"},
	})
}

// farGateway is a gateway that is on no network of the pod's.
func farGateway(w *world) error {
	w.vm.Gateways = w.only(netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("fd00:77::1"))
	return w.each(func(i int, _ netip.Addr) error {
		gateway := w.vm.Gateways[i]
		return errors.Join(
			w.node.IP(w.ctx, "address add %s dev cni0", netip.PrefixFrom(gateway, gateway.BitLen())),
			w.vm.IP(w.ctx, "route add %s dev eth0", gateway),
			w.vm.IP(w.ctx, "route add default via %s dev eth0", gateway),
			w.other.IP(w.ctx, "route add default via %s dev eth0", w.other.Gateways[i]),
		)
	})
}

// viaInet6 is a gateway with an IPv6 address alone, for both families (RFC 5549).
func viaInet6(w *world) error {
	return errors.Join(
		w.node.IP(w.ctx, "address add fe80::1/64 dev cni0 nodad"),
		w.each(func(i int, own netip.Addr) error {
			return errors.Join(
				w.vm.IP(w.ctx, "%s route add default via inet6 fe80::1 dev eth0", pod.OfFamily(own, "-4", "-6")),
				w.other.IP(w.ctx, "route add default via %s dev eth0", w.other.Gateways[i]),
			)
		}),
	)
}

// multipath is a default route with two gateways, the second of which is better.
func multipath(w *world) error {
	return w.each(func(i int, own netip.Addr) error {
		second := pod.OfFamily(own, "10.244.1.251/24", "fd00:10:244:1::251/64")
		addr, _, _ := strings.Cut(second, "/")
		return errors.Join(
			w.node.IP(w.ctx, "address add %s dev cni0", second),
			w.vm.IP(w.ctx, "%s route del default", pod.OfFamily(own, "-4", "-6")),
			w.vm.IP(w.ctx, "%s route add default nexthop via %s dev eth0 weight 1 nexthop via %s dev eth0 weight 5",
				pod.OfFamily(own, "-4", "-6"), w.vm.Gateways[i], addr),
		)
	})
}

// policyRule is a table of the pod's own for what it sends.
func policyRule(w *world) error {
	return w.each(func(i int, own netip.Addr) error {
		return errors.Join(
			w.vm.IP(w.ctx, "%s rule add from %s lookup 100", pod.OfFamily(own, "-4", "-6"), own),
			w.vm.IP(w.ctx, "route add default via %s dev eth0 table 100", w.vm.Gateways[i]),
		)
	})
}

func onNet1(w *world, name string) (*pod.Pod, error) {
	return w.node.NewPodOn(w.ctx, name, "net1", w.network(pod.BridgeNetwork, mtu), nil)
}

// withoutIPv6 makes a pod as in a cluster that has switched IPv6 off.
func withoutIPv6(w *world, name string) (*pod.Pod, error) {
	return w.node.NewPodOn(w.ctx, name, "eth0", w.network(pod.BridgeNetwork, mtu), func(p *pod.Pod) error {
		return errors.Join(
			p.Sysctl("net/ipv6/conf/all/disable_ipv6", "1"),
			p.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"),
		)
	})
}
