package moves

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// makeAnew gives the other pod the state directory of the VM's pod, as a pod whose sandbox
// was made anew finds it in its emptyDir. The first sandbox is no more: nobody answers there.
func (w *testWorld) makeAnew(t *testing.T) *pod.Pod {
	t.Helper()
	w.Other.Bind(w.Binding)
	if err := w.Other.SetResolvConf(world.ResolvConf6); err != nil {
		t.Fatal(err)
	}
	state, err := w.VM.ReadFile(stateFile)
	if err != nil {
		t.Fatal(err)
	}
	w.carryOver(t, state)
	return w.Other
}

// carryOver writes a state into the other pod, beside what a server that died leaves: a
// socket that nobody listens on, a log, and a file that says that it is ready.
func (w *testWorld) carryOver(t *testing.T, state []byte) {
	t.Helper()
	for path, content := range map[string][]byte{stateFile: state, "/run/podwire/serve.log": []byte("served\n"), "/run/served": nil} {
		if err := w.Other.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.Output(t, w.Other.Space, "rm -f /run/podwire/eth0.sock")
	l, err := w.Other.Listen("/run/podwire/eth0.sock")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// asides are the states that were set aside in a pod.
func (w *testWorld) asides(t *testing.T, p *pod.Pod) []string {
	t.Helper()
	return strings.Fields(w.Output(t, p.Space, "find /run/podwire -name *.stale*"))
}

// TestSandboxMadeAnew has a new sandbox that finds the state of the old one: that is never
// applied there, and never lost; the new one is wired, served and given back as its own.
func TestSandboxMadeAnew(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newRichWorld(t, b, patience)
		old := w.settled(t, w.VM)
		w.Podwire(t, "setup")
		anew := w.makeAnew(t)
		before := w.settled(t, anew)

		for _, reading := range [][]string{{"status"}, {"serve", "--ready-file", "/run/served"}} {
			w.try(t, anew, reading...).want(t, 1)
			w.wantSettled(t, anew, before, reading[0])
		}
		w.try(t, anew, "teardown").want(t, 0, "no more, set aside")
		w.wantSettled(t, anew, before, "teardown with the state of another")
		w.try(t, anew, "teardown").want(t, 0)

		w.carryOver(t, w.stateOf(t, w.VM))
		w.try(t, anew, "prestart").want(t, 0, "no more, set aside")
		var now struct {
			Interfaces []struct{ Addresses []string }
		}
		s := w.try(t, anew, "status", "-o", "json")
		s.want(t, 0)
		if err := json.Unmarshal([]byte(s.out), &now); err != nil || len(now.Interfaces) != 1 {
			t.Fatalf("status printed %s, %v", s.out, err)
		}
		if b != pod.Masquerade && now.Interfaces[0].Addresses[0] != anew.Addr.String() {
			t.Errorf("the guest is given %v, and the pod has %s", now.Interfaces[0].Addresses, anew.Addr)
		}
		w.try(t, anew, "teardown").want(t, 0)
		w.wantSettled(t, anew, before, "its own teardown")
		if n := len(w.asides(t, anew)); n != 2 {
			t.Errorf("%d states were set aside, want 2", n)
		}

		// The old one, had it lived, could be put back all the same.
		w.Podwire(t, "teardown")
		w.wantSettled(t, w.VM, old, "teardown")
	})
}

func (w *testWorld) stateOf(t *testing.T, p *pod.Pod) []byte {
	t.Helper()
	state, err := p.ReadFile(stateFile)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestMachineStartedAnew has the state of an earlier boot, whose namespace had by chance the
// same numbers as the one of now.
func TestMachineStartedAnew(t *testing.T) {
	t.Parallel()
	w := newRichWorld(t, pod.Bridge, patience)
	before := w.settled(t, w.VM)
	w.Podwire(t, "setup")
	state := w.stateOf(t, w.VM)
	w.Podwire(t, "teardown")
	boot := strings.TrimSpace(w.Output(t, w.VM.Space, "cat /proc/sys/kernel/random/boot_id"))
	other := strings.ReplaceAll(string(state), boot, "00000000-0000-4000-8000-000000000000")
	if other == string(state) {
		t.Fatal("the state does not name the boot")
	}
	for i, command := range []string{"teardown", "setup"} {
		if err := w.VM.WriteFile(stateFile, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		w.try(t, w.VM, command).want(t, 0, "no more, set aside")
		if n := len(w.asides(t, w.VM)); n != i+1 {
			t.Errorf("%d states were set aside, want %d", n, i+1)
		}
	}
	if drift := w.drift(t); len(drift) > 0 {
		t.Errorf("the pod that was wired after that is not as planned: %q", drift)
	}
	w.Podwire(t, "teardown")
	w.wantSettled(t, w.VM, before, "teardown")
}

// TestForeignStateIsKeptFromOutside works on two pods from the node, with the same state
// directory by mistake: the first pod's state may be all that can put it back.
func TestForeignStateIsKeptFromOutside(t *testing.T) {
	t.Parallel()
	w := newRichWorld(t, pod.Bridge, patience)
	dir := t.TempDir()
	from := func(p *pod.Pod, command string) said {
		out, err := exec.CommandContext(w.Ctx, w.program, command, "--netns", p.NetNS(), "--state-dir", dir).CombinedOutput()
		s := said{err: string(out)}
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			s.code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before, others := w.settled(t, w.VM), w.settled(t, w.Other)
	from(w.VM, "setup").want(t, 0)
	wired := w.settled(t, w.VM)
	for _, command := range []string{"setup", "prestart", "teardown"} {
		from(w.Other, command).want(t, 1, "another network namespace")
	}
	from(w.Other, "serve").want(t, 1)
	w.wantSettled(t, w.Other, others, "podwire with the state of another")
	w.wantSettled(t, w.VM, wired, "podwire in another")
	from(w.VM, "teardown").want(t, 0)
	w.wantSettled(t, w.VM, before, "teardown")
}

// TestPodInterfaceMoves has somebody rename the pod interface under podwire, or replace it.
func TestPodInterfaceMoves(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newRichWorld(t, b, patience)
		before := w.settled(t, w.VM)
		w.Podwire(t, "prestart")
		rename := func(from, to string) {
			t.Helper()
			// A kernel before 6.2 renames none that is up.
			if w.VM.IP(w.Ctx, "link set %s name %s", from, to) != nil {
				t.Fatalf("this kernel does not rename %q", from)
			}
		}
		rename("eth0", "net1")
		if drift := strings.Join(w.drift(t), "\n"); !strings.Contains(drift, "eth0") {
			t.Errorf("status says %q", drift)
		}
		w.try(t, w.VM, "setup").want(t, 1, `"eth0", which is wired, was renamed to "net1"`)
		w.try(t, w.VM, "teardown").want(t, 3, `"ip link set net1 name eth0"`)
		rename("net1", "eth0")
		w.try(t, w.VM, "teardown").want(t, 0)
		w.wantSettled(t, w.VM, before, "a rename there and back")

		w.Podwire(t, "setup")
		for _, line := range []string{
			"link del eth0", "link add eth0 type veth peer name other0", "address add 192.0.2.7/24 dev eth0", "link set eth0 up", "link set other0 up",
		} {
			if err := w.VM.IP(w.Ctx, "%s", line); err != nil {
				t.Fatal(err)
			}
		}
		w.try(t, w.VM, "setup").want(t, 1, "was replaced by another")
		w.try(t, w.VM, "teardown").want(t, 0, "only what podwire made is removed")
		after := strings.Join(w.settled(t, w.VM), "\n")
		for _, made := range []string{"pw-eth0", "tap-eth0", "podwire"} {
			if strings.Contains(after, made) {
				t.Errorf("%q is left of the wiring:\n%s", made, after)
			}
		}
		if !strings.Contains(after, "192.0.2.7/24") || strings.Contains(after, fmt.Sprint(w.VM.Addr)) {
			t.Errorf("the interface that came instead has not its own addresses:\n%s", after)
		}
	})
}
