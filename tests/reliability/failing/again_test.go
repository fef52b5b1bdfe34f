package failing

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
)

// cutOff kills a setup when the pod has given its addresses away.
func (w *testWorld) cutOff(t *testing.T) {
	t.Helper()
	decide := func(c fault.Call) fault.Verdict { return fault.Verdict{Kill: strings.Contains(c.What, "DELADDR")} }
	r, err := fault.Run(w.VM.Space, []string{"sendto"}, exec.CommandContext(w.Ctx, w.program, "setup"), decide)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Killed {
		t.Fatalf("setup ended with %d, and was not killed\n%s", r.Code, r.Stderr)
	}
}

// TestEachCallFailsOfASetupThatFinishesAnother has a setup find a pod that is between
// already. To fail is to take back what the other had done.
func TestEachCallFailsOfASetupThatFinishesAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge, patience)
	var points tally
	pace{every: 9}.each(t, func(number int, errno unix.Errno) bool {
		w.cutOff(t)
		s, call := w.inject(t, point{number: number, errno: errno}, "setup", "--log-level", "error")
		if call == nil {
			w.wantWired(t, s, "setup")
			points.figure(t, "setup after one that was cut off")
			return false
		}
		points.add(errno, s.code)
		w.wantHonest(t, s, errno, call)
		return true
	})
}

// TestEachCallFailsOfASetupThatRepairs has a setup find a pod that somebody has taken
// apart in two places: of those it must not repair one alone and call it as found.
func TestEachCallFailsOfASetupThatRepairs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge, patience)
	var points tally
	pace{every: 9}.each(t, func(number int, errno unix.Errno) bool {
		w.try(t, "setup", "--log-level", "error").want(t, done)
		for _, line := range []string{"link set tap-eth0 nomaster", "link set pw-eth0 down"} {
			if err := w.VM.IP(w.Ctx, "%s", line); err != nil {
				t.Fatal(err)
			}
		}
		before := w.status(t).Drift
		s, call := w.inject(t, point{number: number, errno: errno}, "setup", "--log-level", "error")
		if call == nil {
			w.wantWired(t, s, "setup")
			points.figure(t, "setup that repairs")
			return false
		}
		points.add(errno, s.code)
		after := fmt.Sprintf("%s failed with %s", call, unix.ErrnoName(errno))
		switch drift := w.status(t).Drift; {
		case s.code == done && len(drift) == 0:
		case s.code == failed && slices.Equal(drift, before):
		case s.code == halfDone && len(drift) > 0 && !slices.Equal(drift, before):
		default:
			t.Fatalf("%s: exit code %d, and the drift was %q and is %q\n%s", after, s.code, before, drift, s.err)
		}
		w.try(t, "teardown", "--log-level", "error").want(t, done)
		w.wantFound(t, "teardown after "+after)
		return true
	})
}
