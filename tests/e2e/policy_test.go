//go:build e2e

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

// enforced is whether the cluster enforces network policies of a family against a pod
// on the same node and against one on another: some enforce them between nodes alone,
// and some of IPv4 alone.
type enforced struct {
	near, far bool
}

// findEnforcement finds out on an ordinary pod how the cluster enforces network
// policies.
func (w *world) findEnforcement(t *testing.T) {
	t.Helper()
	w.apply(t, "control.yaml", nil)
	var control peer
	within(t, time.Minute, "an ordinary pod to answer", func(ctx context.Context) error {
		pod, err := w.cluster.Pod(ctx, namespace, "control")
		if err != nil {
			return err
		}
		control = peer{node: pod.Spec.NodeName}
		control.addrs, err = w.podAddrs(pod)
		for _, f := range w.families {
			_, nearErr := w.fetch(ctx, w.near(control.node), url(control.addrs[f], 80, "/"))
			_, farErr := w.fetch(ctx, w.far(control.node), url(control.addrs[f], 80, "/"))
			err = errors.Join(err, nearErr, farErr)
		}
		return err
	})
	w.apply(t, "deny.yaml", map[string]any{"Pod": "control"})
	w.enforced = map[family]enforced{}
	for _, f := range w.families {
		at := url(control.addrs[f], 80, "/")
		is := enforced{near: w.denied(t, w.near(control.node), at), far: w.denied(t, w.far(control.node), at)}
		w.enforced[f] = is
		for relation, is := range map[string]bool{"on one node": is.near, "between nodes": is.far} {
			if !is {
				note := "policy: not enforced by this cluster over " + string(f) + " " + relation + ": one that denies all did not cut off an ordinary pod"
				t.Log(note)
				for _, table := range tables {
					table.Say(note)
				}
			}
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

// client is an ordinary pod, and where it finds the VM in one of the families.
type client struct {
	peer
	at string
}

// restricted are the clients whom a policy keeps from the VM as it keeps them from an
// ordinary pod.
func (v *vm) restricted() []client {
	var clients []client
	for _, f := range v.families {
		at := url(v.addrs[f], 80, "/")
		if v.enforced[f].near {
			clients = append(clients, client{v.near(v.pod.Spec.NodeName), at})
		}
		if v.enforced[f].far {
			clients = append(clients, client{v.far(v.pod.Spec.NodeName), at})
		}
	}
	return clients
}

// testPolicy cuts the VM off by a policy, and lets the ordinary pods in again by
// another, from where that works with an ordinary pod.
func (v *vm) testPolicy(t *testing.T) {
	clients := v.restricted()
	if len(clients) == 0 {
		t.Log("not enforced by this cluster, on ordinary pods either: nothing to compare a VM with")
		tables[v.binding.name].Mark(v.name, "policy", "not enforced")
		return
	}
	v.apply(t, "deny.yaml", map[string]any{"Namespace": v.namespace, "Pod": "vm"})
	t.Cleanup(func() {
		if err := v.command(time.Minute, "delete", "--namespace", v.namespace, "networkpolicies", "--all"); err != nil {
			t.Error(err)
		}
	})
	for _, c := range clients {
		within(t, time.Minute, "the VM to be cut off at "+c.at+" from node "+c.node, func(ctx context.Context) error { return v.cutOff(ctx, c.peer, c.at) })
	}
	v.apply(t, "allow.yaml", map[string]any{"Namespace": v.namespace, "Pod": "vm", "From": namespace})
	for _, c := range clients {
		within(t, time.Minute, "the VM to be reached again at "+c.at, func(ctx context.Context) error { return v.greets(ctx, c.peer, c.at) })
	}
}
