package confined

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// What README says that the commands need.
const (
	nothing  = ""
	toSetup  = "net_admin"
	toServe  = "net_raw"
	toBoth   = "net_admin net_raw"
	toLookAt = nothing
)

// TestEachCommandNeedsNoMoreThanItSays takes all other capabilities from it, for good, in a
// pod that has what is easily lost.
func TestEachCommandNeedsNoMoreThanItSays(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b)
		w.Enrich(t)
		before := w.Settled(t)
		for _, args := range [][]string{{"inspect"}, {"plan"}} {
			w.runWith(t, toLookAt, args...)
		}
		out := w.runWith(t, toSetup, "setup", "-o", "json")
		to := wiredOf(t, out)
		w.wantApplied(t)
		w.repairs(t, to)
		w.serves(t, to)
		w.runWith(t, toSetup, "teardown")
		w.wantAsFound(t, before)

		w.runWith(t, toBoth, "prestart")
		w.wantConfined(t)
		w.runWith(t, toLookAt, "status")
		w.runWith(t, toSetup, "teardown")
		w.wantAsFound(t, before)
	})
}

// repairs has setup put back what somebody took away.
func (w *testWorld) repairs(t *testing.T, to world.Wired) {
	t.Helper()
	w.shell(t, "tc qdisc delete dev "+to.Tap+" clsact; ip link set "+to.Tap+" down")
	w.runWith(t, toSetup, "setup")
	w.wantApplied(t)
}

// wantApplied holds a pod to being wired as planned, as one sees it who may do nothing. Nobody
// serves it yet, so that status fails.
func (w *testWorld) wantApplied(t *testing.T) {
	t.Helper()
	out, err := w.VM.RunCmd(w.with(toLookAt, "status", "-o", "json"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("status of a pod that nobody serves: %v", err)
	}
	if st := statusOf(t, out); !st.Applied || len(st.Drift) > 0 {
		t.Errorf("status says %+v", st)
	}
}

// serves has a server that was never able to do more serve a guest.
func (w *testWorld) serves(t *testing.T, to world.Wired) {
	t.Helper()
	cmd := w.with(toServe, "serve", "--ready-file", readyFile)
	log := world.Daemon(t, w.VM.Space, cmd.Path, cmd.Args[1:]...)
	w.Eventually(t, "serves", func() string {
		if _, err := w.VM.ReadFile(readyFile); err != nil {
			return "it is not ready: " + log()
		}
		return ""
	})
	// Without CAP_SETPCAP it cannot shrink what programs could get that it does not start.
	c := w.status(t).Confinement
	if c == nil || c.Capabilities != "none" || c.Lacking != nil {
		t.Errorf("status says %+v", c)
	}
	guest, stop := w.guest(t, to)
	defer stop()
	c4, err := client.Udhcpc(guest, w.Dir, "nic0")
	world.Running(t, c4, err)
	w.Wait(t, c4, "bound")
	c4.Stop()
}

func (w *testWorld) wantAsFound(t *testing.T, before []string) {
	t.Helper()
	if diff := cmp.Diff(before, w.Settled(t)); diff != "" {
		t.Fatalf("the pod's network (-before +after):\n%s", diff)
	}
}

// TestWithoutItsCapabilityACommandSaysSo and changes nothing: else the test before would
// not know that they were gone.
func TestWithoutItsCapabilityACommandSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge)
	before := w.Settled(t)
	for _, test := range []struct{ capabilities, command, lacks string }{
		{toServe, "setup", "NET_ADMIN"},
		{toSetup, "prestart", "NET_RAW"},
		{nothing, "prestart", "NET_ADMIN"},
	} {
		out, err := w.VM.RunCmd(w.with(test.capabilities, test.command))
		if err == nil || !strings.Contains(err.Error(), `capabilities: {add: ["`+test.lacks+`"]}`) {
			t.Errorf("%s with %q: %q, %v", test.command, test.capabilities, out, err)
		}
	}
	w.wantAsFound(t, before)
	w.Podwire(t, "setup")
	if _, err := w.VM.RunCmd(w.with(toSetup, "serve")); err == nil || !strings.Contains(err.Error(), "NET_RAW") {
		t.Errorf("serve: %v", err)
	}
	if _, err := w.VM.RunCmd(w.with(toServe, "teardown")); err == nil || !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("teardown: %v", err)
	}
	w.runWith(t, toSetup, "teardown")
	w.wantAsFound(t, before)
}
