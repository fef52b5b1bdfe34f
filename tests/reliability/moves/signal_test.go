package moves

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// signals are those that end a program in order, or that it gets when somebody has gone.
var signals = []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE}

// mostCalls is more than podwire makes in any of these runs.
const mostCalls = 2000

// signalled runs podwire, and sends it a signal while it makes its n-th call; it reports
// whether there was such a call.
func (w *testWorld) signalled(t *testing.T, command string, sig unix.Signal, n int) (fault.Result, bool) {
	t.Helper()
	sent := false
	cmd := exec.CommandContext(w.Ctx, w.program, command, "--log-level", "warn")
	result, err := fault.Run(w.VM.Space, fault.Changing, cmd, func(c fault.Call) fault.Verdict {
		if c.Number >= n && !sent && !c.Child {
			sent = true
			_ = unix.Kill(c.PID, sig)
		}
		return fault.Verdict{}
	})
	if err != nil {
		t.Fatal(err)
	}
	return result, sent
}

// TestSignalsAtAnyMoment sends a signal to setup, prestart and teardown at each of their
// calls, one in a run. What they say by their exit code is so: 0 is done, 1 is as found; and
// a teardown that was ended before it began says that the pod is still wired, by 3.
func TestSignalsAtAnyMoment(t *testing.T) {
	t.Parallel()
	step := 13 // and all four signals in turn
	if world.Long() {
		step = 1
	}
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newRichWorld(t, b, 40*time.Minute)
		before := w.settled(t, w.VM)
		tried := 0
		for _, command := range []string{"setup", "prestart"} {
			tried += w.eachMoment(t, step, func(sig unix.Signal, n int) bool { return w.wiredOrNot(t, command, sig, n, before) })
		}
		tried += w.eachMoment(t, step, func(sig unix.Signal, n int) bool { return w.unwiredOrNot(t, sig, n, before) })
		world.Figure(t, topic, "moments of a signal, "+string(b), tried)
	})
}

// eachMoment tries moments until there is none, and returns how many there were.
func (w *testWorld) eachMoment(t *testing.T, step int, try func(sig unix.Signal, n int) bool) (tried int) {
	t.Helper()
	for n := 1; n < mostCalls; n += step {
		each := signals
		if !world.Long() {
			each = signals[tried%len(signals) : tried%len(signals)+1]
		}
		for _, sig := range each {
			if !try(sig, n) {
				return tried
			}
			tried++
		}
	}
	t.Fatalf("podwire still made calls after %d", mostCalls)
	return tried
}

// wiredOrNot has a signal come while the pod is wired, and gives the pod back.
func (w *testWorld) wiredOrNot(t *testing.T, command string, sig unix.Signal, n int, before []string) bool {
	t.Helper()
	result, sent := w.signalled(t, command, sig, n)
	what := command + " that got " + unix.SignalName(sig)
	switch {
	case result.Code == 0:
		if st := w.statusOf(t); !st.Applied || len(st.Drift) > 0 || st.Serving != (command == "prestart") {
			t.Fatalf("%s at call %d ended with 0, and status says %+v", what, n, st)
		}
	case result.Code == 1, result.Code == -1 && sig != unix.SIGPIPE && n <= early:
		w.wantSettled(t, w.VM, before, what)
		if _, err := w.VM.ReadFile(stateFile); err == nil || w.servers(t) > 0 {
			t.Fatalf("%s at call %d ended with %d, and left a state or a server", what, n, result.Code)
		}
	default:
		t.Fatalf("%s at call %d ended with %d\n%s", what, n, result.Code, result.Stderr)
	}
	if sig == unix.SIGPIPE && result.Code != 0 {
		t.Fatalf("%s at call %d ended with %d\n%s", what, n, result.Code, result.Stderr)
	}
	w.Podwire(t, "teardown", "--log-level", "error")
	w.wantSettled(t, w.VM, before, what+", and teardown")
	return sent
}

// early are the calls that a program makes before it has begun, and can heed no signal: it
// just ends.
const early = 3

// unwiredOrNot has a signal come while the pod is given back.
func (w *testWorld) unwiredOrNot(t *testing.T, sig unix.Signal, n int, before []string) bool {
	t.Helper()
	w.Podwire(t, "setup", "--log-level", "error")
	result, sent := w.signalled(t, "teardown", sig, n)
	what := "teardown that got " + unix.SignalName(sig)
	switch {
	case result.Code == 0:
	case slices.Contains([]int{1, 3}, result.Code) || result.Code == -1 && n <= early:
		if st := w.statusOf(t); !st.Applied || len(st.Drift) > 0 || result.Code == 1 {
			t.Fatalf("%s at call %d ended with %d, and status says %+v\n%s", what, n, result.Code, st, result.Stderr)
		}
		w.Podwire(t, "teardown", "--log-level", "error")
	default:
		t.Fatalf("%s at call %d ended with %d\n%s", what, n, result.Code, result.Stderr)
	}
	w.wantSettled(t, w.VM, before, what)
	return sent
}
