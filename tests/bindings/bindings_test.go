package bindings

import (
	"fmt"
	"net/netip"
)

// binding is a column of the table.
type binding struct {
	name    string
	flags   []string                                 // of setup
	guest   func(w *world) (ipv4, ipv6 netip.Prefix) // what the guest has
	gateway func(w *world) (ipv4, ipv6 netip.Addr)   // what it sends to
	losses  []loss                                   // of what podwire made
}

var bindings = []binding{
	{
		name: "bridge", guest: thePods, gateway: thePodsGateways,
		losses: []loss{
			{"tc filter del dev tap-eth0 ingress", "tap-eth0"},
			{"tc qdisc del dev eth0 clsact", "eth0"},
			{"ip link set eth0 nomaster", "eth0"},
			{"ip link del pw-eth0", "pw-eth0"},
			{"ip link del tap-eth0", "tap-eth0"},
		},
	},
	{
		name: "tc", guest: thePods, gateway: thePodsGateways,
		losses: []loss{
			{"tc filter del dev tap-eth0 ingress", "tap-eth0"},
			{"tc filter del dev eth0 ingress pref 68", "eth0"},
			{"tc qdisc del dev eth0 clsact", "eth0"},
			{"ip link del tap-eth0", "tap-eth0"},
		},
	},
	{
		name: "masquerade", flags: []string{"--exclude-port", fmt.Sprintf("%d/tcp,%d,%d", sidecarPort, meshOut, meshIn)},
		guest: func(*world) (ipv4, ipv6 netip.Prefix) {
			return netip.MustParsePrefix("10.0.2.2/24"), netip.MustParsePrefix("fd10:0:2::2/120")
		},
		gateway: func(*world) (ipv4, ipv6 netip.Addr) {
			return netip.MustParseAddr("10.0.2.1"), netip.MustParseAddr("fd10:0:2::1")
		},
		losses: []loss{
			{"tc filter del dev tap-eth0 ingress", "tap-eth0"},
			{"nft delete table inet podwire-eth0", "podwire-eth0"},
			{"nft flush chain inet podwire-eth0 inbound", "podwire-eth0"},
			{"ip address del 10.0.2.1/24 dev tap-eth0", "10.0.2.1"},
			{"echo 0 >/proc/sys/net/ipv6/conf/all/forwarding", "forwarding"},
			{"ip link del tap-eth0", "tap-eth0"},
		},
	},
}

// thePods are the addresses of the pod.
func thePods(w *world) (ipv4, ipv6 netip.Prefix) { return w.vm.Addrs[0], w.vm.Addrs[1] }

func thePodsGateways(w *world) (ipv4, ipv6 netip.Addr) { return w.vm.Gateways[0], w.vm.Gateways[1] }
