package moves

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// open is how many files and threads the server has.
func (w *testWorld) open(t *testing.T, server int) (files, threads int) {
	t.Helper()
	count := func(what string) int {
		text, err := w.VM.Run(w.Ctx, "sh", "-c", "ls /proc/"+strconv.Itoa(server)+"/"+what+" | wc -l")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return count("fd"), count("task")
}

// TestTapIsDeletedOverAndOver deletes the tap under the server, has setup make it again, and
// plugs a client in that is answered each time: by the one server, which has no more open in
// the end than after the first time. How long it is until the server answers on the new
// tap is measured from the end of setup.
func TestTapIsDeletedOverAndOver(t *testing.T) {
	t.Parallel()
	times := 6
	if world.Long() {
		times = 100
	}
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, patience*4)
		w.Prestart(t)
		server := w.statusOf(t).PID
		var files, threads int
		var worst time.Duration
		for n := range times {
			if err := w.VM.IP(w.Ctx, "link del tap-eth0"); err != nil {
				t.Fatal(err)
			}
			w.try(t, w.VM, "setup").want(t, 0, "not as planned, repairing")
			t.Run(strconv.Itoa(n), func(t *testing.T) { worst = max(worst, w.isAnswered(t)) })
			if n == 1 {
				files, threads = w.open(t, server)
			}
		}
		if st := w.statusOf(t); st.PID != server || !st.Serving || len(st.Drift) > 0 {
			t.Errorf("the server was process %d, and now status says %+v", server, st)
		}
		w.Eventually(t, "has no more open", func() string {
			f, th := w.open(t, server)
			if f > files || th > threads+4 { // the runtime's threads come as it needs them
				return fmt.Sprintf("%d files and %d threads, and had %d and %d", f, th, files, threads)
			}
			return ""
		})
		world.Figure(t, topic, "taps deleted under one server, "+string(b), times)
		world.Figure(t, topic, "a client on the new tap has its lease after at most, "+string(b), worst.Round(time.Millisecond))
	})
}

// isAnswered plugs a client in, and returns how long it took to get its lease.
func (w *testWorld) isAnswered(t *testing.T) time.Duration {
	tap, guest := w.Plug(t, w.wired(t))
	began := time.Now()
	c, err := client.Udhcpc(guest, w.Dir, "nic0", "-n", "-q", "-t", "20")
	if event := w.Wait(t, world.Running(t, c, err), "bound", "leasefail"); event.Reason != "bound" {
		t.Fatalf("the client was not answered: %v", tap.Counts())
	}
	return time.Since(began)
}
