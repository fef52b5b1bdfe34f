//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

// vm is the VM pod of a shape.
type vm struct {
	*world
	shape
	namespace string
	pod       cluster.Pod // as it was when it was last Ready
	addrs     addrs
}

func newVM(w *world, s shape) *vm {
	return &vm{world: w, shape: s, namespace: "podwire-" + s.name}
}

// start applies the shape's manifests and waits for its guest.
func (v *vm) start(t *testing.T) {
	t.Helper()
	if err := v.applyShape(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.waitReady(t, options.ready)
	if n := restarts(v.pod, "vm"); n != 0 {
		t.Errorf("the VM's container was restarted %d times before it was Ready", n)
	}
	if _, err := v.cluster.Kubectl(t.Context(), "label", "--namespace", v.namespace, "pod", "vm", "podwire-e2e=vm", "--overwrite"); err != nil {
		t.Fatal(err)
	}
}

// applyShape applies the shape's manifests, as they are or with the component
// that has QEMU use KVM.
func (v *vm) applyShape(ctx context.Context) error {
	dir := v.manifests(v.name)
	if options.accel == "kvm" {
		var err error
		if dir, err = v.overlay("kvm"); err != nil {
			return err
		}
	}
	return v.cluster.ApplyDir(ctx, dir)
}

// overlay writes a kustomization of the shape with a component, and returns where.
func (v *vm) overlay(component string) (string, error) {
	dir := filepath.Join(fromTop(v.dir, options.artifacts), "kustomize", v.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// kustomize takes no absolute paths.
	shape, err := filepath.Rel(dir, v.manifests(v.name))
	if err != nil {
		return "", err
	}
	with, err := filepath.Rel(dir, v.manifests(filepath.Join("components", component)))
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("resources: [%s]\ncomponents: [%s]\n", shape, with)
	return dir, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o644)
}

// waitReady waits for the pod to be Ready, and remembers it as it is then.
func (v *vm) waitReady(t *testing.T, limit time.Duration) {
	t.Helper()
	within(t, limit, "the VM pod to be Ready", func(ctx context.Context) error {
		pod, err := v.cluster.Pod(ctx, v.namespace, "vm")
		if err != nil {
			return err
		}
		if !pod.Ready() {
			return errors.New(pod.Why())
		}
		v.pod = pod
		v.addrs, err = v.podAddrs(pod)
		return err
	})
}

// waitPod waits until the pod is as asked.
func (v *vm) waitPod(t *testing.T, limit time.Duration, what string, is func(cluster.Pod) bool) cluster.Pod {
	t.Helper()
	var pod cluster.Pod
	within(t, limit, what, func(ctx context.Context) (err error) {
		if pod, err = v.cluster.Pod(ctx, v.namespace, "vm"); err != nil {
			return err
		}
		if !is(pod) {
			return errors.New(pod.Why())
		}
		return nil
	})
	return pod
}

// restarts returns how often a container of the pod was started anew.
func restarts(pod cluster.Pod, container string) int {
	status, _ := pod.Container(container)
	return status.RestartCount
}

// guest runs a shell command in the guest and returns what it printed. The guest
// is asked over its network, by an ordinary pod on its node.
func (v *vm) guest(ctx context.Context, command string) (string, error) {
	out, err := v.in(ctx, v.near(v.pod.Spec.NodeName), "timeout", "60", busybox, "wget", "-q", "-O", "-",
		"--post-data", command, url(v.addrs[v.families[0]], 7777, "/cgi-bin/run"))
	if err != nil {
		return "", err
	}
	// The last line is "exit" and the status; what is printed before may end in midline.
	out = strings.TrimSuffix(out, "\n")
	i := strings.LastIndex(out, "exit ")
	if i < 0 {
		return "", fmt.Errorf("running %q in the guest: the answer has no status: %q", command, out)
	}
	if out[i:] != "exit 0" {
		return "", fmt.Errorf("running %q in the guest: %s: %q", command, out[i:], out[:i])
	}
	return out[:i], nil
}

// run runs a shell command in the guest, which has to succeed at last.
func (v *vm) run(t *testing.T, command string) string {
	t.Helper()
	var out string
	within(t, time.Minute, "the guest to run a command", func(ctx context.Context) (err error) {
		out, err = v.guest(ctx, command)
		return err
	})
	return out
}

// uptime returns since when the guest runs, in seconds.
func (v *vm) uptime(t *testing.T) float64 {
	t.Helper()
	var up float64
	text := v.run(t, "cat /proc/uptime")
	if _, err := fmt.Sscan(text, &up); err != nil {
		t.Fatalf("the guest's uptime %q: %v", text, err)
	}
	return up
}

// greets asks whether the guest's own service answers an ordinary pod at a URL.
func (v *vm) greets(ctx context.Context, from peer, url string) error {
	out, err := v.fetch(ctx, from, url)
	if err == nil {
		err = v.isGreeting(out)
	}
	if err != nil {
		return fmt.Errorf("pod %q on node %q: %w", from.pod, from.node, err)
	}
	return nil
}

// isGreeting asks whether a text is what the guest serves: that names one of its
// addresses.
func (v *vm) isGreeting(text string) error {
	for _, addr := range v.addrs {
		if text == fmt.Sprintf("hello from vm at %s\n", addr) {
			return nil
		}
	}
	return fmt.Errorf("the guest serves %q; its addresses are %v", text, v.addrs)
}

// status asks podwire how the pod's network is.
func (v *vm) status(ctx context.Context) (status, error) {
	out, err := v.cluster.Exec(ctx, v.namespace, "vm", v.container, v.podwire, "status", "-o", "json")
	if err != nil {
		return status{}, fmt.Errorf("%w: %s", err, out)
	}
	return parseStatus(out)
}
