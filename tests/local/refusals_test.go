package local

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// TestSetupThatCannotWorkLeavesThePodUntouched has one thing missing each time.
func TestSetupThatCannotWorkLeavesThePodUntouched(t *testing.T) {
	for name, test := range map[string]struct {
		spoil   func(*testWorld) error
		as      []string // the words before podwire's own
		args    []string
		mention string // what the one line must say
		exit    int    // where it is not 1
	}{
		"no capability": {
			as:      []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"},
			args:    []string{"--state-dir", "/run/nobody"},
			spoil:   func(w *testWorld) error { return nobodysDirectory(w) },
			mention: "NET_ADMIN",
		},
		"no /dev/net/tun": {
			spoil: func(w *testWorld) error {
				return w.VM.Do(func() error { return unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, "") })
			},
			mention: "/dev/net/tun",
		},
		"no such interface": {
			args:    []string{"--interface", "net9"},
			mention: `"net9"`,
		},
		"damaged state file": {
			spoil: func(w *testWorld) error {
				return w.VM.WriteFile("/run/podwire/eth0.json", []byte(`{"version": 1, "lin`), 0o600)
			},
			mention: "/run/podwire/eth0.json",
			exit:    2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorld(t, "bridge", 30*time.Second).with(b)
				if test.spoil != nil {
					if err := test.spoil(w); err != nil {
						t.Fatal(err)
					}
				}
				program, err := w.Dir.Program("podwire")
				if err != nil {
					t.Fatal(err)
				}
				before := w.Settled(t)
				words := append(append(append([]string{}, test.as...), program, "setup"), test.args...)
				var stderr strings.Builder
				cmd := exec.CommandContext(w.Ctx, words[0], words[1:]...)
				cmd.Stderr = &stderr
				err = w.VM.Start(cmd)
				if err == nil {
					err = cmd.Wait()
				}
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != max(test.exit, 1) {
					t.Errorf("podwire setup ended with %v, want exit code %d", err, max(test.exit, 1))
				}
				lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
				if len(lines) != 1 || !strings.Contains(lines[0], test.mention) {
					t.Errorf("podwire setup said %d lines, want one that mentions %s:\n%s", len(lines), test.mention, stderr.String())
				}
				if diff := cmp.Diff(before, w.Settled(t)); diff != "" {
					t.Errorf("the pod's network (-before +after):\n%s", diff)
				}
			})
		})
	}
}

// nobodysDirectory makes a state directory that the user may write to, so that
// the capability is all that is missing.
func nobodysDirectory(w *testWorld) error {
	_, err := w.VM.Run(w.Ctx, "install", "-d", "-o", "65534", "/run/nobody")
	return err
}
