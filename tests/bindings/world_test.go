package bindings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// The networks of the cluster: of this node's pods, of pods of another node, and of the
// services.
var (
	subnet4 = netip.MustParsePrefix("10.244.1.0/24")
	subnet6 = netip.MustParsePrefix("fd00:10:244:1::/64")

	far4, far6         = netip.MustParseAddr("10.244.2.9"), netip.MustParseAddr("fd00:10:244:2::9")
	narrow4, narrow6   = netip.MustParseAddr("10.244.2.10"), netip.MustParseAddr("fd00:10:244:2::10")
	service4, service6 = netip.MustParseAddr("10.96.0.20"), netip.MustParseAddr("fd00:10:96::20")
)

const (
	podMTU    = 1450
	narrowMTU = 1300

	dns4, dns6 = "10.96.0.10", "fd00:10:96::a"
	resolvConf = "search default.svc.cluster.local\nnameserver " + dns4 + "\nnameserver " + dns6 + "\n"
)

// nicName is the guest's link.
const nicName = "nic0"

// services are two addresses that the node translates to the pod behind a route.
const services = `table ip services { chain arriving { type nat hook prerouting priority dstnat;
	ip daddr 10.96.0.20 tcp dport 80 dnat to 10.244.2.9:8080; }; }
table ip6 services { chain arriving { type nat hook prerouting priority dstnat;
	ip6 daddr fd00:10:96::20 tcp dport 80 dnat to [fd00:10:244:2::9]:8080; }; }
`

// world is a node with a pod for the VM, another pod on the same bridge, and two behind
// a route, to one of which larger packets than elsewhere do not get.
type world struct {
	ctx                    context.Context
	dir                    checkout.Dir
	binding                binding
	node                   *pod.Node
	vm, other, far, narrow *pod.Pod
	before                 []string // the VM's pod, before podwire

	to      wired
	guest   *guestHost
	podsOwn error // what became of the pod's own connection over a setup
}

func newWorld(t testing.TB, b binding, limit time.Duration) *world {
	t.Helper()
	w := &world{binding: b}
	w.ctx, w.dir, w.node = pod.NewTestNode(t, limit)
	if err := w.build(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if w.guest != nil {
			w.guest.close()
		}
	})
	return w
}

func (w *world) build() (err error) {
	if w.far, err = w.node.NewRoutedPod(w.ctx, "far-0", far4, far6); err != nil {
		return err
	}
	if w.narrow, err = w.node.NewRoutedPod(w.ctx, "narrow-0", narrow4, narrow6); err != nil {
		return err
	}
	network := pod.BridgeNetwork(subnet4, podMTU).And(subnet6)
	if w.vm, err = w.node.NewPod(w.ctx, "vm-0", network); err != nil {
		return err
	}
	if w.other, err = w.node.NewPod(w.ctx, "web-0", network); err != nil {
		return err
	}
	// As the kubelet has it: libvirt looks its own name up.
	hosts := fmt.Sprintf("127.0.0.1 localhost\n%s vm-0\n", w.vm.Addrs[0].Addr())
	if err := errors.Join(w.vm.SetResolvConf(resolvConf), w.vm.Overlay("/etc/hosts", []byte(hosts))); err != nil {
		return err
	}
	if err := errors.Join(nft(w.ctx, w.node.Space, services), w.narrows()); err != nil {
		return err
	}
	for _, p := range []*pod.Space{w.node.Space, w.other.Space, w.far.Space, w.narrow.Space} {
		if err := w.serve(p, port); err != nil {
			return err
		}
	}
	// A sidecar of the VM's, on a port that nothing in the guest listens on.
	if err := w.serve(w.vm.Space, sidecarPort); err != nil {
		return err
	}
	w.before, err = w.settled()
	return err
}

// narrows makes the way to and from the narrow pod one of smaller packets, between the
// two routers.
func (w *world) narrows() error {
	outside := w.node.OutsideHost()
	var errs []error
	for _, addr := range []netip.Addr{narrow4, narrow6} {
		family := pod.OfFamily(addr, "-4", "-6")
		errs = append(errs,
			w.node.IP(w.ctx, "route change %s via %s mtu lock %d", addr, pod.OfFamily(addr, pod.Outside, pod.Outside6), narrowMTU),
			outside.IP(w.ctx, "%s rule add from %s lookup 100", family, addr),
			outside.IP(w.ctx, "%s route add default via %s mtu lock %d table 100", family, pod.OfFamily(addr, pod.NodeOutside, pod.NodeOutside6), narrowMTU),
		)
	}
	return errors.Join(errs...)
}

// nft runs nft(8) in a space.
func nft(ctx context.Context, s *pod.Space, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	_, err := s.RunCmd(cmd)
	return err
}

// own returns the pod's address of the family of another.
func (w *world) own(like netip.Addr) netip.Addr {
	i := slices.IndexFunc(w.vm.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() == like.Is4() })
	return w.vm.Addrs[i].Addr()
}

// timers are a bridge's, which run down.
var timers = regexp.MustCompile(`timer +[0-9.]+`)

// settled is all there is of the VM pod's network, at rest, by sorted lines.
func (w *world) settled() ([]string, error) {
	lines, err := w.vm.Settled(w.ctx)
	for i, line := range lines {
		lines[i] = timers.ReplaceAllString(line, "timer")
	}
	return lines, err
}

// unchanged compares the VM pod's network with what it was.
func (w *world) unchanged(before []string) error {
	after, err := w.settled()
	if err != nil {
		return err
	}
	if diff := cmp.Diff(before, after); diff != "" {
		return fmt.Errorf("the pod's network is not as it was (-before +after):\n%s", diff)
	}
	return nil
}

// podwire runs podwire in the VM's pod and returns what it printed. What it logged
// is in the error of one that failed.
func (w *world) podwire(args ...string) (string, error) {
	program, err := w.dir.Program("podwire")
	if err != nil {
		return "", err
	}
	return w.vm.Run(w.ctx, program, args...)
}

// wired is what podwire's setup prints, in so far as the tests want it.
type wired struct {
	Tap     string   `json:"tap"`
	MAC     string   `json:"mac"`
	MTU     int      `json:"mtu"`
	Drift   []string `json:"drift"`
	Applied bool     `json:"applied"`
	Serving bool     `json:"serving"`
	PID     int      `json:"pid"`
	Limits  []string `json:"limits"`
}

// wire runs setup or prestart, with the flags of the binding.
func (w *world) wire(command string, args ...string) (wired, error) {
	out, err := w.podwire(append(append([]string{command, "-o", "json", "--binding", w.binding.name}, w.binding.flags...), args...)...)
	if err != nil {
		return wired{}, err
	}
	return one(out)
}

// status is what podwire's status prints, which fails where all is not well.
func (w *world) status() (wired, error) {
	out, err := w.podwire("status", "-o", "json")
	if out != "" {
		return one(out)
	}
	return wired{}, err
}

func one(out string) (wired, error) {
	var result struct{ Interfaces []wired }
	err := json.Unmarshal([]byte(out), &result)
	if err == nil && len(result.Interfaces) != 1 {
		err = errors.New("not one interface")
	}
	if err != nil {
		return wired{}, fmt.Errorf("podwire printed %q: %w", out, err)
	}
	return result.Interfaces[0], nil
}

// eventually waits until something does not fail any more.
func (w *world) eventually(limit time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeout(w.ctx, limit)
	defer cancel()
	for {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("after %s: %w", limit, err)
		}
	}
}
