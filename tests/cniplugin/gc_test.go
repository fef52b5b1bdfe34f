package cniplugin

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
)

func TestGC(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b pod.Binding) {
		w, c := wired(t, "bridge", entry, askingFor(b))
		valid := func(ids ...string) map[string]any {
			list := []map[string]string{}
			for _, id := range ids {
				list = append(list, map[string]string{"containerID": id, "ifname": "eth0"})
			}
			return map[string]any{"cni.dev/valid-attachments": list}
		}
		if err := c.call(t, "GC", valid("other", c.rt.ContainerID)); err != nil {
			t.Fatal(err)
		}
		if err := c.call(t, "CHECK", nil); err != nil {
			t.Errorf("after GC of others: %v", err)
		}
		foreign := valid()
		foreign["name"] = "another-network"
		if err := c.call(t, "GC", foreign); err != nil {
			t.Fatal(err)
		}
		if err := c.call(t, "CHECK", nil); err != nil {
			t.Errorf("after GC of another network: %v", err)
		}
		if err := c.call(t, "GC", valid("other")); err != nil {
			t.Fatal(err)
		}
		w.wantNothingLeft(t)
		if links := c.links(t); links != "lo eth0" {
			t.Errorf("the pod has the links %s", links)
		}
		c.mustDel(t)
	})
}

// TestGCOfLeftovers: what was cut off before there was a note, once it is old, and
// states that were set aside, once their namespace is gone.
func TestGCOfLeftovers(t *testing.T) {
	t.Parallel()
	w, c := wired(t, "bridge", entry, asking())
	w.run(t, "sh", "-c", "echo '{' > "+stateDir+"/"+c.rt.ContainerID+"/eth0.json")
	c.mustDel(t)
	w.run(t, "sh", "-c", "cd "+stateDir+` &&
		mkdir empty young leftover torn foreign &&
		touch leftover/eth0.json.tmp torn/eth0.attachment foreign/file file &&
		touch -d '2 minutes ago' empty leftover torn foreign`)
	gc := func(want ...string) {
		t.Helper()
		if err := c.call(t, "GC", nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, strings.Fields(w.run(t, "ls", stateDir))); diff != "" {
			t.Errorf("left on the node (-want +got):\n%s", diff)
		}
	}
	gc(c.rt.ContainerID, "file", "foreign", "young")
	if left := w.left(t); !strings.Contains(left, "eth0.json.stale") {
		t.Errorf("the namespace lives, and its state is gone:\n%s", left)
	}
	c.gone(t, "no file")
	gc("file", "foreign", "young")
}

// TestCallsOfOneContainerAtATime: an ADD that runs, slowly, does not lose its note to
// a GC, without which no later GC would find it.
func TestCallsOfOneContainerAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.makeVolume(t)
	c := w.sandbox(t, "bridge", entry, cniVersion, asking())
	bare := w.sandboxList(t, "bridge", cniVersion)
	if _, err := w.cni.AddNetworkList(w.ctx, bare, c.rt); err != nil {
		t.Fatal(err)
	}
	before := c.settled(t)
	add := c.command(t, "ADD", c.asksFor(t, bare, asking()))
	for range 3 {
		added, next := make(chan error, 1), make(chan struct{})
		slow := exec.CommandContext(w.ctx, add.program)
		slow.Env, slow.Stdin = add.environ, bytes.NewReader(add.stdin)
		go func() {
			r, err := fault.Run(w.node.Space, fault.Changing, slow, func(fault.Call) fault.Verdict {
				select {
				case <-next: // another GC has ended
				case <-time.After(20 * time.Millisecond): // it waits for this ADD
				}
				return fault.Verdict{}
			})
			if err == nil && r.Code != 0 {
				err = fmt.Errorf("%+v", r)
			}
			added <- err
		}()
		for running := true; running; {
			select {
			case err := <-added:
				if err != nil {
					t.Fatal(err)
				}
				running = false
			default:
				if err := c.call(t, "GC", nil); err != nil {
					t.Fatal(err)
				}
				select {
				case next <- struct{}{}:
				default:
				}
			}
		}
		if left := w.left(t); strings.Contains(left, "eth0.json") && !strings.Contains(left, "eth0.attachment") {
			t.Fatalf("a state without a note:\n%s", left)
		}
	}
	if err := c.call(t, "GC", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, c.settled(t)); diff != "" {
		t.Errorf("the pod's network (-before +after):\n%s", diff)
	}
	w.wantNothingLeft(t)
}
