package world

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Podwire runs podwire in the VM's pod and returns what it printed.
func (w *World) Podwire(t *testing.T, args ...string) string {
	t.Helper()
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.VM.Run(w.Ctx, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Wired is what podwire's setup prints, in so far as the tests want it.
type Wired struct {
	Pod string `json:"podInterface"`
	Tap string `json:"tap"`
	MAC string `json:"mac"`
	MTU int    `json:"mtu"`
}

// Prestart wires the pod's one interface and serves it. At the end of the test the
// network is given back, and must be what it was.
func (w *World) Prestart(t *testing.T, args ...string) Wired {
	t.Helper()
	all := w.PrestartAll(t, args...)
	if len(all) != 1 {
		t.Fatalf("podwire prestart wired %v, want one interface", all)
	}
	return all[0]
}

// PrestartAll is prestart for any number of interfaces.
func (w *World) PrestartAll(t *testing.T, args ...string) []Wired {
	t.Helper()
	before := w.Settled(t)
	all := w.Wire(t, args...)
	t.Cleanup(func() {
		w.Afresh(t)
		w.Podwire(t, "teardown")
		if diff := cmp.Diff(before, w.Settled(t)); diff != "" {
			t.Errorf("the pod's network after teardown (-before +after):\n%s", diff)
		}
	})
	return all
}

// Wire is PrestartAll without the end.
func (w *World) Wire(t *testing.T, args ...string) []Wired {
	t.Helper()
	var result struct{ Interfaces []Wired }
	out := w.Podwire(t, append([]string{"prestart", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("podwire prestart printed %q: %v", out, err)
	}
	return result.Interfaces
}

// Status is what podwire's status says of an interface, in so far as the tests want it.
type Status struct {
	Pod      string            `json:"podInterface"`
	Network  string            `json:"network"`
	Plain    bool              `json:"plain"`
	Warnings []string          `json:"warnings"`
	Applied  bool              `json:"applied"`
	Drift    []string          `json:"drift"`
	Serving  bool              `json:"serving"`
	PID      int               `json:"pid"`
	Counts   map[string]uint64 `json:"counts"`
}

// Status is podwire's status of each interface, all of which must be well.
func (w *World) Status(t *testing.T) []Status {
	t.Helper()
	var result struct{ Interfaces []Status }
	out := w.Podwire(t, "status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("podwire status printed %q: %v", out, err)
	}
	return result.Interfaces
}

// KillServer ends podwire's server as a crash does.
func (w *World) KillServer(t *testing.T) {
	t.Helper()
	pid := w.Status(t)[0].PID
	w.Output(t, w.VM.Space, "kill -9 "+strconv.Itoa(pid))
	w.Eventually(t, "does not serve any more", func() string {
		program, err := w.Dir.Program("podwire")
		if err != nil {
			t.Fatal(err)
		}
		out, err := w.VM.Run(w.Ctx, program, "status")
		if err == nil {
			return out
		}
		return ""
	})
}

// Serve starts podwire's server anew, as somebody who supervises it does.
func (w *World) Serve(t *testing.T) {
	t.Helper()
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	const ready = "/run/served"
	log := Daemon(t, w.VM.Space, program, "serve", "--ready-file", ready)
	w.Eventually(t, "serves", func() string {
		if _, err := w.VM.ReadFile(ready); err != nil {
			return "it is not ready: " + log()
		}
		return ""
	})
}
