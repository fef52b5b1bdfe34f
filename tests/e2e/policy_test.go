//go:build e2e

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

// enforced is whether the cluster enforces network policies against a pod on the
// same node and against one on another: some enforce them between nodes alone.
type enforced struct {
	near, far bool
}

// findEnforcement finds out on an ordinary pod how the cluster enforces network
// policies.
func (w *world) findEnforcement(t *testing.T) {
	t.Helper()
	w.apply(t, "control.yaml", nil)
	var node, at string
	within(t, time.Minute, "an ordinary pod to answer", func(ctx context.Context) error {
		pod, err := w.cluster.Pod(ctx, namespace, "control")
		if err != nil {
			return err
		}
		addr, err := w.family.addr(pod)
		if err != nil {
			return err
		}
		node, at = pod.Spec.NodeName, url(addr, 80, "/")
		_, nearErr := w.fetch(ctx, w.near(node), at)
		_, farErr := w.fetch(ctx, w.far(node), at)
		return errors.Join(nearErr, farErr)
	})
	w.apply(t, "deny.yaml", map[string]string{"Pod": "control"})
	w.enforced = enforced{near: w.denied(t, w.near(node), at), far: w.denied(t, w.far(node), at)}
	for relation, is := range map[string]bool{"on one node": w.enforced.near, "between nodes": w.enforced.far} {
		if !is {
			note := "policy: not enforced by this cluster " + relation + ": one that denies all did not cut off an ordinary pod"
			t.Log(note)
			table.Say(note)
		}
	}
}

// denied reports whether an ordinary pod is cut off from a URL in the time in which
// a cluster that enforces policies does so.
func (w *world) denied(t *testing.T, from peer, at string) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	return cluster.Poll(ctx, time.Second, func(ctx context.Context) error { return w.cutOff(ctx, from, at) }) == nil
}

var errReached = errors.New("it is reached all the same")

// cutOff asks whether an ordinary pod reaches a URL no more.
func (w *world) cutOff(ctx context.Context, from peer, url string) error {
	if _, err := w.fetch(ctx, from, url); err == nil {
		return errReached
	}
	return w.works(ctx, from)
}

// works asks whether commands can be run in an ordinary pod at all: that tells one
// that failed there from trouble on the way.
func (w *world) works(ctx context.Context, p peer) error {
	_, err := w.in(ctx, p, "true")
	return err
}

// testPolicy cuts the VM off by a policy, and lets the ordinary pods in again by
// another, from where that works with an ordinary pod.
func (v *vm) testPolicy(t *testing.T) {
	var clients []peer
	if v.enforced.near {
		clients = append(clients, v.near(v.pod.Spec.NodeName))
	}
	if v.enforced.far {
		clients = append(clients, v.far(v.pod.Spec.NodeName))
	}
	if len(clients) == 0 {
		t.Log("not enforced by this cluster, on ordinary pods either: nothing to compare a VM with")
		table.Mark(v.name, "policy", "not enforced")
		return
	}
	at := url(v.addr, 80, "/")
	v.apply(t, "deny.yaml", map[string]string{"Namespace": v.namespace, "Pod": "vm"})
	t.Cleanup(func() {
		if err := v.command(time.Minute, "delete", "--namespace", v.namespace, "networkpolicies", "--all"); err != nil {
			t.Error(err)
		}
	})
	for _, from := range clients {
		within(t, time.Minute, "the VM to be cut off from node "+from.node, func(ctx context.Context) error { return v.cutOff(ctx, from, at) })
	}
	v.apply(t, "allow.yaml", map[string]string{"Namespace": v.namespace, "Pod": "vm", "From": namespace})
	for _, from := range clients {
		within(t, time.Minute, "the VM to be reached again", func(ctx context.Context) error { return v.greets(ctx, from, at) })
	}
}
