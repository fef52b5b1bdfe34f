package launchcmd

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cli"
	"github.com/podwire/podwire/pkg/launcher"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"podwire":          func() { os.Exit(cli.Execute(cli.NewCommand())) },
		"podwire-launcher": func() { os.Exit(cli.Execute(NewCommand())) },
	})
}

// TestScripts runs the scripts in testdata over the real program. Each has a pod
// of its own, a network namespace as the CNI plugin bridge leaves it. Those named
// mock start machines of libvirt's mock hypervisor, which is in its client
// library.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Condition: func(cond string) (bool, error) {
			if cond == "libvirt" {
				return withLibvirt, nil
			}
			return false, errors.New("unknown condition " + cond)
		},
		Setup: func(env *testscript.Env) error {
			node, pod := netnstest.New(t), netnstest.New(t)
			netnstest.Veth(t, pod, "eth0", node, "veth0")
			pod.Addr(t, "eth0", "10.244.1.7/24")
			node.Addr(t, "veth0", "10.244.1.1/24")
			pod.Route(t, "0.0.0.0/0", "10.244.1.1", "eth0")
			env.Setenv("PODWIRE_NETNS", pod.Path)
			env.Setenv("PODWIRE_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("PODWIRE_RESOLV_CONF", env.WorkDir+"/resolv.conf")
			return os.WriteFile(env.WorkDir+"/resolv.conf", []byte("nameserver 10.96.0.10\n"), 0o644)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits, "await": await},
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

// await FILE TEXT waits until a file holds a text.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	var text []byte
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		text, _ = os.ReadFile(ts.MkAbs(args[0]))
		if strings.Contains(string(text), args[1]) {
			return
		}
	}
	ts.Fatalf("waited in vain for %q in %s:\n%s", args[1], args[0], text)
}

// A network that is left under a machine is for a person to look at, and the
// error says so once.
func TestANetworkThatIsLeft(t *testing.T) {
	err := error(stillWired{errors.Join(errors.New("libvirt is gone"), launcher.ErrNetworkLeft)})
	if _, ok := errors.AsType[*apply.UndoError](err); !ok {
		t.Error("it has another exit code than 3")
	}
	if got, want := err.Error(), "libvirt is gone\n"+launcher.ErrNetworkLeft.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
