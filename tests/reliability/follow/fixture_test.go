package follow

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const topic = "follow"

// What the pod's network changes to.
var (
	movedTo      = netip.MustParsePrefix("10.244.1.77/24")
	movedTo6     = netip.MustParsePrefix("fd00:10:244:1::77/64")
	otherGateway = netip.MustParseAddr("10.244.1.254")
)

const (
	followLog = "/run/podwire/serve.log"
	port      = 8080
)

// testWorld is the world with what the tests of this package do in it.
type testWorld struct{ *world.World }

// newWorld makes the world of pods with both families, and has the test end within a minute.
func newWorld(t *testing.T, b pod.Binding) *testWorld {
	t.Helper()
	w := &testWorld{world.New(t, world.DualBridge, world.ResolvConf6, time.Minute)}
	w.With(b)
	return w
}

// udhcpc starts a client in a guest, and waits until it is bound.
func (w *testWorld) udhcpc(t *testing.T, guest *pod.Space) *client.Client {
	t.Helper()
	c, err := client.Udhcpc(guest, w.Dir, "nic0")
	w.Wait(t, world.Running(t, c, err), "bound")
	return c
}

// defaults6 are the routers of a guest's IPv6 default routes.
func (w *testWorld) defaults6(t *testing.T, guest *pod.Space) []string {
	t.Helper()
	var routes []struct{ Gateway string }
	if err := json.Unmarshal([]byte(w.Output(t, guest, "ip -6 -j route show default")), &routes); err != nil {
		t.Fatal(err)
	}
	var routers []string
	for _, each := range routes {
		routers = append(routers, each.Gateway)
	}
	return routers
}

// hasRouters waits until a guest has these IPv6 default routers and no others.
func (w *testWorld) hasRouters(t *testing.T, guest *pod.Space, want ...string) {
	t.Helper()
	w.Eventually(t, "has the routers "+strings.Join(want, " "), func() string {
		if now := w.defaults6(t, guest); !slices.Equal(now, want) {
			return "it has " + strings.Join(now, " ")
		}
		return ""
	})
}

// hasRouter waits until a guest has one IPv6 default router, whichever.
func (w *testWorld) hasRouter(t *testing.T, guest *pod.Space) {
	t.Helper()
	w.Eventually(t, "has a router", func() string {
		if now := w.defaults6(t, guest); len(now) != 1 {
			return "it has " + strings.Join(now, " ")
		}
		return ""
	})
}

// listen has a space take connections, of either family, until the test ends.
func (w *testWorld) listen(t *testing.T, s *pod.Space) {
	t.Helper()
	err := s.Do(func() error {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wire has podwire serve the pod until the test ends, and does not ask for the pod's
// network to be what it was: it is changed meanwhile.
func (w *testWorld) wire(t *testing.T, args ...string) world.Wired {
	t.Helper()
	all := w.Wire(t, args...)
	t.Cleanup(func() {
		w.Afresh(t)
		w.Podwire(t, "teardown")
	})
	return all[0]
}

// change is what a CNI plugin does to the pod that is told of other settings: with what
// it finds missing it has no trouble.
func (w *testWorld) change(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		err := w.VM.IP(w.Ctx, "%s", line)
		if err != nil && !strings.Contains(line, " del ") {
			t.Fatal(err)
		}
	}
}

// drift is what podwire's status names, in one text; it must end with 1 where that is
// anything, else with 0.
func (w *testWorld) drift(t *testing.T) string {
	t.Helper()
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.VM.Run(w.Ctx, program, "status", "-o", "json")
	var result struct{ Interfaces []world.Status }
	if json.Unmarshal([]byte(out), &result) != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire status printed %q: %v", out, err)
	}
	drift := strings.Join(result.Interfaces[0].Drift, "\n")
	if (err == nil) != (drift == "") {
		t.Errorf("podwire status ended with %v, and names %q", err, drift)
	}
	return drift
}

// drifts waits until status names something.
func (w *testWorld) drifts(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		w.Eventually(t, "names the drift", func() string { return world.Without(w.drift(t), text) })
	}
}

// takenOver has podwire's setup take over what has changed, after which nothing is amiss.
func (w *testWorld) takenOver(t *testing.T) {
	t.Helper()
	w.Podwire(t, "setup")
	if drift := w.drift(t); drift != "" {
		t.Errorf("after podwire setup, status names %q", drift)
	}
}

// follows counts the times that the server has told the guest of a change.
func (w *testWorld) follows(t *testing.T) int {
	t.Helper()
	return strings.Count(w.log(t), "the guest is told")
}

// followed waits until the server has told the guest of changes.
func (w *testWorld) followed(t *testing.T, n int) {
	t.Helper()
	w.Eventually(t, "tells the guest", func() string {
		if got := w.follows(t); got != n {
			return w.log(t)
		}
		return ""
	})
}

// log is what the server has logged.
func (w *testWorld) log(t *testing.T) string {
	t.Helper()
	log, err := w.VM.ReadFile(followLog)
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// has makes sure that the pod has one address and not another.
func (w *testWorld) has(t *testing.T, want, not netip.Prefix) {
	t.Helper()
	now := w.Output(t, w.VM.Space, "ip address show dev eth0")
	if text := world.Without(now, " "+want.String()+" "); text != "" {
		t.Error(text)
	}
	if strings.Contains(now, " "+not.String()+" ") {
		t.Errorf("the pod has %s again:\n%s", not, now)
	}
}

// torn is what podwire's teardown logs.
func (w *testWorld) torn(t *testing.T) string {
	t.Helper()
	program, err := w.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.VM.Run(w.Ctx, "sh", "-c", program+" teardown 2>&1")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}
