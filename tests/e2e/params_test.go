//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/podwire/podwire/tests/cluster"
)

// binding is what the tests expect of a binding. A new one is a line in bindings.
type binding struct {
	// portForward is whether kubectl port-forward, which connects to the pod's own
	// loopback address, reaches the guest.
	portForward bool
}

var bindings = map[string]binding{
	"bridge": {portForward: false}, // the pod has no address left
}

// family is an address family, as Kubernetes spells it.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// families are those that a cluster's pods have, the first one first, by how the
// flag -family calls them.
var families = map[string][]family{
	"ipv4": {ipv4},
	"ipv6": {ipv6},
	"dual": {ipv4, ipv6},
}

// short is the family's name in names of objects.
func (f family) short() string { return strings.ToLower(string(f)) }

// ip is its option to ip.
func (f family) ip() string { return "-" + strings.TrimPrefix(string(f), "IPv") }

func (f family) has(addr netip.Addr) bool { return addr.Is4() == (f == ipv4) }

// addrs are what something has: one address of each family that is tested.
type addrs map[family]netip.Addr

// pick returns the first address of each family.
func pick(from []netip.Addr, families []family) (addrs, error) {
	picked := addrs{}
	for _, f := range families {
		for _, addr := range from {
			if f.has(addr) {
				picked[f] = addr
				break
			}
		}
		if !picked[f].IsValid() {
			return nil, fmt.Errorf("no %s address in %v", f, from)
		}
	}
	return picked, nil
}

// podAddrs returns the pod's addresses, as the API has them.
func (w *world) podAddrs(pod cluster.Pod) (addrs, error) {
	var all []netip.Addr
	for _, each := range pod.Status.PodIPs {
		all = append(all, each.IP)
	}
	picked, err := pick(all, w.families)
	if err != nil {
		return nil, fmt.Errorf("pod %q: %w: %s", pod.Name, err, pod.Why())
	}
	return picked, nil
}

// layout is what the tests expect of a layout beyond that a guest has what an
// ordinary pod on its node has.
type layout struct {
	mtu int
}

var layouts = map[string]layout{
	"ptp":     {mtu: 1500},
	"bridge":  {mtu: 1500},
	"flannel": {mtu: 1450}, // the room that VXLAN takes
}

// shape is a way to build a VM pod; manifests/ has one of each.
type shape struct {
	name      string
	container string // that podwire is in
	podwire   string // its path there
	sidecar   bool   // podwire serves in a container of its own, which may crash
	launcher  bool   // podwire-launcher runs the VM, and logs its end
}

var shapes = []shape{
	{name: "launcher", container: "vm", podwire: "/usr/bin/podwire", launcher: true},
	{name: "split", container: "podwire", podwire: "/podwire", sidecar: true, launcher: true},
	{name: "hook", container: "vm", podwire: "/usr/bin/podwire"},
	{name: "chained", container: "podwire", podwire: "/podwire", sidecar: true, launcher: true},
}

func shapeNamed(name string) (shape, bool) {
	for _, s := range shapes {
		if s.name == name {
			return s, true
		}
	}
	return shape{}, false
}
