package cniplugin

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
)

const (
	// mostCalls is more than podwire makes of any of these calls in one run.
	mostCalls = 200
	// mostTries is how often it is tried to kill podwire at one of them: strace
	// counts for each thread by itself, and on which thread Go makes a call is a
	// matter of luck.
	mostTries = 5
)

// changes are the calls by which something is changed. What keeps the state is tried with
// bridge.
var changes = map[pod.Binding][]string{
	pod.Bridge:     {"sendto", "ioctl", "openat", "write", "fsync", "renameat", "unlinkat"},
	pod.TC:         {"sendto"},
	pod.Masquerade: {"sendto", "write"}, // the latter for options
}

// TestKilledAtEachChange kills ADD, and then DEL, at the first, second, third ... call
// by which it changes something. The runtime then calls DEL, and the pod must be as
// the plugins before made it, with nothing left on the node or in the pod's volume.
func TestKilledAtEachChange(t *testing.T) {
	for _, call := range changes[pod.Bridge] {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b pod.Binding) {
				if !slices.Contains(changes[b], call) {
					return // it is for files that are the same for all bindings
				}
				first := "bridge"
				if b.Behind() {
					first = "dual" // IPv6 alone has it change an option of the whole namespace
				}
				w := newWorldFor(t, 5*time.Minute)
				w.makeVolume(t)
				c := w.sandbox(t, first, entry, cniVersion, askingFor(b))
				bare := w.sandboxList(t, first, cniVersion)
				if _, err := w.cni.AddNetworkList(w.ctx, bare, c.rt); err != nil {
					t.Fatal(err)
				}
				add := c.command(t, "ADD", c.asksFor(t, bare, askingFor(b)))
				k := &killer{container: c, call: call, before: c.settled(t)}
				k.each(t, "ADD", add, func() {})
				k.each(t, "DEL", c.command(t, "DEL", nil), func() {
					if err := c.exec(add); err != nil {
						t.Fatal(err)
					}
				})
			})
		})
	}
}

// killer kills podwire at calls of one kind.
type killer struct {
	*container
	call   string
	before []string // the pod's network
}

// each kills the plugin at each of its calls, prepared anew each time.
func (k *killer) each(t *testing.T, command string, plugin pluginCall, prepare func()) {
	t.Helper()
	var missed []int
	for n := 1; n < mostCalls; n++ {
		made, killed := 0, false
		for try := 0; try < mostTries && (try == 0 || made != n); try++ {
			prepare()
			made, killed = k.kill(t, plugin, n)
			k.wantUndone(t, fmt.Sprintf("%s killed at %s number %d", command, k.call, made))
			if !killed && made < n {
				t.Logf("%s killed at each %s, of which there are %d, but for %v", command, k.call, made, missed)
				return
			}
		}
		if made != n {
			missed = append(missed, n)
		}
	}
	t.Fatalf("%s was still killed at %s number %d", command, k.call, mostCalls)
}

// kill runs podwire until one of its threads makes its n-th call of the kind. It
// returns how many all of them made, and whether it was killed.
func (k *killer) kill(t *testing.T, plugin pluginCall, n int) (made int, killed bool) {
	t.Helper()
	const trace = "/run/trace"
	cmd := exec.Command(plugin.program)
	cmd.Env, cmd.Stdin = plugin.environ, bytes.NewReader(plugin.stdin)
	killed, err := k.w.node.KillAt(k.w.ctx, k.call, n, trace, cmd)
	if err != nil {
		t.Fatal(err)
	}
	text, err := k.w.node.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), " "+k.call+"("), killed
}

// wantUndone calls DEL, as a runtime does after whatever became of the call before.
func (k *killer) wantUndone(t *testing.T, after string) {
	t.Helper()
	if err := k.container.call(t, "DEL", nil); err != nil {
		t.Fatalf("%s, then DEL: %v", after, err)
	}
	if diff := cmp.Diff(k.before, k.settled(t)); diff != "" {
		t.Fatalf("%s, then DEL (-before +after):\n%s", after, diff)
	}
	if left := k.w.left(t); left != "" {
		t.Fatalf("%s, then DEL; left on the node:\n%s", after, left)
	}
	names := strings.Fields(k.w.run(t, "ls", "-A", volume))
	if slices.ContainsFunc(names, func(name string) bool { return name != "eth0.json" }) {
		t.Fatalf("%s, then DEL; left in the volume: %v", after, names)
	}
}

// settled is the pod's network at rest.
func (c *container) settled(t *testing.T) []string {
	t.Helper()
	lines, err := c.Settled(c.w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestResultThatNobodyGets: the runtime takes the ADD for failed, so that the pod is
// not to be wired.
func TestResultThatNobodyGets(t *testing.T) {
	t.Parallel()
	closed, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, stdout := range map[string]*os.File{"a full device": full, "a pipe that nobody reads": w} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { stdout.Close() })
			onEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorld(t)
				w.makeVolume(t)
				c := w.sandbox(t, "bridge", entry, cniVersion, askingFor(b))
				bare := w.sandboxList(t, "bridge", cniVersion)
				if _, err := w.cni.AddNetworkList(w.ctx, bare, c.rt); err != nil {
					t.Fatal(err)
				}
				before := c.settled(t)
				add := c.command(t, "ADD", c.asksFor(t, bare, askingFor(b)))
				var stderr bytes.Buffer
				cmd := exec.CommandContext(w.ctx, add.program)
				cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = add.environ, bytes.NewReader(add.stdin), stdout, &stderr
				if err := w.node.Start(cmd); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); err == nil || !strings.Contains(stderr.String(), "podwire:") {
					t.Errorf("ADD: %v\n%s", err, stderr.String())
				}
				if diff := cmp.Diff(before, c.settled(t)); diff != "" {
					t.Errorf("the pod's network (-before +after):\n%s", diff)
				}
				w.wantNothingLeft(t)
			})
		})
	}
}
