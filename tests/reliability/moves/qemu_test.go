package moves

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// bootTime is a bound on a test in which a guest boots several times, under emulation.
const bootTime = 8 * time.Minute

// boot starts QEMU on the tap, and waits until the guest is ready.
func (w *testWorld) boot(t *testing.T, to world.Wired) *guest.QEMU {
	t.Helper()
	q, err := guest.Start(w.Ctx, w.Dir, w.VM.Space, guest.NIC{Tap: to.Tap, MAC: to.MAC}, func() { t.Log("trying KVM") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Kill)
	w.ready(t, q, 0)
	return q
}

// ready waits until the guest is ready, as said after a line of its console, and has its
// address by one DISCOVER. It returns where to go on from.
func (w *testWorld) ready(t *testing.T, q *guest.QEMU, from int) int {
	t.Helper()
	_, bound, err := q.WaitAfter(w.Ctx, from, guest.Prefix+`lease event=bound .*\bip=`+strings.ReplaceAll(w.GuestAddr().String(), ".", `\.`)+`\b`)
	if err != nil {
		t.Fatal(q.Explain(err))
	}
	done, _, err := q.WaitAfter(w.Ctx, from, guest.Prefix+`dhcp nic=\S+ status=(\d+) discovers=(\d+)`)
	if err != nil {
		t.Fatal(q.Explain(err))
	}
	if done[1] != "0" || done[2] != "1" {
		t.Errorf("the guest's DHCP client ended with %s after %s DISCOVERs, want 0 after 1", done[1], done[2])
	}
	_, after, err := q.WaitAfter(w.Ctx, bound, guest.Prefix+"ready")
	if err != nil {
		t.Fatal(q.Explain(err))
	}
	return after
}

// reaches has the guest reach the other pod and the outside.
func (w *testWorld) reaches(t *testing.T, q *guest.QEMU) {
	t.Helper()
	for _, target := range w.Reachable() {
		out, status, err := q.Run(w.Ctx, "try-ping "+target.String())
		if err != nil || status != 0 {
			t.Errorf("the guest does not reach %s: status %d, %v\n%s", target, status, err, out)
		}
	}
}

// TestGuestComesBack has a real guest whose machine is reset, whose QEMU is killed and
// started again, and whose tap is deleted under it. It is always answered at once, gets
// the same lease, and the server never ends. In the short form only the tap is deleted with
// bindings other than the first: all of them hear the guest by the same socket.
func TestGuestComesBack(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, bootTime)
		to := w.Prestart(t)
		server := w.statusOf(t).PID

		q, boots := w.boot(t, to), 2
		w.reaches(t, q)
		if b == pod.Bridge || world.Long() {
			q, boots = w.comesBack(t, q, to), 4
		}

		w.deleteTapUnder(t, q, to.Tap)
		q.Kill()
		q = w.boot(t, to)
		w.reaches(t, q)
		if now := w.statusOf(t); now.PID != server || !now.Serving || len(now.Drift) > 0 || now.Counts["panic"] > 0 {
			t.Errorf("the server was process %d, and now status says %+v", server, now)
		}
		// Under a guest that runs, the pod is given back all the same.
		w.try(t, w.VM, "teardown").want(t, 0)
		world.Figure(t, topic, "boots of a real guest behind "+string(b)+", each bound by one DISCOVER", boots)
	})
}

// comesBack resets the guest's machine, and then kills its QEMU and starts another.
func (w *testWorld) comesBack(t *testing.T, q *guest.QEMU, to world.Wired) *guest.QEMU {
	t.Helper()
	from := len(q.Lines())
	if err := q.Reset(w.Ctx); err != nil {
		t.Fatal(err)
	}
	w.ready(t, q, from)
	w.reaches(t, q)

	q.Kill()
	if drift := w.drift(t); len(drift) > 0 {
		t.Errorf("without QEMU status says %q", drift)
	}
	q = w.boot(t, to)
	w.reaches(t, q)
	return q
}

// deleteTapUnder deletes the tap that QEMU has open: status names it, and setup makes it
// again, while the server stays.
func (w *testWorld) deleteTapUnder(t *testing.T, q *guest.QEMU, tap string) {
	t.Helper()
	if err := w.VM.IP(w.Ctx, "link del %s", tap); err != nil {
		t.Fatal(err)
	}
	if drift := strings.Join(w.drift(t), "\n"); !strings.Contains(drift, strconv.Quote(tap)+" is gone") {
		t.Errorf("status does not name the tap: %q", drift)
	}
	if !q.Running() {
		t.Error("QEMU ended with its tap")
	}
	if !w.statusOf(t).Serving {
		t.Error("the server ended with its tap")
	}
	w.try(t, w.VM, "setup").want(t, 0, "not as planned, repairing")
	if drift := w.drift(t); len(drift) > 0 {
		t.Errorf("after setup status says %q", drift)
	}
}
