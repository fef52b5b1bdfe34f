package local

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
)

// dualBridge makes pods that have an address of either family, on one L2.
func dualBridge(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	return n.NewPod(ctx, name, pod.BridgeNetwork(subnet, podMTU).And(subnet6))
}

// ipv6Bridge makes pods that have no IPv4.
func ipv6Bridge(ctx context.Context, n *pod.Node, name string, _ byte) (*pod.Pod, error) {
	return n.NewPod(ctx, name, pod.BridgeNetwork(subnet6, podMTU))
}

// dualCilium makes pods whose node answers for every address.
func dualCilium(ctx context.Context, n *pod.Node, name string, host byte) (*pod.Pod, error) {
	v4, v6 := subnet.Addr().As4(), subnet6.Addr().As16()
	v4[3], v6[15] = host, host
	return n.NewShapedPod(ctx, name, pod.Cilium, []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}, podMTU)
}

// addr6 is a pod's first IPv6 address.
func addr6(p *pod.Pod) netip.Addr {
	for _, each := range p.Addrs {
		if each.Addr().Is6() {
			return each.Addr()
		}
	}
	return netip.Addr{}
}

// settleTime is how long a guest may take for what needs no more than a few messages.
const settleTime = 15 * time.Second

// eventually waits until nothing is missing; what is, the function says.
func (w *world) eventually(t *testing.T, what string, missing func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, settleTime)
	defer cancel()
	for {
		text := missing()
		if text == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting until it %s: %s", what, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// without says that a text has not got something in it.
func without(text, part string) string {
	if strings.Contains(text, part) {
		return ""
	}
	return fmt.Sprintf("there is no %q in\n%s", part, text)
}

// output runs a command in a space, which must succeed.
func (w *world) output(t *testing.T, space *pod.Space, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := space.Run(w.ctx, words[0], words[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// linkLocal waits until a link has a link-local address that is ready: DHCPv6 asks
// from there (RFC 8415 §13.1).
func (w *world) linkLocal(t *testing.T, space *pod.Space, link string) netip.Addr {
	t.Helper()
	var addr netip.Addr
	w.eventually(t, "has a link-local address", func() string {
		for word := range strings.FieldsSeq(w.output(t, space, "ip -6 address show dev "+link+" scope link -tentative")) {
			if prefix, err := netip.ParsePrefix(word); err == nil {
				addr = prefix.Addr()
				return ""
			}
		}
		return "none yet"
	})
	return addr
}

// bind6 has a guest's dhclient get the addresses of DHCPv6, while the kernel takes the
// routes.
func (w *world) bind6(t *testing.T, guest *pod.Space, link string) *client.Client {
	t.Helper()
	w.linkLocal(t, guest, link)
	c, err := client.Dhclient6(guest, w.dir, link, "")
	running(t, c, err)
	w.wait(t, c, "BOUND6")
	return c
}

// defaults6 are the routers of a guest's IPv6 default routes, the best first.
func (w *world) defaults6(t *testing.T, guest *pod.Space) []string {
	t.Helper()
	var routes []struct {
		Gateway string `json:"gateway"`
		Pref    string `json:"pref"`
	}
	if err := json.Unmarshal([]byte(w.output(t, guest, "ip -6 -j route show default")), &routes); err != nil {
		t.Fatal(err)
	}
	var best, rest []string
	for _, each := range routes {
		if each.Pref == "low" {
			rest = append(rest, each.Gateway)
		} else {
			best = append(best, each.Gateway)
		}
	}
	return append(best, rest...)
}

// hasDefault6 waits until a guest has so many IPv6 default routes, and returns their
// routers.
func (w *world) hasDefault6(t *testing.T, guest *pod.Space, number int) []string {
	t.Helper()
	var routers []string
	w.eventually(t, fmt.Sprintf("has %d IPv6 default routes", number), func() string {
		if routers = w.defaults6(t, guest); len(routers) != number {
			return fmt.Sprintf("they go by %v", routers)
		}
		return ""
	})
	return routers
}

// reaches waits until an address can be had from a space.
func (w *world) reaches(t *testing.T, from *pod.Space, targets ...netip.Addr) {
	t.Helper()
	for _, target := range targets {
		w.eventually(t, "reaches "+target.String(), func() string {
			if err := from.Ping(w.ctx, target); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

// status is what podwire's status says of an interface, in so far as the tests want it.
type status struct {
	Pod      string            `json:"podInterface"`
	Network  string            `json:"network"`
	Plain    bool              `json:"plain"`
	Warnings []string          `json:"warnings"`
	Serving  bool              `json:"serving"`
	PID      int               `json:"pid"`
	Counts   map[string]uint64 `json:"counts"`
}

func (w *world) status(t *testing.T) []status {
	t.Helper()
	var result struct{ Interfaces []status }
	out := w.podwire(t, "status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("podwire status printed %q: %v", out, err)
	}
	return result.Interfaces
}

// daemon runs a program in a space until the test ends, and returns what it has
// printed so far.
func daemon(t *testing.T, space *pod.Space, name string, args ...string) func() string {
	t.Helper()
	var log pod.Log
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := space.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	return log.String
}
