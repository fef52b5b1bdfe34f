//go:build linux

package kernel

import (
	"os"
	"runtime"
	"testing"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/plan"
)

// held is what this process has open, and how many goroutines it has.
func held(t *testing.T) (files, goroutines int) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open), runtime.NumGoroutine()
}

// TestAProcessThatGoesOnLeaksNothing opens a pod, wires it, listens on its tap, gives it back
// and closes it, again and again, as the launcher's process may: no file stays open, no
// goroutine and no thread stays. It is alone: others' files would be counted too.
func TestAProcessThatGoesOnLeaksNothing(t *testing.T) {
	p := newPod(t, shapes[0].lines)
	once := func(b config.Binding) {
		k, err := Open(p.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		steps := plannedFor(t, p.snapshot(t), b)
		for _, s := range steps {
			if err := k.Do(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := k.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		tap, err := k.OpenTap("tap-eth0", []plan.Match{{Kind: plan.MatchDHCPClient}})
		if err != nil {
			t.Fatal(err)
		}
		defer tap.Close()
		for i := len(steps) - 1; i >= 0; i-- {
			if err := k.Undo(t.Context(), steps[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	bindings := []config.Binding{config.Bridge, config.TC, config.Masquerade}
	for _, b := range bindings {
		once(b)
	}
	files, goroutines := held(t)
	for i := range 60 {
		once(bindings[i%len(bindings)])
	}
	until(t, "what was opened to be closed", func() bool {
		nowFiles, nowGoroutines := held(t)
		return nowFiles <= files && nowGoroutines <= goroutines
	})
}
