//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

// testSidecarCrash crashes the server under the running VM. The kubelet starts it
// anew, it answers the guest as before, and the VM noticed nothing.
func (v *vm) testSidecarCrash(t *testing.T) {
	v.waitReady(t, time.Minute)
	before := v.pod
	up := v.uptime(t)
	// The first process of a PID namespace gets no signal from within that it has
	// no handler for, and so no SIGKILL. A Go program's SIGABRT ends in a crash.
	name := fmt.Sprintf("crash-%d", len(before.Status.Ephemeral))
	if err := v.cluster.RunBeside(t.Context(), v.namespace, "vm", v.container, name, image, busybox, "kill", "-ABRT", "1"); err != nil {
		t.Fatal(err)
	}
	v.waitPod(t, time.Minute, "the crashed server to be started anew", func(p cluster.Pod) bool {
		return restarts(p, v.container) > restarts(before, v.container)
	})
	v.waitReady(t, time.Minute)
	v.untouched(t, before, up)
	for _, f := range v.families {
		v.run(t, "kill -USR1 $(pidof "+dhcpClient[f]+")")
		within(t, 30*time.Second, "the new server to answer the guest's "+dhcpClient[f], func(ctx context.Context) error { return v.renewed(ctx, f) })
	}
	v.untouched(t, before, up)
}

// untouched makes sure that the VM has run on.
func (v *vm) untouched(t *testing.T, before cluster.Pod, up float64) {
	t.Helper()
	if was, is := restarts(before, "vm"), restarts(v.pod, "vm"); is != was {
		t.Errorf("the VM's container was restarted %d times", is-was)
	}
	if now := v.uptime(t); now < up {
		t.Errorf("the guest is up for %.0f s, and was for %.0f s before", now, up)
	}
}

// dhcpClient is the guest's, which renews its lease when it gets a SIGUSR1.
var dhcpClient = map[family]string{ipv4: "udhcpc", ipv6: "udhcpc6"}

// renewed asks whether the server, which remembers nothing of its life before,
// has given the guest its lease.
func (v *vm) renewed(ctx context.Context, f family) error {
	st, err := v.status(ctx)
	if err == nil && (st.Guest == nil || st.Guest.bound(f).IsZero()) {
		err = fmt.Errorf("the server last had of the guest: %+v", st.Guest)
	}
	return err
}
