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
	of    func(shape) bool // of which shapes; of all where nil
	full  bool             // in the full suite alone: it does not depend on the layout
	needs bool             // the checks after it make no sense without it
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
	{name: "sidecar-crash", test: (*vm).testSidecarCrash, of: func(s shape) bool { return s.sidecar }, full: true},
	{name: "readiness", test: (*vm).testReadiness, full: true},
	{name: "liveness", test: (*vm).testLiveness, full: true, needs: true},
	{name: "delete", test: (*vm).testDelete},
	{name: "again", test: (*vm).testAgain, full: true, needs: true},
	{name: "evict", test: (*vm).testEvict, full: true},
}

// wanted reports whether the suite has the check.
func (c check) wanted() bool { return !c.full || options.suite == "full" }

// suite returns the names of the suite's checks.
func suite() []string {
	var names []string
	for _, c := range checks {
		if c.wanted() {
			names = append(names, c.name)
		}
	}
	return names
}

// TestShapes checks each shape, some at a time as -parallel has it, and at last
// restarts their nodes under them.
func TestShapes(t *testing.T) {
	w := newWorld(t)
	names, _ := wantedShapes() // checked at the start
	if slices.Contains(names, "chained") {
		w.installCNI(t)
	}
	if options.suite == "full" {
		w.findEnforcement(t)
	}
	var vms []*vm
	t.Run("shape", func(t *testing.T) {
		for _, name := range names {
			s, _ := shapeNamed(name)
			v := newVM(w, s)
			vms = append(vms, v)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				v.test(t)
			})
		}
	})
	if options.restartNode != "" && options.suite == "full" {
		t.Run("node-restart", func(t *testing.T) { w.testNodeRestart(t, vms) })
	}
	if slices.Contains(names, "chained") && options.suite == "full" {
		t.Run("uninstall", w.testUninstall)
	}
}

// test runs the suite's checks.
func (v *vm) test(t *testing.T) {
	for _, c := range checks {
		if !c.wanted() || c.of != nil && !c.of(v.shape) {
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
	began := time.Now()
	ok := t.Run(name, func(t *testing.T) {
		defer func() {
			if t.Failed() {
				v.collect(t, name)
			}
		}()
		test(v, t)
	})
	table.Note(v.name, name, ok, time.Since(began))
	return ok
}

// collect writes down what can be known of a check that failed.
func (v *vm) collect(t *testing.T, check string) {
	if v.name == "chained" { // whose wiring is not in its pod's logs
		collect(t, v.cluster, v.name+"-"+check+"-system", system)
	}
	dir := collect(t, v.cluster, v.name+"-"+check, v.namespace)
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
