package moves

import (
	"encoding/json"
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const topic = "moves"

// patience is a bound on a test without a guest, for a machine that has other things to do.
const patience = 3 * time.Minute

// stateFile is where the tests' only interface has its state.
const stateFile = "/run/podwire/eth0.json"

type testWorld struct {
	*world.World
	program string
}

// newWorld is a pod of both families.
func newWorld(t *testing.T, b pod.Binding, limit time.Duration) *testWorld {
	t.Helper()
	w := &testWorld{World: world.New(t, world.DualBridge, world.ResolvConf6, limit).With(b)}
	var err error
	if w.program, err = w.Dir.Program("podwire"); err != nil {
		t.Fatal(err)
	}
	return w
}

// newRichWorld is a pod that also has what is easily lost, a gateway that cannot be reached
// included.
func newRichWorld(t *testing.T, b pod.Binding, limit time.Duration) *testWorld {
	t.Helper()
	w := newWorld(t, b, limit)
	w.Enrich(t)
	return w
}

// said is how a run of podwire ended.
type said struct {
	code     int
	out, err string
}

// try runs podwire in a pod, which may fail.
func (w *testWorld) try(t *testing.T, in *pod.Pod, args ...string) said {
	t.Helper()
	return w.tryCmd(t, in, exec.CommandContext(w.Ctx, w.program, args...))
}

func (w *testWorld) tryCmd(t *testing.T, in *pod.Pod, cmd *exec.Cmd) said {
	t.Helper()
	return w.begin(t, in, cmd)()
}

// begin is tryCmd for one that is waited for later.
func (w *testWorld) begin(t *testing.T, in *pod.Pod, cmd *exec.Cmd) (end func() said) {
	t.Helper()
	var out, errs pod.Log
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := in.Start(cmd); err != nil {
		t.Fatal(err)
	}
	return func() said {
		t.Helper()
		err := cmd.Wait()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatalf("running %q: %v\n%s", cmd.Args, err, errs.String())
		}
		return said{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	}
}

// want fails a test whose podwire ended with another code.
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

// timers are a bridge's, which run.
var timers = regexp.MustCompile(`[a-z_]*timer +[0-9.]+ `)

// settled is the network of any pod at rest.
func (w *testWorld) settled(t *testing.T, p *pod.Pod) []string {
	t.Helper()
	lines, err := p.Settled(w.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		lines[i] = timers.ReplaceAllString(line, "")
	}
	return lines
}

// wantSettled compares a pod's network at rest with what it was.
func (w *testWorld) wantSettled(t *testing.T, p *pod.Pod, want []string, after string) {
	t.Helper()
	if diff := cmp.Diff(want, w.settled(t, p)); diff != "" {
		t.Fatalf("the network of %q after %s (-want +got):\n%s", p.Name(), after, diff)
	}
}

// drift is what podwire's status finds of a pod that is wired, whether it is served or not.
func (w *testWorld) drift(t *testing.T) []string {
	t.Helper()
	return w.statusOf(t).Drift
}

// statusOf is status, also of a pod that nobody serves or that is not as planned: its exit
// code is 1 then.
func (w *testWorld) statusOf(t *testing.T) world.Status {
	t.Helper()
	s := w.try(t, w.VM, "status", "-o", "json")
	var result struct{ Interfaces []world.Status }
	if err := json.Unmarshal([]byte(s.out), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire status ended with %d and printed %q, %v\n%s", s.code, s.out, err, s.err)
	}
	return result.Interfaces[0]
}
