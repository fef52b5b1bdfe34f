// Package podscript runs scripts over the real programs, each with a pod of its
// own: a network namespace as the CNI plugin bridge leaves it.
package podscript

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/serve"
)

// patience is how long await waits.
const patience = 10 * time.Second

// Params returns what runs the scripts in testdata. Beside testscript's own
// commands there are
//
//	exits CODE COMMAND [ARG ...]   runs a command and checks its exit code
//	await FILE TEXT                waits until a file holds a text
//
// The environment names the pod, its state and its resolv.conf to podwire, and
// with OTHER_NETNS a second pod's namespace.
func Params(t *testing.T) testscript.Params {
	return testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PODWIRE_NETNS", pod(t).Path)
			env.Setenv("OTHER_NETNS", pod(t).Path)
			env.Setenv("PODWIRE_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("PODWIRE_RESOLV_CONF", env.WorkDir+"/resolv.conf")
			env.Defer(func() { stopServers(env.WorkDir + "/state") })
			// The race detector has every process that it is in sleep for a second at
			// its end.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			text := "search default.svc.cluster.local\nnameserver 10.96.0.10\n"
			return os.WriteFile(env.WorkDir+"/resolv.conf", []byte(text), 0o644)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "await": await},
	}
}

// stopServers ends the servers that a script left behind, as one that fails does.
func stopServers(state string) {
	sockets, _ := filepath.Glob(state + "/*.sock") // the pattern is good
	for _, socket := range sockets {
		_, _ = serve.Ask(context.Background(), socket, serve.OpStop) // it may be a dead one's
	}
}

func pod(t *testing.T) *netnstest.NS {
	t.Helper()
	node, pod := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, pod, "eth0", node, "veth0")
	pod.Addr(t, "eth0", "10.244.1.7/24")
	node.Addr(t, "veth0", "10.244.1.1/24")
	pod.Route(t, "0.0.0.0/0", "10.244.1.1", "eth0")
	return pod
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG ...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	var text []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, _ = os.ReadFile(ts.MkAbs(args[0]))
		if strings.Contains(string(text), args[1]) {
			return
		}
	}
	ts.Fatalf("waited in vain for %q in %s:\n%s", args[1], args[0], text)
}
