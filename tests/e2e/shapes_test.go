//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/cluster"
)

// check is one thing that is asked of each shape.
type check struct {
	name  string
	test  func(*vm, *testing.T)
	of    func(kind) bool // of which kinds; of all where nil
	full  bool            // in the full suite alone: it does not depend on the layout
	needs bool            // the checks after it make no sense without it
}

var checks = []check{
	{name: "ready", test: (*vm).start, needs: true},
	{name: "guest", test: (*vm).testGuest},
	{name: "pod-to-vm", test: (*vm).testPodToVM},
	{name: "vm-to-pod", test: (*vm).testVMToPod},
	{name: "bulk", test: (*vm).testBulk},
	{name: "service", test: (*vm).testService},
	{name: "dns", test: (*vm).testDNS},
	{name: "apiserver", test: (*vm).testAPIServer},
	{name: "vm-service", test: (*vm).testVMService},
	{name: "port-forward", test: (*vm).testPortForward, full: true},
	{name: "policy", test: (*vm).testPolicy, full: true},
	{name: "beside", test: (*vm).testBeside, full: true},
	{name: "ports", test: (*vm).testPorts, of: func(k kind) bool { return k.binding.beside }, full: true},
	{name: "sidecar-crash", test: (*vm).testSidecarCrash, of: func(k kind) bool { return k.sidecar }, full: true},
	{name: "readiness", test: (*vm).testReadiness, full: true},
	// Where a sidecar serves, the pod is wired once, and the restart of the VM's container is
	// nothing to it.
	{name: "liveness", test: (*vm).testLiveness, of: func(k kind) bool { return k.plain() || !k.sidecar }, full: true, needs: true},
	{name: "delete", test: (*vm).testDelete},
	{name: "again", test: (*vm).testAgain, of: kind.plain, full: true, needs: true},
	{name: "evict", test: (*vm).testEvict, of: kind.plain, full: true},
}

// wanted reports whether the suite has the check for a kind of VM pod.
func (c check) wanted(k kind) bool {
	return (!c.full || options.suite == "full") && (c.of == nil || c.of(k))
}

// suite returns the names of the suite's checks with a binding.
func suite(b binding) []string {
	var names []string
	for _, c := range checks {
		if slices.ContainsFunc(shapes, func(s shape) bool { return c.wanted(kind{s, b}) }) {
			names = append(names, c.name)
		}
	}
	return names
}

// TestShapes checks each shape with each binding, some at a time as -parallel has it, and at last
// restarts their nodes under them.
func TestShapes(t *testing.T) {
	w := newWorld(t)
	kinds, _ := wantedKinds() // checked at the start
	chained := slices.ContainsFunc(kinds, func(k kind) bool { return k.name == "chained" })
	if chained {
		w.installCNI(t)
	}
	if options.suite == "full" {
		w.findEnforcement(t)
	}
	var vms []*vm
	t.Run("shape", func(t *testing.T) {
		for _, k := range kinds {
			v := newVM(w, k)
			vms = append(vms, v)
			t.Run(k.String(), func(t *testing.T) {
				t.Parallel()
				v.test(t)
			})
		}
	})
	if options.restartNode != "" && options.suite == "full" {
		t.Run("node-restart", func(t *testing.T) { w.testNodeRestart(t, vms) })
	}
	if chained && options.suite == "full" {
		t.Run("uninstall", func(t *testing.T) { w.testUninstall(t, vms) })
	}
}

// test runs the suite's checks.
func (v *vm) test(t *testing.T) {
	for _, c := range checks {
		if !c.wanted(v.kind) {
			continue
		}
		if ok := v.check(t, c.name, c.test); !ok && c.needs {
			return
		}
	}
}

// check runs a check, notes how it went and how long it took, and, if it failed,
// what can be known.
func (v *vm) check(t *testing.T, name string, test func(*vm, *testing.T)) bool {
	began, ran := time.Now(), false
	ok := t.Run(name, func(t *testing.T) {
		ran = true
		defer func() {
			if t.Failed() {
				v.collect(t, name)
			}
		}()
		test(v, t)
	})
	if ran { // as -test.run has it
		tables[v.binding.name].Note(v.name, name, ok, time.Since(began))
	}
	return ok
}

// collect writes down what can be known of a check that failed.
func (v *vm) collect(t *testing.T, check string) {
	name := v.String() + "-" + check
	if v.name == "chained" { // whose wiring is not in its pod's logs
		collect(t, v.cluster, name+"-system", system)
	}
	dir := collect(t, v.cluster, name, v.namespace)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := v.cluster.SaveExec(ctx, dir, "podwire-status.json", v.namespace, "vm", v.container, v.podwire, "status", "-o", "json"); err != nil {
		t.Log(err)
	}
}

// collect returns the folder in which it wrote down what can be known of a namespace.
func collect(t *testing.T, c *cluster.Cluster, name, namespace string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir := filepath.Join(fromTop(checkout.Dir(c.Dir), options.artifacts), options.layout+"-"+options.family, name)
	if err := c.Collect(ctx, dir, namespace); err != nil {
		t.Logf("collecting what can be known: %v", err)
	}
	t.Logf("what can be known is in %s", dir)
	return dir
}
