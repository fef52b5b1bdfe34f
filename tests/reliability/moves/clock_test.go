package moves

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// aDay is how far the clocks of a time namespace jump here: more than any lifetime.
const aDay = 24 * time.Hour

// at runs podwire in a time namespace whose clocks are ahead of the machine's.
func (w *testWorld) at(t *testing.T, ahead time.Duration, args ...string) said {
	t.Helper()
	if ahead == 0 {
		return w.try(t, w.VM, args...)
	}
	seconds := strconv.Itoa(int(ahead / time.Second))
	jump := []string{"--time", "--boottime", seconds, "--monotonic", seconds, w.program}
	return w.tryCmd(t, w.VM, exec.CommandContext(w.Ctx, "unshare", append(jump, args...)...))
}

// lifetimes are those of the pod's addresses that have one, in seconds.
func (w *testWorld) lifetimes(t *testing.T) map[string]int {
	t.Helper()
	var links []struct {
		Addrs []struct {
			Local string `json:"local"`
			Valid int    `json:"valid_life_time"`
		} `json:"addr_info"`
	}
	text := w.Output(t, w.VM.Space, "ip -j address show dev eth0 dynamic")
	if err := json.Unmarshal([]byte(text), &links); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	out := map[string]int{}
	for _, l := range links {
		for _, a := range l.Addrs {
			out[a.Local] = a.Valid
		}
	}
	return out
}

// TestClocksJumpBetweenSetupAndTeardown wires a pod whose addresses have lifetimes, and
// gives it back by a podwire whose clocks are a day ahead, or were: the addresses have
// what is left of their lifetimes, by the machine's clock.
func TestClocksJumpBetweenSetupAndTeardown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pod.Bridge, patience)
	const life = 5000
	for _, jump := range []struct{ setup, teardown time.Duration }{{0, aDay}, {aDay, 0}, {aDay, aDay}, {0, 0}} {
		for _, line := range []string{
			"address replace 10.244.1.77/24 dev eth0 valid_lft 5000 preferred_lft 4000",
			"address replace fd00:5::5/64 dev eth0 nodad valid_lft 5000 preferred_lft 4000",
		} {
			if err := w.VM.IP(w.Ctx, "%s", line); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		w.at(t, jump.setup, "setup").want(t, 0)
		w.at(t, jump.teardown, "teardown").want(t, 0)
		passed := int(time.Since(began)/time.Second) + 2
		for _, addr := range []string{"10.244.1.77", "fd00:5::5"} {
			if left := w.lifetimes(t)[addr]; left > life || left < life-passed {
				t.Errorf("setup %s ahead, teardown %s ahead: %s has %d s left, want %d to %d",
					jump.setup, jump.teardown, addr, left, life-passed, life)
			}
		}
	}
}

// TestServerOfOtherClocks has a server whose clocks are a day ahead of those of all else that
// runs: it is found, told of changes, and answers.
func TestServerOfOtherClocks(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, patience)
		before := w.settled(t, w.VM)
		w.at(t, aDay, "prestart").want(t, 0)
		t.Run("answers", w.isTold)
		w.at(t, 2*aDay, "teardown").want(t, 0)
		w.wantSettled(t, w.VM, before, "teardown")
	})
}

// isTold has a guest get a lease, and then renew it, upon which it is told of a change.
func (w *testWorld) isTold(t *testing.T) {
	tap, guest := w.Plug(t, w.wired(t))
	c, err := client.Udhcpc(guest, w.Dir, "nic0")
	w.Wait(t, world.Running(t, c, err), "bound")
	w.Podwire(t, "setup", "--domain", "moved.example")
	if err := c.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if event := w.Wait(t, c, "renew"); event.Told["domain"] != "moved.example" {
		t.Errorf("the guest was told of the domain %q", event.Told["domain"])
	}
	if n := tap.Counts()["DISCOVER"]; n != 1 {
		t.Errorf("the guest sent %d DISCOVERs", n)
	}
}
