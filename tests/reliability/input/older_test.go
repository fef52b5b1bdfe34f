package input

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// want runs podwire and wants an exit code, and words on standard error.
func (in *input) want(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	_, said, got := in.run(t, try{args: args})
	if got != code || !strings.Contains(said, says) {
		t.Errorf("%q: %d, %q, want %d and %q", args, got, said, code, says)
	}
}

// TestWhatAnOlderReleaseWiredIsPutBack although today it could not be wired so: in a
// directory that is somebody else's, or with settings that are refused by now.
func TestWhatAnOlderReleaseWiredIsPutBack(t *testing.T) {
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		in := newInput(t, b, 3*time.Minute)
		in.untouched(t, func() {
			in.Prestart(t)
			in.Output(t, in.VM.Space, "chown 107 "+stateDir)
			for _, command := range []string{"setup", "prestart", "status", "plan", "teardown", "teardown"} {
				in.want(t, 0, "", command)
			}
		})
		in.Output(t, in.VM.Space, "rm -r "+stateDir)
		in.untouched(t, func() {
			in.Prestart(t)
			good, err := in.VM.ReadFile(stateFile)
			if err != nil {
				t.Fatal(err)
			}
			old := strings.Replace(string(good), `"config": {`, `"config": {"interfaces": ["eth0,1"],`, 1)
			in.put(t, stateFile, old)
			const says = `config: interface: "eth0,1": want `
			for _, command := range []string{"setup", "prestart", "serve"} {
				in.refused(t, "settings of an older release", try{args: []string{command}}, 2, stateFile+": ", says)
			}
			in.want(t, 0, `interface: \"eth0,1\": want `, "status")
			in.want(t, 0, `interface: \"eth0,1\": want `, "teardown")
		})
	})
}

// TestAStateOfAnotherUserIsReadAndNotActedOn.
func TestAStateOfAnotherUserIsReadAndNotActedOn(t *testing.T) {
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		in := newInput(t, b, 3*time.Minute)
		in.untouched(t, func() {
			in.Prestart(t)
			was := in.wiring(t)
			in.Output(t, in.VM.Space, "chown 107 "+stateFile)
			const says = "user 107's: want this user's own"
			for _, command := range []string{"status", "domain"} {
				in.want(t, 0, says, command)
			}
			for _, command := range []string{"setup", "prestart", "serve", "plan"} {
				in.refused(t, "states of others", try{args: []string{command}}, 2, stateFile+": ", says)
			}
			in.refused(t, "states of others", try{args: []string{"teardown"}}, 3, stateFile+": ", says)
			if diff := cmp.Diff(was, in.wiring(t)); diff != "" {
				t.Errorf("the pod's network (-before +after):\n%s", diff)
			}
			in.Output(t, in.VM.Space, "chown 0 "+stateFile)
			in.want(t, 0, "", "teardown")
		})
	})
}
