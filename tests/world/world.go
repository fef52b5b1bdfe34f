// Package world is what most tests of podwire begin with: a node with a pod for the VM and
// another pod on the same network, podwire in the first, and a guest at its tap. It has
// no tests of its own: they are those that use it.
package world

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// World is a node with a pod for the VM and another pod on the same network.
type World struct {
	Ctx     context.Context
	Dir     checkout.Dir
	Binding pod.Binding
	Node    *pod.Node
	VM      *pod.Pod
	Other   *pod.Pod
}

// New makes the world, whose binding is bridge, and has the test end within the given time.
func New(t *testing.T, newPod Shape, resolvConf string, limit time.Duration) *World {
	t.Helper()
	w := &World{Binding: pod.Bridge}
	var err error
	w.Ctx, w.Dir, w.Node = pod.NewTestNode(t, limit)
	if w.VM, err = newPod(w.Ctx, w.Node, "vm-0", 10); err != nil {
		t.Fatal(err)
	}
	if w.Other, err = newPod(w.Ctx, w.Node, "web-0", 11); err != nil {
		t.Fatal(err)
	}
	if err := w.VM.SetResolvConf(resolvConf); err != nil {
		t.Fatal(err)
	}
	return w
}

// OnEach runs a test with each binding, as a subtest.
func OnEach(t *testing.T, test func(t *testing.T, b pod.Binding)) {
	t.Helper()
	for _, b := range pod.Bindings {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// OnEachShape runs a test with each binding in each shape of pod network.
func OnEachShape(t *testing.T, test func(t *testing.T, b pod.Binding, shape string)) {
	t.Helper()
	for shape := range Shapes {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			OnEach(t, func(t *testing.T, b pod.Binding) { test(t, b, shape) })
		})
	}
}

// With has podwire use a binding.
func (w *World) With(b pod.Binding) *World {
	w.Binding = b
	w.VM.Bind(b)
	return w
}

// GuestAddr is the guest's IPv4 address.
func (w *World) GuestAddr() netip.Addr { return w.Binding.Guest(w.VM.Addr).Addr() }

// GuestGateway is the guest's IPv4 gateway.
func (w *World) GuestGateway() netip.Addr { return w.Binding.Gateway(w.VM.Gateway) }

// GuestAddr6 is the guest's first IPv6 address, in a pod with one.
func (w *World) GuestAddr6() netip.Addr {
	own := Addr6(w.VM)
	return w.Binding.Guest(netip.PrefixFrom(own, own.BitLen())).Addr()
}

// Afresh gives the clean-up of a test a context: the test's own has ended.
func (w *World) Afresh(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Ctx), 10*time.Second)
	t.Cleanup(cancel)
	w.Ctx = ctx
}

// Reachable are the addresses that the pod reaches, and so its guest must.
func (w *World) Reachable() []netip.Addr {
	addrs := []netip.Addr{w.Other.Addr.Addr(), pod.Outside}
	if !w.VM.Gateway.IsLinkLocalUnicast() { // which no link has: it answers ARP and nothing else
		addrs = append(addrs, w.VM.Gateway)
	}
	return addrs
}

// Settled is the pod's network at rest, by sorted lines.
func (w *World) Settled(t *testing.T) []string {
	t.Helper()
	lines, err := w.VM.Settled(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
