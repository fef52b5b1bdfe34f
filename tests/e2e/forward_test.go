//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// testPortForward forwards a port to the VM's pod. kubectl port-forward connects
// within the pod's own namespace, where the guest is only with some bindings;
// with the others it says so, and the two ways round it work.
func (v *vm) testPortForward(t *testing.T) {
	if v.binding.beside {
		within(t, 30*time.Second, "port-forward to reach the guest", func(ctx context.Context) error {
			return v.greetsThrough(ctx, "vm", 80)
		})
		return
	}
	v.refusesForward(t)
	within(t, 30*time.Second, "the API server's proxy to reach the guest", func(ctx context.Context) error {
		out, err := v.cluster.Kubectl(ctx, "get", "--raw", "/api/v1/namespaces/"+v.namespace+"/pods/vm:80/proxy/")
		if err != nil {
			return err
		}
		return v.isGreeting(out)
	})
	v.relay(t)
	within(t, time.Minute, "port-forward to reach the guest by a relay", func(ctx context.Context) error {
		return v.greetsThrough(ctx, "relay", 8080)
	})
}

// refusesForward has the documented symptom: the connection is refused, kubectl
// says so, and podwire's status says why.
func (v *vm) refusesForward(t *testing.T) {
	t.Helper()
	f, err := v.cluster.PortForward(t.Context(), v.namespace, "vm", 80)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if body, err := f.Fetch(t.Context(), "/"); err == nil {
		t.Fatalf("port-forward reached something in the VM's pod that says %q; with binding %q it should not", body, v.binding.name)
	}
	within(t, 20*time.Second, "kubectl to say why", func(context.Context) error {
		if text := f.Text(); !strings.Contains(strings.ToLower(text), "connection refused") {
			return fmt.Errorf("kubectl says %q", text)
		}
		return nil
	})
	st, err := v.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if limits := strings.Join(st.Limits, "\n"); !strings.Contains(limits, "kubectl port-forward") {
		t.Errorf("the status names as limits %q, and not kubectl port-forward", limits)
	}
}

// greetsThrough asks whether the guest answers through a forward to a port of a pod.
func (v *vm) greetsThrough(ctx context.Context, pod string, port int) error {
	f, err := v.cluster.PortForward(ctx, v.namespace, pod, port)
	if err != nil {
		return err
	}
	defer f.Close()
	body, err := f.Fetch(ctx, "/")
	if err != nil {
		return fmt.Errorf("%w; kubectl says %q", err, f.Text())
	}
	return v.isGreeting(body)
}

// relay starts the pod that hands connections on to the guest, with the commands of
// the page.
func (v *vm) relay(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if err := v.command(time.Minute, "delete", "--namespace", v.namespace, "pod", "relay", "--ignore-not-found", "--grace-period=1"); err != nil {
			t.Error(err)
		}
	})
	v.typeIn(t, time.Minute, v.relayCommands(t))
}

// relayCommands returns the page's commands for a relay, in the namespace of this
// shape, without the last: the forward itself, which the test does at a free port.
func (v *vm) relayCommands(t *testing.T) string {
	t.Helper()
	said := v.pageSays(t, "relay")
	const forward = "kubectl -n podwire-launcher port-forward pod/relay 8080:8080\n"
	commands, ok := strings.CutSuffix(said, forward)
	if !ok {
		t.Fatalf("the page's commands for a relay are %q; the test knows them to end with %q", said, forward)
	}
	return strings.ReplaceAll(commands, "podwire-launcher", v.namespace)
}
