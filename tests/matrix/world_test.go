package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// The networks of the cluster: of this node's pods, of a pod of another node, and of
// the services.
var (
	subnet4 = netip.MustParsePrefix("10.244.1.0/24")
	subnet6 = netip.MustParsePrefix("fd00:10:244:1::/64")

	far4, far6         = netip.MustParseAddr("10.244.2.9"), netip.MustParseAddr("fd00:10:244:2::9")
	service4, service6 = netip.MustParseAddr("10.96.0.20"), netip.MustParseAddr("fd00:10:96::20")
)

const resolvConf = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver fd00:10:96::a\n"

// services are two addresses that the node translates to the pod behind a route. To one
// on the same bridge it could not: the answers would not come by the node.
const services = `table ip services { chain arriving { type nat hook prerouting priority dstnat;
	ip daddr 10.96.0.20 tcp dport 80 dnat to 10.244.2.9:8080; }; }
table ip6 services { chain arriving { type nat hook prerouting priority dstnat;
	ip6 daddr fd00:10:96::20 tcp dport 80 dnat to [fd00:10:244:2::9]:8080; }; }
`

// world is a node with a pod for the VM, another pod of the same layout, and one behind
// a route.
type world struct {
	ctx     context.Context
	dir     checkout.Dir
	layout  layout
	family  family
	binding pod.Binding
	node    *pod.Node
	router  *pod.Space // the pods' next hop: the node, unless the layout says otherwise
	vm      *pod.Pod
	other   *pod.Pod
	far     *pod.Pod
}

func newWorld(t *testing.T, c cell) *world {
	t.Helper()
	limit := cellTime
	if c.guest() {
		limit = guestTime
	}
	w := &world{layout: c.layout, family: c.family, binding: c.binding}
	w.ctx, w.dir, w.node = pod.NewTestNode(t, limit)
	w.router = w.node.Space
	return w
}

// lacks says what this kernel has not that the layout needs.
func (w *world) lacks() string {
	if w.layout.kind == "" {
		return ""
	}
	if err := w.node.IP(w.ctx, "link add link out0 name probe type %s", w.layout.kind); err != nil {
		return "this kernel has no " + w.layout.kind
	}
	if err := w.node.IP(w.ctx, "link del probe"); err != nil {
		return err.Error()
	}
	return ""
}

// build makes the pods, and has all of them listen.
func (w *world) build() (err error) {
	if w.far, err = w.node.NewRoutedPod(w.ctx, "far-0", w.only(far4, far6)...); err != nil {
		return err
	}
	if w.layout.prepare != nil {
		if err := w.layout.prepare(w); err != nil {
			return err
		}
	}
	if w.vm, err = w.layout.pod(w, "vm-0"); err != nil {
		return err
	}
	if w.other, err = w.layout.pod(w, "web-0"); err != nil {
		return err
	}
	if w.layout.odd != nil {
		if err := w.layout.odd(w); err != nil {
			return err
		}
	}
	w.vm.Bind(w.binding)
	if err := w.vm.SetResolvConf(resolvConf); err != nil {
		return err
	}
	nft := exec.CommandContext(w.ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(services)
	if _, err := w.router.RunCmd(nft); err != nil {
		return err
	}
	return errors.Join(w.listen(w.router), w.listen(w.vm.Space), w.listen(w.other.Space), w.listen(w.far.Space))
}

// only keeps those of the world's family.
func (w *world) only(addrs ...netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if w.has(a) {
			out = append(out, a)
		}
	}
	return out
}

// has reports whether the world has the family of an address.
func (w *world) has(addr netip.Addr) bool {
	return w.family == dual || (w.family == ipv4) == addr.Is4()
}

// network is a network of a plugin, with the world's families.
func (w *world) network(plugin func(netip.Prefix, int) pod.Network, mtu int) pod.Network {
	switch w.family {
	case ipv4:
		return plugin(subnet4, mtu)
	case ipv6:
		return plugin(subnet6, mtu)
	default:
		return plugin(subnet4, mtu).And(subnet6)
	}
}

// addrs are the addresses of a hand-made pod, whose number on the node is given.
func (w *world) addrs(host byte) []netip.Addr {
	v4, v6 := subnet4.Addr().As4(), subnet6.Addr().As16()
	v4[3], v6[15] = host, host
	return w.only(netip.AddrFrom4(v4), netip.AddrFrom16(v6))
}

// each does something for each of the pod's addresses, whose index it is given.
func (w *world) each(do func(i int, own netip.Addr) error) error {
	var errs []error
	for i, own := range w.vm.Addrs {
		errs = append(errs, do(i, own.Addr()))
	}
	return errors.Join(errs...)
}

// ifname is the name of the pod's interface.
func (w *world) ifname() string {
	if w.layout.ifname != "" {
		return w.layout.ifname
	}
	return "eth0"
}

// podwire runs podwire in the VM's pod and returns what it printed and logged.
func (w *world) podwire(args ...string) (out, said string, err error) {
	program, err := w.dir.Program("podwire")
	if err != nil {
		return "", "", err
	}
	var stdout, stderr pod.Log
	cmd := exec.CommandContext(w.ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = w.vm.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("podwire %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), stderr.String(), err
}

// wired is what podwire's prestart prints, in so far as the tests want it.
type wired struct {
	Tap string `json:"tap"`
	MAC string `json:"mac"`
	MTU int    `json:"mtu"`
}

// prestart wires the pod and serves it.
func (w *world) prestart() (wired, error) {
	out, said, err := w.podwire("prestart", "-o", "json")
	if err != nil {
		return wired{}, err
	}
	var result struct{ Interfaces []wired }
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Interfaces) != 1 {
		return wired{}, fmt.Errorf("podwire prestart printed %q: %w", out, err)
	}
	if !w.binding.Behind() && !strings.Contains(said, w.layout.warns) {
		return wired{}, fmt.Errorf("podwire prestart is to warn of %q, and says:\n%s", w.layout.warns, said)
	}
	return result.Interfaces[0], nil
}
