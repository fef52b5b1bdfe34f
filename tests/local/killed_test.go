package local

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/pod"
)

// mostCalls is more than podwire makes of any of these calls in one run.
const mostCalls = 200

// TestKilledAtEachChange kills setup, and then teardown, at the first, second,
// third ... call by which it changes something: a netlink request, an ioctl on the
// tap, a file that is opened, written, synced or renamed. Then it runs the command
// again, and the pod must be as if it had run once.
func TestKilledAtEachChange(t *testing.T) {
	for _, call := range []string{"sendto", "ioctl", "openat", "write", "fsync", "renameat"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, b pod.Binding) {
				if call == "write" && b == pod.TC {
					return // it is the most of all, and by it only the state is written, as with bridge
				}
				w := newWorldOf(t, dualBridge, resolvConf6, 4*time.Minute).with(b)
				w.enrich(t)
				before := w.settled(t)
				for n := 1; ; n++ {
					if n > mostCalls {
						t.Fatalf("podwire was still killed at %s number %d", call, n)
					}
					wiring := w.killed(t, call, n, "setup")
					if n%2 == 0 { // every other time it is finished before it is taken back
						w.podwire(t, "setup")
						w.wantNoDrift(t)
					}
					undoing := w.killed(t, call, n, "teardown")
					w.podwire(t, "teardown")
					if diff := cmp.Diff(before, w.settled(t)); diff != "" {
						t.Fatalf("killed at %s number %d, and then (-before +after):\n%s", call, n, diff)
					}
					if !wiring && !undoing {
						t.Logf("killed at each %s, of which there are at most %d", call, n-1)
						return
					}
				}
			})
		})
	}
}

// enrich gives the pod what is easily lost.
func (w *world) enrich(t *testing.T) {
	t.Helper()
	for _, line := range []string{
		"address add 10.244.1.200/24 dev eth0 label eth0:second",
		"address add fd00::7/64 dev eth0 nodad",
		"route add 10.9.0.0/16 via 10.244.1.1 metric 50 src 10.244.1.200 mtu 1400 protocol 99",
		"route add 10.8.0.0/16 via 10.244.1.1 table 100",
		"-6 route add 2001:db8:9::/48 via fd00:10:244:1::1 metric 50",
		"neighbour add 10.244.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
	} {
		if err := w.vm.IP(w.ctx, "%s", line); err != nil {
			t.Fatal(err)
		}
	}
	w.localRoute(t, netip.MustParseAddr("fd00::7"))
}

// killed runs podwire until its n-th call of a kind, and reports whether there was
// one.
func (w *world) killed(t *testing.T, call string, n int, command string) bool {
	t.Helper()
	program, err := w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	killed, err := w.vm.KillAt(w.ctx, call, n, "/dev/null", exec.Command(program, command, "--log-level", "error"))
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return killed
}

func (w *world) wantNoDrift(t *testing.T) {
	t.Helper()
	program, err := w.dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	// Nobody serves, so that its exit code is 1.
	out, _ := w.vm.Run(w.ctx, program, "status", "-o", "json")
	if !strings.Contains(out, `"applied": true`) || !strings.Contains(out, `"drift": []`) {
		t.Errorf("after a second setup the status is\n%s", out)
	}
}
