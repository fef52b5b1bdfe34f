package confined

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

const topic = "confined"

// patience bounds a test, on a machine that has other things to do.
const patience = 90 * time.Second

type testWorld struct {
	*world.World
	program string
}

// newWorld is a pod of both families.
func newWorld(t *testing.T, b pod.Binding) *testWorld {
	t.Helper()
	w := &testWorld{World: world.New(t, world.DualBridge, world.ResolvConf6, patience).With(b)}
	var err error
	if w.program, err = w.Dir.Program("podwire"); err != nil {
		t.Fatal(err)
	}
	return w
}

// confinement is what status says of it.
type confinement struct {
	Capabilities    string   `json:"capabilities"`
	NoNewPrivileges bool     `json:"noNewPrivileges"`
	Seccomp         int      `json:"seccomp"`
	Landlock        int      `json:"landlock"`
	Lacking         []string `json:"lacking"`
}

type status struct {
	Applied     bool         `json:"applied"`
	Drift       []string     `json:"drift"`
	Serving     bool         `json:"serving"`
	PID         int          `json:"pid"`
	MAC         string       `json:"mac"`
	Hostname    string       `json:"hostname"`
	Confinement *confinement `json:"confinement"`
}

// status is that of the one interface.
func (w *testWorld) status(t *testing.T) status {
	t.Helper()
	out, err := w.VM.Run(w.Ctx, w.program, "status", "-o", "json")
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, w.shell(t, "tail -n 5 /run/podwire/serve.log; ls -l /run/podwire; ps -ef"))
	}
	return statusOf(t, out)
}

// shell runs a line in the pod.
func (w *testWorld) shell(t *testing.T, line string) string {
	t.Helper()
	out, err := w.VM.Run(w.Ctx, "sh", "-c", line)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantNothing has the kernel say of each of the server's threads that it may do nothing.
func wantNothing(t *testing.T, statusOfThreads string) {
	t.Helper()
	threads := 0
	for line := range strings.Lines(statusOfThreads) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		want := map[string]string{
			"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
			"CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		}[key]
		if key == "Pid" {
			threads++
		}
		if want != "" && value != want {
			t.Errorf("a thread of the server has %s %s, want %s", key, value, want)
		}
	}
	if threads < 2 {
		t.Errorf("%d threads were looked at", threads)
	}
}

// wantConfined holds a server of the pod to being confined, by its own word and by the
// kernel's. It returns its number.
func (w *testWorld) wantConfined(t *testing.T) int {
	t.Helper()
	st := w.status(t)
	c := st.Confinement
	if c == nil || c.Capabilities != "none" || !c.NoNewPrivileges || c.Seccomp < 40 || c.Landlock < 1 || c.Lacking != nil {
		t.Errorf("status says of the server: %+v", c)
	}
	wantNothing(t, w.shell(t, "cat /proc/"+strconv.Itoa(st.PID)+"/task/*/status"))
	return st.PID
}

// guest is one at the tap, which goes when stop is called.
func (w *testWorld) guest(t *testing.T, to world.Wired) (guest *pod.Space, stop func()) {
	t.Helper()
	guest = w.NewGuest(t)
	tap, err := wire.Connect(w.Ctx, w.VM.Space, to.Tap, guest, "nic0", to.MAC, to.MTU)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = tap.Close() // its tap may be gone
		}
	}
	t.Cleanup(stop)
	return guest, stop
}

// isServed has a guest be told all by the three protocols and use it.
func (w *testWorld) isServed(t *testing.T, guest *pod.Space) (told map[string]string) {
	t.Helper()
	v4, err := client.Udhcpc(guest, w.Dir, "nic0")
	world.Running(t, v4, err)
	told = w.Wait(t, v4, "bound").Told
	w.LinkLocal(t, guest, "nic0")
	v6, err := client.Dhclient6(guest, w.Dir, "nic0", "")
	world.Running(t, v6, err)
	w.Wait(t, v6, "BOUND6")
	w.Eventually(t, "has a router of IPv6", func() string {
		return world.Without(w.Output(t, guest, "ip -6 route show default"), "via fe80")
	})
	w.Reaches(t, guest, w.Other.Addr.Addr(), pod.Outside6)
	if err := v4.Signal(sigRenew); err != nil {
		t.Fatal(err)
	}
	w.Wait(t, v4, "renew")
	v4.Stop()
	v6.Stop()
	return told
}

// with runs podwire in the pod with these capabilities and no others, which it could not
// get back either.
func (w *testWorld) with(capabilities string, args ...string) *exec.Cmd {
	set := "-all"
	for name := range strings.FieldsSeq(capabilities) {
		set += ",+" + name
	}
	return exec.CommandContext(w.Ctx, "setpriv", append([]string{
		"--bounding-set=" + set, "--inh-caps=-all", "--ambient-caps=-all", w.program,
	}, args...)...)
}

func (w *testWorld) runWith(t *testing.T, capabilities string, args ...string) string {
	t.Helper()
	out, err := w.VM.RunCmd(w.with(capabilities, args...))
	if err != nil {
		t.Fatalf("with no capability but %q: %v", capabilities, err)
	}
	return out
}
