//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"

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

// family is an address family. A new one is a line in families.
type family struct {
	name string // as Kubernetes spells it
	ip   string // ip's option
	has  func(netip.Addr) bool
}

var families = map[string]family{
	"ipv4": {name: "IPv4", ip: "-4", has: netip.Addr.Is4},
}

// addr returns the pod's address of the family.
func (f family) addr(pod cluster.Pod) (netip.Addr, error) {
	for _, each := range pod.Status.PodIPs {
		if f.has(each.IP) {
			return each.IP, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod %q has no %s address yet: %s", pod.Name, f.name, pod.Why())
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
