package cli

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/netnstest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"podwire": func() { os.Exit(Execute(NewCommand())) },
	})
}

// TestScripts runs the scripts in testdata over the real program. Each has a pod
// of its own: a network namespace as the CNI plugin bridge leaves it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			pod := bridgePod(t)
			env.Setenv("PODWIRE_NETNS", pod.Path)
			env.Setenv("PODWIRE_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("PODWIRE_RESOLV_CONF", env.WorkDir+"/resolv.conf")
			env.Setenv("PODWIRE_HOSTNAME", "vm-0")
			return os.WriteFile(env.WorkDir+"/resolv.conf", []byte("search default.svc.cluster.local\nnameserver 10.96.0.10\n"), 0o644)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// exits CODE COMMAND [ARG ...] runs a command and checks its exit code.
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

func bridgePod(t *testing.T) *netnstest.NS {
	t.Helper()
	node, pod := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, pod, "eth0", node, "veth0")
	pod.Addr(t, "eth0", "10.244.1.7/24")
	node.Addr(t, "veth0", "10.244.1.1/24")
	pod.Route(t, "0.0.0.0/0", "10.244.1.1", "eth0")
	return pod
}
