package local

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// mostCalls is more than podwire makes of any of these calls in one run.
const mostCalls = 200

// TestKilledAtEachChange kills setup, and then teardown, at the first, second,
// third ... call by which it changes something: a netlink request, an ioctl on the
// tap, a file that is opened, written, synced or renamed. Then it runs the command
// again, and the pod must be as if it had run once.
func TestKilledAtEachChange(t *testing.T) {
	for _, call := range []string{"sendto", "ioctl", "openat", "write", "fsync", "renameat"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				if call == "write" && b == pod.TC {
					return // it is the most of all, and by it only the state is written, as with bridge
				}
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, 4*time.Minute).with(b)
				w.Enrich(t)
				before := w.Settled(t)
				for n := 1; ; n++ {
					if n > mostCalls {
						t.Fatalf("podwire was still killed at %s number %d", call, n)
					}
					wiring := w.killed(t, call, n, "setup")
					if n%2 == 0 { // every other time it is finished before it is taken back
						w.Podwire(t, "setup")
						w.wantNoDrift(t)
					}
					undoing := w.killed(t, call, n, "teardown")
					w.Podwire(t, "teardown")
					if diff := cmp.Diff(before, w.Settled(t)); diff != "" {
						t.Fatalf("killed at %s number %d, and then (-before +after):\n%s", call, n, diff)
					}
					if !wiring && !undoing {
						t.Logf("killed at each %s, of which there are at most %d", call, n-1)
						return
					}
				}
			})
		})
	}
}

// killed runs podwire until its n-th call of a kind, and reports whether there was
// one.
func (w *testWorld) killed(t *testing.T, call string, n int, command string) bool {
	t.Helper()
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	killed, err := w.VM.KillAt(w.Ctx, call, n, "/dev/null", exec.Command(program, command, "--log-level", "error"))
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return killed
}

func (w *testWorld) wantNoDrift(t *testing.T) {
	t.Helper()
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	// Nobody serves, so that its exit code is 1.
	out, _ := w.VM.Run(w.Ctx, program, "status", "-o", "json")
	if !strings.Contains(out, `"applied": true`) || !strings.Contains(out, `"drift": []`) {
		t.Errorf("after a second setup the status is\n%s", out)
	}
}
