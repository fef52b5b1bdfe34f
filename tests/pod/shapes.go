package pod

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// Shape is the layout of a CNI plugin that cannot run here, made by hand: how a pod
// and its node are wired for one address. The facts are from the plugins' sources.
type Shape struct {
	hostMAC string // of the node's end of the link; the kernel's choice if empty
	quiet   bool   // the plugin has no duplicate address detection done
	port    string // the bridge that the node's end is a port of
	wire    func(w *wiring, addr netip.Addr)
}

// NewShapedPod makes a pod of a hand-made shape, with an eth0 that has the addresses.
// Closing the node closes it.
func (n *Node) NewShapedPod(ctx context.Context, name string, shape Shape, addrs []netip.Addr, mtu int) (*Pod, error) {
	return n.handMade(ctx, n.Space, name, shape, addrs, mtu)
}

// NewCalicoPod makes a pod of Calico's shape with one address.
func (n *Node) NewCalicoPod(ctx context.Context, name string, addr netip.Addr, mtu int) (*Pod, error) {
	return n.NewShapedPod(ctx, name, Calico, []netip.Addr{addr}, mtu)
}

// handMade makes a pod of a shape whose other end is in a space that routes.
func (n *Node) handMade(ctx context.Context, router *Space, name string, shape Shape, addrs []netip.Addr, mtu int) (*Pod, error) {
	p, err := n.emptyPod(name)
	if err != nil {
		return nil, err
	}
	w := &wiring{ctx: ctx, node: n, router: router, pod: p, host: fmt.Sprintf("host%d", len(n.pods))}
	w.join(shape, mtu)
	for _, addr := range addrs {
		if shape.wire(w, addr); w.err != nil {
			break
		}
	}
	if w.err != nil {
		return nil, errors.Join(fmt.Errorf("making pod %q: %w", name, w.err), p.Close())
	}
	if len(p.Addrs) > 0 {
		p.Addr = p.Addrs[0]
	}
	if len(p.Gateways) > 0 {
		p.Gateway = p.Gateways[0]
	}
	return p, nil
}

// wiring is a pod that is being wired by hand. After an error it does nothing more.
type wiring struct {
	ctx    context.Context
	node   *Node
	router *Space // the node, or the host outside
	pod    *Pod
	host   string // the router's end of the link
	err    error
}

// join makes the link between the pod's eth0 and the router.
func (w *wiring) join(shape Shape, mtu int) {
	w.do(func() error { return w.router.Veth(w.ctx, w.host, w.pod.Space, "eth0") })
	if shape.hostMAC != "" {
		w.onNode("link set %s address %s", w.host, shape.hostMAC)
	}
	if shape.quiet {
		w.sysctl("net/ipv6/conf/%s/accept_dad", "0")
		w.do(func() error { return w.pod.Sysctl("net/ipv6/conf/eth0/accept_dad", "0") })
	}
	if shape.port != "" {
		w.onNode("link set %s master %s", w.host, shape.port)
	}
	w.onNode("link set %s mtu %d up", w.host, mtu)
	// Not the kernel's choice, which may be one that libvirt gives no guest (FE).
	w.inPod("link set eth0 address 0a:58:0a:f4:02:%02x mtu %d up", len(w.node.pods), mtu)
}

func (w *wiring) do(step func() error) {
	if w.err == nil {
		w.err = step()
	}
}

func (w *wiring) onNode(format string, args ...any) {
	w.do(func() error { return w.router.IP(w.ctx, format, args...) })
}

func (w *wiring) inPod(format string, args ...any) {
	w.do(func() error { return w.pod.IP(w.ctx, format, args...) })
}

// sysctl sets a file of the router's end of the link.
func (w *wiring) sysctl(format, value string) {
	w.do(func() error { return w.router.Sysctl(fmt.Sprintf(format, w.host), value) })
}

// address gives the pod an address, and notes the gateway if there is one.
func (w *wiring) address(addr netip.Prefix, gateway string) {
	w.inPod("address add %s dev eth0%s", addr, OfFamily(addr.Addr(), "", " nodad"))
	w.pod.Addrs = append(w.pod.Addrs, addr)
	if gateway != "" {
		w.pod.Gateways = append(w.pod.Gateways, netip.MustParseAddr(gateway))
	}
}

// routed gives the pod an address with no network around it, and the router the way
// there.
func (w *wiring) routed(addr netip.Addr, gateway string) {
	w.address(netip.PrefixFrom(addr, addr.BitLen()), gateway)
	w.onNode("route add %s dev %s", addr, w.host)
}

// via gives the pod the default route by a gateway that is on no network of its own.
func (w *wiring) via(gateway string) {
	w.inPod("route add %s dev eth0 scope link", gateway)
	w.inPod("route add default via %s dev eth0", gateway)
}

// mac returns the Ethernet address of a link.
func (w *wiring) mac(s *Space, link string) string {
	var mac string
	w.do(func() (err error) {
		mac, err = s.MAC(link)
		return err
	})
	return mac
}

// Calico is one where no link has the IPv4 gateway, and the node answers ARP for it by
// proxy. The IPv6 gateway is the link-local address of the node's end, whose MAC is the
// same on every node.
var Calico = Shape{
	hostMAC: "ee:ee:ee:ee:ee:ee", quiet: true,
	wire: func(w *wiring, addr netip.Addr) {
		if addr.Is4() {
			w.sysctl("net/ipv4/conf/%s/proxy_arp", "1")
			w.sysctl("net/ipv4/neigh/%s/proxy_delay", "0")
			w.routed(addr, "169.254.1.1")
			w.via("169.254.1.1")
			return
		}
		w.sysctl("net/ipv6/conf/%s/proxy_ndp", "1")
		w.routed(addr, "fe80::ecee:eeff:feee:eeee")
		w.inPod("route add default via fe80::ecee:eeff:feee:eeee dev eth0")
	},
}

// AWS is the VPC CNI: nothing answers for the gateway, whose MAC is a permanent
// neighbour of the pod's. The order of the steps is the plugin's.
var AWS = Shape{
	wire: func(w *wiring, addr netip.Addr) {
		gateway := OfFamily(addr, "169.254.1.1", "fe80::1")
		w.via(gateway)
		w.routed(addr, gateway)
		w.inPod("neighbour add %s lladdr %s dev eth0 nud permanent", gateway, w.mac(w.router, w.host))
	},
}

// The router's own addresses, of the node in Cilium's shapes and of the switch in
// OVN's.
const (
	router4 = "10.244.1.1"
	router6 = "fd00:10:244:1::1"
)

// Cilium is one where the default route goes by an address of the node's. A program on
// the node's end answers for that and any other address; the node never asks for the
// pod's MAC.
var Cilium = Shape{quiet: true, wire: func(w *wiring, addr netip.Addr) {
	w.answered(addr)
	gateway := OfFamily(addr, router4, router6)
	w.routed(addr, gateway)
	w.via(gateway)
}}

// CiliumOnLink is Cilium without a gateway: everything is on the link.
var CiliumOnLink = Shape{quiet: true, wire: func(w *wiring, addr netip.Addr) {
	w.answered(addr)
	w.routed(addr, "")
	w.inPod("%s route add default dev eth0 scope link", OfFamily(addr, "-4", "-6"))
}}

// answered has the node answer for every address, and know the pod's MAC.
func (w *wiring) answered(addr netip.Addr) {
	w.onNode("address replace %s dev lo", OfFamily(addr, router4+"/32", router6+"/128"))
	w.sysctl("net/ipv4/conf/%s/arp_ignore", "8") // the kernel answers nothing
	w.onNode("neighbour add %s lladdr %s dev %s nud permanent", addr, w.mac(w.pod.Space, "eth0"), w.host)
	if len(w.pod.Addrs) > 0 {
		return // it answers for both families
	}
	w.do(func() error {
		r, err := answerAll(w.router, w.host)
		if err == nil {
			w.node.answers = append(w.node.answers, r)
		}
		return err
	})
}

// ovnRoutes are the cluster's networks, which OVN-Kubernetes routes by the gateway
// besides the default route: pods, services, and the nodes' routers among themselves.
var ovnRoutes = map[bool][]string{
	true:  {"10.244.0.0/16", "10.96.0.0/16", "100.64.0.0/16"},
	false: {"fd00:10:244::/48", "fd00:10:96::/112", "fd98::/64"},
}

// OVN is OVN-Kubernetes: a switch with a router of its own address, which takes from a
// pod no other source than the pod's own, neither of Ethernet nor of IP.
var OVN = Shape{port: "ovn0", wire: func(w *wiring, addr netip.Addr) {
	gateway := OfFamily(addr, router4, router6)
	w.address(netip.PrefixFrom(addr, OfFamily(addr, 24, 64)), gateway)
	w.inPod("route add default via %s dev eth0", gateway)
	for _, network := range ovnRoutes[addr.Is4()] {
		w.inPod("route add %s via %s dev eth0", network, gateway)
	}
	w.guard(addr)
}}

// AddOVNSwitch gives the node the switch that pods of the shape OVN are ports of.
func (n *Node) AddOVNSwitch(ctx context.Context) error {
	return errors.Join(
		n.IP(ctx, "link add ovn0 address 0a:58:0a:f4:01:01 type bridge mcast_snooping 0"),
		n.IP(ctx, "address add %s/24 dev ovn0", router4),
		n.IP(ctx, "address add %s/64 dev ovn0 nodad", router6),
		n.IP(ctx, "link set ovn0 up"),
		n.script(ctx, "add table netdev ovn"),
	)
}

// guard is the port security of OVN, for one address of the pod. The link-local
// address that the pod makes of its MAC is its own as well.
func (w *wiring) guard(addr netip.Addr) {
	mac := w.mac(w.pod.Space, "eth0")
	chain := w.host + OfFamily(addr, "v4", "v6")
	rules := fmt.Sprintf(`add chain netdev ovn %[1]s { type filter hook ingress device %[2]s priority 0; }
add rule netdev ovn %[1]s ether saddr != %[3]s counter drop
`, chain, w.host, mac)
	if addr.Is4() {
		rules += fmt.Sprintf(`add rule netdev ovn %[1]s ip saddr != %[2]s counter drop
add rule netdev ovn %[1]s arp saddr ether != %[3]s counter drop
add rule netdev ovn %[1]s arp saddr ip != { %[2]s, 0.0.0.0 } counter drop
`, chain, addr, mac)
	} else {
		rules += fmt.Sprintf("add rule netdev ovn %s ip6 saddr != { %s, %s, :: } counter drop\n", chain, addr, linkLocal(mac))
	}
	w.do(func() error { return w.node.script(w.ctx, rules) })
}
