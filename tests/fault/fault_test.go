package fault

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// script changes things by children of the shell's and by itself.
const script = `cd /run; echo 1 > one; mkdir two; mv one two/three; echo "$(cat two/three)$?"`

func newSpace(t *testing.T) *pod.Space {
	t.Helper()
	_, dir, _ := pod.NewTestNode(t, time.Minute)
	s, err := pod.NewSpace("fault", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run runs the script up to a call that changes anything, and returns what it left.
func run(t *testing.T, n int, v Verdict) (r Result, reached *Call, left string) {
	t.Helper()
	s := newSpace(t)
	var at atomic.Pointer[Call]
	r, err := Run(s, Changing, exec.Command("/bin/sh", "-c", script), At(n, v, &at))
	if err != nil {
		t.Fatal(err)
	}
	left, err = s.Run(t.Context(), "find", "/run", "-mindepth", "1", "-type", "f")
	if err != nil {
		t.Fatal(err)
	}
	return r, at.Load(), left
}

func TestNothingFails(t *testing.T) {
	r, reached, left := run(t, 0, Verdict{})
	if r.Code != 0 || r.Stdout != "10\n" || r.Killed || reached != nil || left != "/run/two/three\n" {
		t.Errorf("%+v, reached %v, left %q", r, reached, left)
	}
	if r.Calls == 0 {
		t.Error("no calls were counted")
	}
}

// TestAtEachCall goes on until the script makes no further call. The file is opened and
// written by the shell itself, and renamed by a child.
func TestAtEachCall(t *testing.T) {
	found := func(v Verdict) (lines []string) {
		for n := 1; ; n++ {
			r, reached, left := run(t, n, v)
			if reached == nil {
				return lines
			}
			if r.Killed != v.Kill {
				t.Errorf("%v: killed = %t", reached, r.Killed)
			}
			if strings.Contains(reached.What, "one") {
				lines = append(lines, fmt.Sprint(reached.Name, " ", reached.Child, " ", r.Code, " ", strings.TrimSpace(left)))
			}
		}
	}
	killed := []string{"openat false -1 ", "write false -1 /run/one", "renameat2 true 0 /run/one"}
	if diff := cmp.Diff(killed, found(Verdict{Kill: true})); diff != "" {
		t.Errorf("killed (-want +got):\n%s", diff)
	}
	// Without its first file the script still goes on, and renames nothing.
	failing := []string{"openat false 0 ", "write false 0 /run/two/three", "renameat2 true 0 /run/one"}
	if diff := cmp.Diff(failing, found(Verdict{Errno: unix.EPERM})); diff != "" {
		t.Errorf("failing (-want +got):\n%s", diff)
	}
}

// TestChildLeftBehind: what a program left behind is asked about, and does not have the
// run wait for it.
func TestChildLeftBehind(t *testing.T) {
	s := newSpace(t)
	var at atomic.Pointer[Call]
	asked := make(chan Call, 100)
	r, err := Run(s, Changing, exec.Command("/bin/sh", "-c", `(while [ ! -e /run/go ]; do sleep 0.01; done; echo > /run/behind) & echo done`), func(c Call) Verdict {
		asked <- c
		return At(0, Verdict{}, &at)(c)
	})
	if err != nil || r.Stdout != "done\n" {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := s.WriteFile("/run/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case c := <-asked:
			if c.What == "/run/behind" {
				if !c.Child || !c.Changes {
					t.Errorf("%+v", c)
				}
				return
			}
		case <-time.After(world.SettleTime):
			t.Fatal("nobody asked")
		}
	}
}

func TestUnknownKind(t *testing.T) {
	if _, err := Run(newSpace(t), []string{"execve"}, exec.Command("/bin/true"), nil); err == nil || !strings.Contains(err.Error(), `"execve"`) {
		t.Errorf("err = %v", err)
	}
}

// TestPodwireRepeats holds what tests rely on that count: podwire's calls are the same at
// each run, in the same order.
func TestPodwireRepeats(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := world.New(t, world.DualBridge, world.ResolvConf6, time.Minute).With(b)
		w.Enrich(t)
		program, err := w.Dir.Program("podwire")
		if err != nil {
			t.Fatal(err)
		}
		before := map[string][]string{}
		w.Podwire(t, "setup") // makes the directory, and looks for the gateway's MAC
		w.Podwire(t, "teardown")
		for range 4 {
			for _, command := range []string{"setup", "teardown"} {
				var calls []string
				r, err := Run(w.VM.Space, Changing, exec.Command(program, command), func(c Call) Verdict {
					if c.Changes {
						calls = append(calls, c.Name+" "+c.What)
					}
					return Verdict{}
				})
				if err != nil || r.Code != 0 {
					t.Fatalf("%s: %v\n%+v", command, err, r)
				}
				if old, ok := before[command]; ok {
					if diff := cmp.Diff(old, calls); diff != "" {
						t.Errorf("%s (-before +now):\n%s", command, diff)
					}
				}
				before[command] = calls
			}
		}
	})
}
