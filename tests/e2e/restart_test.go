//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"
)

// testNodeRestart restarts the nodes that the VMs run on, each under all its VMs
// at once. Their pods stay, in new sandboxes, and their guests have what the API
// then says.
func (w *world) testNodeRestart(t *testing.T, vms []*vm) {
	var alive []*vm
	for _, v := range vms {
		if v.pod.UID == "" { // that it was never Ready has been said
			continue
		}
		if err := v.applyShape(t.Context()); err != nil {
			t.Fatal(err)
		}
		alive = append(alive, v)
	}
	byNode := map[string][]*vm{}
	for _, v := range alive {
		v.waitReady(t, options.ready)
		byNode[v.pod.Spec.NodeName] = append(byNode[v.pod.Spec.NodeName], v)
	}
	for node, on := range byNode {
		w.restart(t, node)
		for _, v := range on {
			t.Run(v.String(), func(t *testing.T) { v.check(t, "restarted", (*vm).testComesBack) })
		}
	}
}

// restart restarts a node, and waits until it is back and knows it.
func (w *world) restart(t *testing.T, node string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", options.restartNode+` "$1"`, "sh", node)
	cmd.Dir = string(w.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("restarting node %q: %v: %s", node, err, out)
	}
	within(t, 3*time.Minute, "the node to be Ready again", func(ctx context.Context) error {
		nodes, err := w.cluster.Nodes(ctx)
		if err != nil {
			return err
		}
		for _, each := range nodes {
			if each.Name == node && each.Ready() {
				return nil
			}
		}
		return fmt.Errorf("node %q is not Ready", node)
	})
}

// testComesBack waits for a pod whose node was restarted. Until the kubelet has
// looked at it, the API has it Ready as it was.
func (v *vm) testComesBack(t *testing.T) {
	before := v.pod
	old, _ := before.Container("vm")
	within(t, options.ready+time.Minute, "the pod to be back", func(ctx context.Context) error {
		pod, err := v.cluster.Pod(ctx, v.namespace, "vm")
		if err != nil {
			return err
		}
		status, _ := pod.Container("vm")
		switch {
		case pod.UID != before.UID:
			return fmt.Errorf("pod %s is now %s", before.UID, pod.UID)
		case status.ContainerID == old.ContainerID:
			return errors.New("the container is that of before the restart")
		case !pod.Ready():
			return errors.New(pod.Why())
		}
		v.pod = pod
		v.addrs, err = v.podAddrs(pod)
		return err
	})
	within(t, 2*time.Minute, "the ordinary pods to be back", v.findPeers)
	v.reachable(t)
	v.hasAddresses(t)
}
