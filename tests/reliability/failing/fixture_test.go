package failing

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const topic = "failing"

// patience is a bound on a test in its long form, on a machine that has other things to do.
const patience = 25 * time.Minute

// stateDir is podwire's own in a pod.
const stateDir = "/run/podwire"

// The exit codes of podwire.
const (
	done     = 0
	failed   = 1 // and the pod's network is as it was found
	halfDone = 3
)

type testWorld struct {
	*world.World
	program string
	found   []string // the pod's network before podwire
}

// newWorld is a pod of both families that has what is easily lost.
func newWorld(t *testing.T, b pod.Binding, limit time.Duration) *testWorld {
	t.Helper()
	w := &testWorld{World: world.New(t, world.DualBridge, world.ResolvConf6, limit).With(b)}
	var err error
	if w.program, err = w.Dir.Program("podwire"); err != nil {
		t.Fatal(err)
	}
	w.Enrich(t)
	w.found = w.Settled(t)
	return w
}

// said is how a run of podwire ended.
type said struct {
	code     int
	out, err string
}

func (w *testWorld) try(t *testing.T, args ...string) said {
	t.Helper()
	return w.run(t, exec.CommandContext(w.Ctx, w.program, args...), func(cmd *exec.Cmd) error {
		if err := w.VM.Start(cmd); err != nil {
			return err
		}
		return cmd.Wait()
	})
}

// run has a command run by a function, and says how it ended.
func (w *testWorld) run(t *testing.T, cmd *exec.Cmd, by func(*exec.Cmd) error) said {
	t.Helper()
	var out, errs pod.Log
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := by(cmd)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("running %q: %v\n%s", cmd.Args, err, errs.String())
	}
	return said{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// want fails a test whose podwire ended with another code, or has not said something.
func (s said) want(t *testing.T, code int, words ...string) {
	t.Helper()
	if s.code != code {
		t.Fatalf("podwire ended with %d, want %d\n%s%s", s.code, code, s.out, s.err)
	}
	for _, each := range words {
		if !strings.Contains(s.err, each) {
			t.Errorf("podwire did not say %q:\n%s", each, s.err)
		}
	}
}

func (w *testWorld) wantFound(t *testing.T, after string) {
	t.Helper()
	if diff := cmp.Diff(w.found, w.Settled(t)); diff != "" {
		t.Fatalf("the pod's network after %s (-found +now):\n%s", after, diff)
	}
}

// status is podwire's, also of a pod that nobody serves: its exit code is 1 then.
func (w *testWorld) status(t *testing.T) world.Status {
	t.Helper()
	s := w.try(t, "status", "-o", "json")
	var result struct{ Interfaces []world.Status }
	if err := json.Unmarshal([]byte(s.out), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire status ended with %d and printed %q, %v\n%s", s.code, s.out, err, s.err)
	}
	return result.Interfaces[0]
}

func (w *testWorld) wantPlanned(t *testing.T, after string) {
	t.Helper()
	if s := w.status(t); !s.Applied || len(s.Drift) > 0 {
		t.Fatalf("after %s podwire ended with 0, and the status is %+v", after, s)
	}
}

// servers are the numbers of the processes that serve in the pod.
func (w *testWorld) servers(t *testing.T) []string {
	t.Helper()
	s := w.run(t, exec.CommandContext(w.Ctx, "pgrep", "-f", "podwire serve"), func(cmd *exec.Cmd) error {
		if err := w.VM.Start(cmd); err != nil {
			return err
		}
		return cmd.Wait()
	})
	return strings.Fields(s.out)
}

// stateFiles are the names in the state directory, but for the log.
func (w *testWorld) stateFiles(t *testing.T) (names []string) {
	t.Helper()
	w.inside(t, func() error {
		entries, err := os.ReadDir(stateDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, e := range entries {
			if e.Name() != "serve.log" {
				names = append(names, e.Name())
			}
		}
		return err
	})
	return names
}

func (w *testWorld) inside(t *testing.T, f func() error) {
	t.Helper()
	if err := w.VM.Do(f); err != nil {
		t.Fatal(err)
	}
}
