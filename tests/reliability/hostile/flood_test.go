package hostile

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// A flood is a million frames a minute.
const perSecond = 1_000_000 / 60

// What a flood may cost: a tenth of a core, and no memory beyond what a collector of garbage
// leaves lying about.
const (
	mostCPU    = 0.1
	mostGrowth = 3 << 10 // KiB

	// The relay's work is for the guest, as is what it costs; and 128 questions may wait, each
	// with a socket of its own.
	mostCPUDNS    = 0.25
	mostGrowthDNS = 8 << 10
)

// TestFlood floods the server with each kind of frame that it answers, and with all at once.
func TestFlood(t *testing.T) {
	h := newHostile(t, pod.Bridge)
	lasts, all := 1500*time.Millisecond, 3*time.Second
	if world.Long() {
		lasts, all = 10*time.Second, time.Minute
	}
	begin := h.used(t)
	var cores, most float64
	for _, m := range h.makers() {
		if m.name == "all of them mixed" {
			lasts = all
		}
		took := h.flood(t, m, lasts)
		cores, most = cores+took/float64(len(h.makers())), max(most, took)
	}
	end := h.used(t)
	// A short flood is too short a time for a figure of its own.
	if cores > mostCPU || world.Long() && most > mostCPU {
		t.Errorf("floods take %.1f %% of a core, and the worst %.1f %%", 100*cores, 100*most)
	}
	world.Figure(t, topic, "memory of the server before the first flood, and after the last",
		fmt.Sprintf("RSS %.1f and %.1f MiB, PSS %.1f and %.1f MiB", mib(begin.rss), mib(end.rss), mib(begin.pss), mib(end.pss)))
	if end.rss-begin.rss > mostGrowth {
		t.Errorf("the server's memory grew by %d KiB", end.rss-begin.rss)
	}
	counts := h.Status(t)[0].Counts
	world.Figure(t, topic, "questions beyond the limits, unanswered", counts["limited"])
	if counts["limited"] == 0 || counts["paused"] == 0 {
		t.Errorf("no limit was met: %v", counts)
	}
	if counts["panic"] > 0 {
		t.Errorf("the server panicked %d times", counts["panic"])
	}
}

func mib(kib int) float64 { return float64(kib) / 1024 }

// flood floods for a time, and in the middle of it has the client renew its lease. It returns
// how much of a core the server took.
func (h *hostile) flood(t *testing.T, m maker, lasts time.Duration) (cores float64) {
	t.Helper()
	before, begun := h.used(t), time.Now()
	sent := h.send(t, m, lasts/2)
	renewed := h.renew(t)
	sent += h.send(t, m, lasts/2)
	took := time.Since(begun)
	after := h.used(t)
	var waited time.Duration
	select {
	case waited = <-renewed:
	case <-time.After(world.SettleTime):
		t.Fatalf("the client has no lease again:\n%s", h.client.Log())
	}

	cores = (after.cpu - before.cpu).Seconds() / took.Seconds()
	minute := float64(sent) / took.Minutes()
	world.Figure(t, topic, "flood of "+m.name, fmt.Sprintf("%d frames at %.2f million a minute: %.1f %% of a core, RSS %+d KiB; the client had its lease again in %s",
		sent, minute/1e6, 100*cores, after.rss-before.rss, waited.Round(time.Millisecond)))
	if world.Long() && minute < 0.9e6 {
		t.Errorf("a flood of %.0f frames a minute is none", minute)
	}
	return cores
}

// renew has the client renew its lease, and tells how long it took. A client whose own link
// is flooded may begin anew: of so many questions from one MAC few are answered.
func (h *hostile) renew(t *testing.T) <-chan time.Duration {
	t.Helper()
	asked, renewed := time.Now(), make(chan time.Duration, 1)
	if err := h.client.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := h.client.Wait(h.Ctx, "renew", "bound"); err == nil {
			renewed <- time.Since(asked)
		}
	}()
	return renewed
}

// send sends as many frames as a flood has, for a time, and returns how many.
func (h *hostile) send(t *testing.T, m maker, lasts time.Duration) (sent int) {
	t.Helper()
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for begun := time.Now(); time.Since(begun) < lasts; <-pace.C {
		for due := int(time.Since(begun).Seconds() * perSecond); sent < due; sent++ {
			if err := h.link.Send(m.make()); err != nil && !errors.Is(err, unix.ENOBUFS) {
				t.Fatal(err)
			}
		}
	}
	return sent
}

// TestFloodOfDNS floods podwire's DNS relay, whose work is for the guest itself: it may cost
// what the relay's limit lets through. A nameserver that is silent is the worst there is.
func TestFloodOfDNS(t *testing.T) {
	h := newHostile(t, pod.Bridge, "--dns-forward")
	lasts := 2 * time.Second
	if world.Long() {
		lasts = 10 * time.Second
	}
	before := h.used(t)
	if cores := h.flood(t, maker{"DNS questions", h.question}, lasts); cores > mostCPUDNS {
		t.Errorf("a flood of DNS questions takes %.1f %% of a core", 100*cores)
	}
	if after := h.used(t); after.rss-before.rss > mostGrowthDNS {
		t.Errorf("the server's memory grew by %d KiB", after.rss-before.rss)
	}
	if counts := h.Status(t)[0].Counts; counts["dns-udp"] == 0 || counts["limited"] == 0 {
		t.Errorf("no limit was met: %v", counts)
	}
}
