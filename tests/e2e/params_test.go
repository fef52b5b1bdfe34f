//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/tests/cluster"
)

// binding is what the tests expect of a binding. A new one is a line in bindings.
type binding struct {
	name string
	// component is the one of manifests/components that asks for it; none is needed for
	// the one that a shape has as it is.
	component string
	// guest are the guest's addresses, where they are not the pod's.
	guest addrs
	// beside is whether the pod's other containers have a network, and its localhost
	// leads to the guest: then kubectl port-forward, which connects to that, reaches it.
	beside bool
	// forwards is whether the pod forwards the guest's packets. What it takes to forward
	// IPv6 is in the pod's spec, unless the node sees to it.
	forwards bool
}

var bindings = []binding{
	{name: "bridge"},              // the pod has no address left
	{name: "tc", component: "tc"}, // the pod has its address, and hears nothing
	{name: "masquerade", component: "masquerade", beside: true, forwards: true, guest: addrs{
		ipv4: netip.MustParseAddr("10.0.2.2"), ipv6: netip.MustParseAddr("fd10:0:2::2"),
	}},
}

func bindingNamed(name string) (binding, bool) {
	for _, b := range bindings {
		if b.name == name {
			return b, true
		}
	}
	return binding{}, false
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
	// ports is how masquerade is told which ports are the guest's: which are (--port), or
	// else which are not (--exclude-port).
	ports bool
}

var shapes = []shape{
	{name: "launcher", container: "vm", podwire: "/usr/bin/podwire", launcher: true},
	{name: "split", container: "podwire", podwire: "/podwire", sidecar: true, launcher: true, ports: true},
	{name: "hook", container: "vm", podwire: "/usr/bin/podwire", ports: true},
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

// kind is a kind of VM pod: a shape with a binding.
type kind struct {
	shape
	binding binding
}

// String is its name as a test, and as a file.
func (k kind) String() string { return k.name + "-" + k.binding.name }

// plain reports whether it is as the manifests have it, with no component.
func (k kind) plain() bool { return k.binding.component == "" }

// namespace is where its pod is: that of the manifests, or one beside it.
func (k kind) namespace() string {
	if k.plain() {
		return "podwire-" + k.name
	}
	return "podwire-" + k.String()
}

// parseKinds reads the flags -shapes and -binding: words that are a shape, which then
// has each of the bindings, or SHAPE/BINDING. Those of one binding come together.
func parseKinds(words, of string) ([]kind, error) {
	var all []kind
	for _, word := range strings.Split(words, ",") {
		name, one, given := strings.Cut(word, "/")
		s, ok := shapeNamed(name)
		if !ok {
			return nil, fmt.Errorf("flag -shapes: there is no shape %q", name)
		}
		names := []string{one}
		if !given {
			names = strings.Split(of, ",")
		}
		for _, name := range names {
			b, ok := bindingNamed(name)
			if !ok {
				return nil, fmt.Errorf("flags -shapes and -binding: the tests do not know binding %q", name)
			}
			all = append(all, kind{s, b})
		}
	}
	slices.SortStableFunc(all, func(a, b kind) int { return cmp.Compare(rank(a), rank(b)) })
	return slices.CompactFunc(all, func(a, b kind) bool { return a.String() == b.String() }), nil
}

// rank is the place of a kind's binding among the bindings.
func rank(k kind) int {
	return slices.IndexFunc(bindings, func(b binding) bool { return b.name == k.binding.name })
}
