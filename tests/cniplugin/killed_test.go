package cniplugin

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	testworld "github.com/podwire/podwire/tests/world"
)

// mostPoints is more than podwire has in any of its commands.
const mostPoints = 400

// TestKilledAtEachChange kills ADD, and then DEL, at the first, second, third ... call
// by which it changes something. The runtime then calls DEL, and the pod must be as
// the plugins before made it, with nothing left on the node or in the pod's volume.
func TestKilledAtEachChange(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
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
		k := &killer{container: c, before: c.settled(t)}
		k.each(t, "ADD, "+string(b), add, func() {})
		k.each(t, "DEL, "+string(b), c.command(t, "DEL", nil), func() {
			if err := c.exec(add); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// killer kills podwire at its calls.
type killer struct {
	*container
	before []string // the pod's network
}

// every is at which of the points the plugin is killed in the short form. With bridge, the
// most of all, and what is kept on the node is the same with each binding.
func every(b string) int {
	if strings.HasSuffix(b, string(pod.Bridge)) || testworld.Long() {
		return 1
	}
	return 3
}

// each kills the plugin at each of its calls, prepared anew each time.
func (k *killer) each(t *testing.T, command string, plugin pluginCall, prepare func()) {
	t.Helper()
	for n, tried := 1, 0; n < mostPoints; n, tried = n+every(command), tried+1 {
		prepare()
		at := k.kill(t, plugin, n)
		if at == nil {
			k.wantUndone(t, command+", which nobody killed")
			testworld.Figure(t, "killed", command+", then DEL", tried)
			return
		}
		k.wantUndone(t, fmt.Sprintf("%s killed at the changing call %d: %v", command, n, at))
	}
	t.Fatalf("%s was still killed at call %d", command, mostPoints)
}

// kill runs podwire up to the n-th call that changes anything, of which there may be none.
func (k *killer) kill(t *testing.T, plugin pluginCall, n int) *fault.Call {
	t.Helper()
	var reached atomic.Pointer[fault.Call]
	cmd := exec.CommandContext(k.w.ctx, plugin.program)
	cmd.Env, cmd.Stdin = plugin.environ, bytes.NewReader(plugin.stdin)
	r, err := fault.Run(k.w.node.Space, fault.Changing, cmd, fault.At(n, fault.Verdict{Kill: true}, &reached))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Killed && r.Code != 0 {
		t.Fatalf("nobody killed it: %+v", r)
	}
	return reached.Load()
}

// wantUndone calls DEL, as a runtime does after whatever became of the call before.
func (k *killer) wantUndone(t *testing.T, after string) {
	t.Helper()
	if err := k.call(t, "DEL", nil); err != nil {
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
