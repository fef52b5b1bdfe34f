//go:build linux

package kernel

import (
	"slices"
	"testing"
	"time"

	"github.com/podwire/podwire/internal/netnstest"
)

// BenchmarkBridgeBinding is the whole of what a set-up asks of the kernel: the
// snapshot, and every step. Taking it back is measured by itself.
func BenchmarkBridgeBinding(b *testing.B) {
	ns, node := netnstest.New(b), netnstest.New(b)
	netnstest.Veth(b, ns, "eth0", node, "veth0")
	ns.IP(b, "addr add 10.244.1.7/24 brd + dev eth0", "route add default via 10.244.1.1")
	k := open(b, ns.Path)
	var setups, teardowns []time.Duration
	for b.Loop() {
		start := time.Now()
		s, err := k.Snapshot(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		steps := bridgeSteps(s)
		for _, step := range steps {
			if err := k.Do(b.Context(), step); err != nil {
				b.Fatal(err)
			}
		}
		done := time.Now()
		for _, step := range slices.Backward(steps) {
			if err := k.Undo(b.Context(), step); err != nil {
				b.Fatal(err)
			}
		}
		setups, teardowns = append(setups, done.Sub(start)), append(teardowns, time.Since(done))
	}
	b.ReportMetric(median(setups), "setup-µs")
	b.ReportMetric(median(teardowns), "teardown-µs")
}

// BenchmarkSnapshot opens the namespace each time, as a command does.
func BenchmarkSnapshot(b *testing.B) {
	ns, node := netnstest.New(b), netnstest.New(b)
	netnstest.Veth(b, ns, "eth0", node, "veth0")
	ns.IP(b, "addr add 10.244.1.7/24 brd + dev eth0", "route add default via 10.244.1.1")
	for b.Loop() {
		k, err := Open(ns.Path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := k.Snapshot(b.Context()); err != nil {
			b.Fatal(err)
		}
		k.Close()
	}
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Nanoseconds()) / 1000
}
