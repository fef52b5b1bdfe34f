//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

// vm is a VM pod.
type vm struct {
	*world
	kind
	namespace string
	pod       cluster.Pod // as it was when it was last Ready
	addrs     addrs       // of the pod
}

func newVM(w *world, k kind) *vm {
	return &vm{world: w, kind: k, namespace: k.namespace()}
}

// guestAddrs are the guest's own addresses.
func (v *vm) guestAddrs() addrs {
	if v.binding.guest == nil {
		return v.addrs
	}
	own := addrs{}
	for _, f := range v.families {
		own[f] = v.binding.guest[f]
	}
	return own
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

// applyShape applies the shape's manifests, as they are or with the components of the
// binding, of IPv6 forwarding and of KVM.
func (v *vm) applyShape(ctx context.Context) error {
	dir := v.manifests(v.name)
	if with := v.components(); len(with) > 0 {
		var err error
		if dir, err = v.overlay(with); err != nil {
			return err
		}
	}
	return v.cluster.ApplyDir(ctx, dir)
}

// components are those of manifests/components that the VM pod is made with.
func (v *vm) components() []string {
	var names []string
	if !v.plain() {
		names = append(names, v.binding.component)
	}
	if v.binding.forwards && slices.Contains(v.families, ipv6) && v.name != "split" {
		names = append(names, "ipv6-forwarding")
	}
	if options.accel == "kvm" {
		names = append(names, "kvm")
	}
	return names
}

// overlay writes a kustomization of the shape with components, and returns where.
func (v *vm) overlay(components []string) (string, error) {
	dir := filepath.Join(fromTop(v.dir, options.artifacts), "kustomize", v.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// kustomize takes no absolute paths.
	shape, err := filepath.Rel(dir, v.manifests(v.name))
	if err != nil {
		return "", err
	}
	with := make([]string, len(components))
	for i, name := range components {
		if with[i], err = filepath.Rel(dir, v.manifests(filepath.Join("components", name))); err != nil {
			return "", err
		}
	}
	text, err := v.render("kustomization.yaml", map[string]any{
		"Namespace": v.namespace, "Resource": shape, "Components": with, "Shape": v.name, "Binding": v.binding.name,
		"Privileged": v.binding.forwards && slices.Contains(v.families, ipv6) && v.name == "split",
		"Ports":      guestPorts, "ExcludePort": podPort,
	})
	if err != nil {
		return "", err
	}
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
	for _, addr := range v.guestAddrs() {
		if text == fmt.Sprintf("hello from vm at %s\n", addr) {
			return nil
		}
	}
	return fmt.Errorf("the guest serves %q; its addresses are %v", text, v.guestAddrs())
}

// status asks podwire how the pod's network is.
func (v *vm) status(ctx context.Context) (status, error) {
	out, err := v.cluster.Exec(ctx, v.namespace, "vm", v.container, v.podwire, "status", "-o", "json")
	if err != nil {
		return status{}, fmt.Errorf("%w: %s", err, out)
	}
	return parseStatus(out)
}
