//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

const (
	// podPort is a port of the pod's own: of a container beside the VM's.
	podPort = "9000/tcp"
	// guestPorts are the guest's where masquerade is told which are: its service, and the
	// one by which the tests command it.
	guestPorts = "80/tcp,7777/tcp"
	// otherPort is one of the guest's that is not among them.
	otherPort = 8081
)

// testBeside has another container of the VM's pod, as a service mesh's would be, talk
// to the network: with a binding that leaves the pod its own, it reaches an ordinary
// pod, is reached at its own port, and finds the guest at localhost. With the others it
// has no network.
func (v *vm) testBeside(t *testing.T) {
	v.startBeside(t)
	for _, f := range v.families {
		if v.binding.beside {
			v.besideWorks(t, f)
		} else {
			v.besideIsDeaf(t, f)
		}
	}
}

// startBeside starts the container: it says who it is to whoever connects to its port.
func (v *vm) startBeside(t *testing.T) {
	t.Helper()
	port, _, _ := strings.Cut(podPort, "/")
	if err := v.cluster.RunBeside(t.Context(), v.namespace, "vm", "vm", "beside", image,
		busybox, "nc", "-ll", "-p", port, "-e", busybox, "echo", "beside"); err != nil {
		t.Fatal(err)
	}
	v.waitPod(t, time.Minute, "a container beside the VM's", func(p cluster.Pod) bool {
		status, _ := p.Container("beside")
		return status.State.Running != nil
	})
}

// beside runs a busybox command in the container.
func (v *vm) beside(ctx context.Context, command ...string) (string, error) {
	return v.cluster.Exec(ctx, v.namespace, "vm", "beside", append([]string{busybox, "timeout", "5", busybox}, command...)...)
}

func (v *vm) besideWorks(t *testing.T, f family) {
	t.Helper()
	for _, to := range v.both() {
		within(t, 30*time.Second, "the container beside to reach over "+string(f)+" a pod on node "+to.node, func(ctx context.Context) error {
			out, err := v.beside(ctx, "wget", "-q", "-O", "-", url(to.addrs[f], 80, "/cgi-bin/who"))
			if err != nil {
				return err
			}
			return isPeer(out, to, v.addrs[f])
		})
		within(t, 30*time.Second, "the container beside to be reached over "+string(f)+" from node "+to.node, func(ctx context.Context) error {
			return v.says(ctx, to, f, 9000, "beside")
		})
	}
	for _, host := range []string{loopback[f], v.addrs[f].String()} {
		within(t, 30*time.Second, "the container beside to find the guest at "+host, func(ctx context.Context) error {
			out, err := v.beside(ctx, "wget", "-q", "-O", "-", "http://"+bracketed(host)+"/")
			if err != nil {
				return err
			}
			return v.isGreeting(out)
		})
	}
}

func (v *vm) besideIsDeaf(t *testing.T, f family) {
	t.Helper()
	near := v.near(v.pod.Spec.NodeName)
	within(t, 30*time.Second, "the container beside to run a command", func(ctx context.Context) error {
		_, err := v.beside(ctx, "true")
		return err
	})
	if out, err := v.beside(t.Context(), "wget", "-q", "-O", "-", url(near.addrs[f], 80, "/cgi-bin/who")); err == nil {
		t.Errorf("with binding %q the container beside reaches over %s a pod that says %q", v.binding.name, f, out)
	}
	if err := v.says(t.Context(), near, f, 9000, "beside"); err == nil {
		t.Errorf("with binding %q the container beside is reached over %s", v.binding.name, f)
	}
}

// testPorts has the guest listen at a port that is not among those that masquerade was
// told of: it is reached there unless it was told of any.
func (v *vm) testPorts(t *testing.T) {
	v.run(t, fmt.Sprintf("nc -ll -p %d -e echo guest </dev/null >/dev/null 2>&1 &", otherPort))
	v.eachWay(func(f family, from peer) {
		within(t, time.Minute, "the guest's other port to be as it should, over "+string(f)+" from node "+from.node, func(ctx context.Context) error {
			err := v.says(ctx, from, f, otherPort, "guest")
			if !v.ports {
				return err
			}
			if err == nil {
				return errReached
			}
			return v.works(ctx, from)
		})
	})
}

// says asks whether what listens at a port of the pod's address says a word to an
// ordinary pod.
func (v *vm) says(ctx context.Context, from peer, f family, port int, word string) error {
	out, err := v.in(ctx, from, "timeout", "5", busybox, "nc", v.addrs[f].String(), fmt.Sprint(port))
	if err == nil && strings.TrimSpace(out) != word {
		err = errors.New("it says " + out)
	}
	return err
}

// loopback is the pod's localhost.
var loopback = map[family]string{ipv4: "127.0.0.1", ipv6: "::1"}

// bracketed is a host in a URL.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
