package input

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const stateDir = "/run/podwire"

// input is a pod, and podwire that is tried in it.
type input struct {
	*world.World
	program string
	tried   map[string]int // how many of each kind
}

func newInput(t *testing.T, b pod.Binding, limit time.Duration) *input {
	t.Helper()
	w := world.New(t, world.DualBridge, world.ResolvConf6, limit).With(b)
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	return &input{World: w, program: program, tried: map[string]int{}}
}

// try is one run of podwire.
type try struct {
	args  []string
	env   []string
	stdin string
}

// run returns what podwire prints and its exit code.
func (in *input) run(t *testing.T, r try) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(in.Ctx, in.program, r.args...)
	cmd.Env = append(cmd.Environ(), r.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(r.stdin), &out, &errs
	err := in.VM.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatalf("podwire %.200q: %v", r.args, err)
	}
	return out.String(), errs.String(), 0
}

// refused runs podwire and wants it to say no in one line that has some words in it.
func (in *input) refused(t *testing.T, kind string, r try, code int, words ...string) {
	t.Helper()
	in.tried[kind]++
	_, said, got := in.run(t, r)
	line := strings.TrimSuffix(said, "\n")
	what := strings.Join(append(r.env, r.args...), " ")
	if got != code {
		t.Errorf("%s: %.200q ended with %d, want %d: %s", kind, what, got, code, said)
	}
	if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || line == "" || len(line) > 2000 {
		t.Errorf("%s: %.200q: want one readable line, got %d octets: %.300q", kind, what, len(line), line)
	}
	for _, word := range words {
		if !strings.Contains(line, word) {
			t.Errorf("%s: %.200q: want a line with %q, got %q", kind, what, word, line)
		}
	}
}

// put writes a file into the pod.
func (in *input) put(t *testing.T, path, text string) {
	t.Helper()
	if err := in.VM.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listing is what is in the state directory: names, kinds, modes, owners, sizes, times.
func (in *input) listing(t *testing.T) string {
	t.Helper()
	return in.Output(t, in.VM.Space, "find "+stateDir+"/. -printf %P|%y|%m|%U|%s|%T@|%l\\n")
}

// untouched runs a function and wants it to leave the pod's network as it is.
func (in *input) untouched(t *testing.T, do func()) {
	t.Helper()
	before := in.Settled(t)
	do()
	if diff := cmp.Diff(before, in.Settled(t)); diff != "" {
		t.Errorf("the pod's network (-before +after):\n%s", diff)
	}
}

// figures notes how many of each kind were tried.
func (in *input) figures(t *testing.T) {
	t.Helper()
	for kind, n := range in.tried {
		world.Figure(t, "input", "cases of "+kind, n)
	}
}
