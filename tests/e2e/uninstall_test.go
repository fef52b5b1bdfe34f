//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"
)

// testUninstall takes the CNI plugin away as the page says, which waits for each
// node to say that nothing of it is left. Then pods have a network as ever, and
// one that asks to be wired is not.
func (w *world) testUninstall(t *testing.T, vms []*vm) {
	for _, v := range vms {
		if v.name != "chained" {
			continue
		}
		if err := v.cluster.DeleteNamespace(t.Context(), v.namespace); err != nil {
			t.Fatal(err) // its pods need the plugin when they go
		}
	}
	w.typeIn(t, 3*time.Minute, w.pageSays(t, "uninstall"))
	const after = "after"
	run := []string{
		"run", after, "--namespace", namespace, "--image", image, "--image-pull-policy=IfNotPresent",
		"--annotations=podwire.io/wire=true", "--command", "--", busybox, "sleep", "3600",
	}
	if _, err := w.cluster.Kubectl(t.Context(), run...); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "a pod on the network without podwire", func(ctx context.Context) error {
		_, err := w.cluster.Kubectl(ctx, "exec", "--namespace", namespace, after, "--",
			busybox, "ping", "-c", "1", "-W", "1", w.peers[0].addrs[w.families[0]].String())
		return err
	})
}
