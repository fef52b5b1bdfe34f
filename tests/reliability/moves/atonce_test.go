package moves

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// atOnce runs podwire several times at once, with one command each, and wants all to end
// with 0. It returns what they printed.
func (w *testWorld) atOnce(t *testing.T, commands ...string) []string {
	t.Helper()
	var ends []func() said
	for _, command := range commands {
		args := []string{command, "--log-level", "warn"}
		if command != "teardown" {
			args = append(args, "-o", "json")
		}
		ends = append(ends, w.begin(t, w.VM, exec.CommandContext(w.Ctx, w.program, args...)))
	}
	var out []string
	for i, end := range ends {
		s := end()
		if s.code != 0 {
			t.Errorf("podwire %s among %q ended with %d\n%s", commands[i], commands, s.code, s.err)
		}
		out = append(out, s.out)
	}
	return out
}

// servers is how many of podwire's servers run in the pod.
func (w *testWorld) servers(t *testing.T) int {
	t.Helper()
	out, err := w.VM.Run(w.Ctx, "sh", "-c", `for each in /proc/[0-9]*/cmdline; do tr '\0' ' ' <$each 2>/dev/null; echo; done`)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(out) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == w.program && words[1] == "serve" {
			n++
		}
	}
	return n
}

// TestManyAtOnce runs ten prestarts at once: there is one result, which all report, and one
// server. Ten teardowns at once give the pod back.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, patience)
		before := w.settled(t, w.VM)
		for i, out := range w.atOnce(t, slices.Repeat([]string{"prestart"}, 10)...) {
			if first := w.Podwire(t, "setup", "-o", "json"); out != first {
				t.Errorf("prestart %d of 10 at once printed\n%s, and setup after them\n%s", i, out, first)
			}
		}
		if n := w.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		st := w.Status(t)[0]
		if !st.Applied || !st.Serving || len(st.Drift) > 0 {
			t.Errorf("status: %+v", st)
		}
		// Whose tap is closed before the teardowns.
		t.Run("answered once", func(t *testing.T) {
			tap, guest := w.Plug(t, w.wired(t))
			c, err := client.Udhcpc(guest, w.Dir, "nic0", "-n", "-q")
			w.Wait(t, world.Running(t, c, err), "bound")
			if got := tap.Counts(); got["OFFER"] != got["DISCOVER"] || got["ACK"] != got["REQUEST"] {
				t.Errorf("one server answers each once, and there were %v", got)
			}
		})
		w.atOnce(t, slices.Repeat([]string{"teardown"}, 10)...)
		w.wantSettled(t, w.VM, before, "ten teardowns at once")
		if n := w.servers(t); n != 0 {
			t.Errorf("%d servers still run", n)
		}
	})
}

// wired is what setup says of the pod that is wired.
func (w *testWorld) wired(t *testing.T) world.Wired {
	t.Helper()
	return w.Wire(t)[0]
}

// TestSetupsAndTeardownsAtOnce lets them run into each other: each ends with 0, and after
// them the pod is either wired as planned or as it was found.
func TestSetupsAndTeardownsAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 3
	if world.Long() {
		rounds = 30
	}
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newRichWorld(t, b, patience*4)
		before := w.settled(t, w.VM)
		ended := map[bool]int{}
		for range rounds {
			w.atOnce(t, "setup", "teardown", "prestart", "setup", "teardown", "setup", "prestart", "teardown")
			_, err := w.VM.ReadFile(stateFile)
			wired := err == nil
			ended[wired]++
			if !wired {
				w.wantSettled(t, w.VM, before, "a round that ended with a teardown")
				if n := w.servers(t); n != 0 {
					t.Errorf("%d servers run of a pod that is not wired", n)
				}
				continue
			}
			if st := w.statusOf(t); !st.Applied || len(st.Drift) > 0 || w.servers(t) > 1 {
				t.Errorf("after a round: %+v, %d servers", st, w.servers(t))
			}
		}
		w.Podwire(t, "teardown")
		w.wantSettled(t, w.VM, before, "the last teardown")
		t.Logf("of %d rounds %d ended wired", rounds, ended[true])
		world.Figure(t, topic, "rounds of 8 commands at once, "+string(b), rounds)
	})
}
