//go:build e2e

package e2e

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/cluster"
)

// testReadiness takes the guest's service out of service, as the guest's own
// administrator would, and puts it back.
func (v *vm) testReadiness(t *testing.T) {
	before := restarts(v.pod, "vm")
	v.run(t, "rm -f /www/ready")
	v.waitPod(t, time.Minute, "the pod not to be Ready", func(p cluster.Pod) bool { return !p.Ready() })
	within(t, time.Minute, "the VM to leave its service", func(ctx context.Context) error { return v.isEndpoint(ctx, false) })
	v.run(t, "touch /www/ready")
	v.waitReady(t, time.Minute)
	within(t, time.Minute, "the VM to join its service", func(ctx context.Context) error { return v.isEndpoint(ctx, true) })
	if after := restarts(v.pod, "vm"); after != before {
		t.Errorf("the VM's container was restarted %d times meanwhile", after-before)
	}
}

// testLiveness ends the guest's service for good: the VM is started anew, in the
// same pod, with the same address.
func (v *vm) testLiveness(t *testing.T) {
	before, addrs := v.pod, v.addrs
	up := v.uptime(t)
	v.run(t, killHTTPD)
	v.waitPod(t, 4*time.Minute, "the VM's container to be restarted", func(p cluster.Pod) bool {
		return restarts(p, "vm") > restarts(before, "vm")
	})
	v.waitReady(t, options.ready)
	if v.pod.UID != before.UID || !maps.Equal(v.addrs, addrs) {
		t.Errorf("the pod %s at %v is now %s at %v", before.UID, addrs, v.pod.UID, v.addrs)
	}
	if again := v.uptime(t); again >= up {
		t.Errorf("the guest is up for %.0f s, and was for %.0f s before: it was not started anew", again, up)
	}
	v.reachable(t)
}

// killHTTPD ends the server at port 80, and not the one by which it is told to.
const killHTTPD = `kill $(ps | awk '/httpd/ && / 80( |$)/ && !/awk/ {print $1}')`
