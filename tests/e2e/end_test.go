//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// testDelete deletes the pod.
func (v *vm) testDelete(t *testing.T) {
	v.endsWell(t, func(ctx context.Context) error {
		_, err := v.cluster.Kubectl(ctx, "delete", "--namespace", v.namespace, "pod", "vm", "--wait=false")
		return err
	})
}

// testEvict evicts the pod, as a node that is drained does.
func (v *vm) testEvict(t *testing.T) {
	v.endsWell(t, func(ctx context.Context) error { return v.cluster.Evict(ctx, v.namespace, "vm") })
}

// testAgain starts the pod afresh.
func (v *vm) testAgain(t *testing.T) {
	before := v.pod.UID
	v.start(t)
	if v.pod.UID == before {
		t.Error("it is the same pod")
	}
	v.reachable(t)
}

// endsWell ends the pod and makes sure that its guest was asked to shut down, did
// so in the time it had, and left nothing behind.
func (v *vm) endsWell(t *testing.T, end func(context.Context) error) {
	t.Helper()
	pod := v.pod
	grace := time.Duration(pod.Spec.GracePeriod) * time.Second
	log, err := v.cluster.Follow(t.Context(), v.namespace, "vm", "vm")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	within(t, 30*time.Second, "the VM's log", func(context.Context) error {
		if log.Text() == "" {
			return fmt.Errorf("it is empty")
		}
		return nil
	})
	began := time.Now()
	if err := end(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, grace+time.Minute, "the pod to be gone", func(ctx context.Context) error {
		return v.cluster.Gone(ctx, v.namespace, "vm", pod.UID)
	})
	if took := time.Since(began); took >= grace {
		t.Errorf("the pod took %.0f s to end; its grace period is %s", took.Seconds(), grace)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	text, err := log.Wait(ctx)
	if err != nil {
		t.Errorf("following the VM's log to its end: %v", err)
	}
	v.shutDown(t, text)
	v.leftNothing(t)
}

// shutDown makes sure of the end of a VM's log: the guest was asked, and it was
// the guest that ended it.
func (v *vm) shutDown(t *testing.T, log string) {
	t.Helper()
	last := log[max(0, len(log)-2000):]
	if !strings.Contains(log, "power-button") {
		t.Errorf("the guest was not asked to shut down; the log ends with:\n%s", last)
	}
	if !v.launcher {
		return
	}
	if !strings.Contains(log, "the guest shut down") || strings.Contains(log, "destroying the domain") {
		t.Errorf("the guest did not shut down by itself; the log ends with:\n%s", last)
	}
}

// leftNothing makes sure that the node could undo the pod's network, and that
// nobody answers at the address, unless another pod has it by now.
func (v *vm) leftNothing(t *testing.T) {
	t.Helper()
	events, err := v.cluster.Events(t.Context(), v.namespace, "FailedKillPod")
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		t.Errorf("%s %s: %s", event.Object.Kind, event.Object.Name, event.Message)
	}
	for _, addr := range v.addrs {
		within(t, 30*time.Second, "the pod's address to be free", func(ctx context.Context) error {
			if _, err := v.in(ctx, v.far(v.pod.Spec.NodeName), "ping", "-c", "1", "-W", "1", addr.String()); err != nil {
				return v.works(ctx, v.far(v.pod.Spec.NodeName))
			}
			return v.takenByAnother(ctx, addr)
		})
	}
}

// takenByAnother asks whether a pod has an address that the VM had.
func (v *vm) takenByAnother(ctx context.Context, had netip.Addr) error {
	out, err := v.cluster.Kubectl(ctx, "get", "pods", "--all-namespaces", "-o", "jsonpath={.items[*].status.podIPs[*].ip}")
	if err != nil {
		return err
	}
	for _, addr := range strings.Fields(out) {
		if addr == had.String() {
			return nil
		}
	}
	return fmt.Errorf("%s answers, and is no pod's", had)
}
