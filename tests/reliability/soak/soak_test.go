package soak

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const (
	// short is how long it takes where nobody says so: each fault once, or nearly.
	short = 10 * time.Second
	// around is what booting a guest and ending it may take, on a slow machine.
	around = 3 * time.Minute
	// patience is how long a guest may wait for its next lease when a fault is over. Its
	// client asks every second, and a second later again where there was no answer.
	patience = 10 * time.Second
)

// TestSoak injects faults, one after another, in an order that the seed makes. After each
// the guest must renew its lease, with the same address; at the end the pod is as it was.
func TestSoak(t *testing.T) {
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		length, seed := length(t), seed(t)
		t.Logf("for %s, with PODWIRE_SEED=%d", length, seed)
		s := &soak{World: world.New(t, world.DualBridge, world.ResolvConf6, length+around).With(b), did: map[string]int{}}
		before := s.Settled(t)
		s.begin(t)
		order := rand.New(rand.NewPCG(seed, 0))
		for end := time.Now().Add(length); time.Now().Before(end); {
			for _, n := range order.Perm(len(troubles)) {
				s.inject(t, troubles[n])
			}
		}
		s.end(t)
		if diff := cmp.Diff(before, s.Settled(t)); diff != "" {
			t.Errorf("the pod's network afterwards (-before +after):\n%s", diff)
		}
	})
}

func length(t *testing.T) time.Duration {
	text := os.Getenv("PODWIRE_SOAK")
	if text == "" {
		return short
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("PODWIRE_SOAK: %v", err)
	}
	return d
}

func seed(t *testing.T) uint64 {
	text := os.Getenv("PODWIRE_SEED")
	if text == "" {
		return rand.Uint64()
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("PODWIRE_SEED: %v", err)
	}
	return n
}

// renewing has the guest's client renew its lease a second after it got it, and ask anew
// where it got none for a while: asked too often, it would not wait for the answer.
const renewing = `(while sleep 0.8; do
	rm -f /run/leased.NIC;
	kill -USR1 $(cat /run/udhcpc.NIC.pid);
	for wait in $(seq 15); do [ -e /run/leased.NIC ] || sleep 0.2; done;
done) >/dev/null 2>&1 &`

// begin wires the pod, and boots a guest in it that goes on to ask for its lease.
func (s *soak) begin(t *testing.T) {
	t.Helper()
	s.Podwire(t, "setup")
	s.bindState(t)
	s.serve(t)
	var err error
	s.guest, err = guest.Boot(s.Ctx, s.Dir, s.VM, func() { t.Log("trying KVM") }, nil, "--prewired")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.guest.Kill)
	lease, err := s.guest.Bound(s.Ctx)
	if err != nil {
		t.Fatal(s.guest.Explain(err))
	}
	s.nic, s.ip = lease["nic"], lease["ip"]
	s.inGuest(t, strings.NewReplacer("NIC", s.nic, "\n", " ").Replace(renewing))
	go s.watch()
	s.stopPing = s.ping(t)
	s.renewed(t, "it began", "")
}

// inject has one fault happen, and its end, and waits until the guest has a lease again.
func (s *soak) inject(t *testing.T, f trouble) {
	t.Helper()
	if f.not != nil && f.not(s.Binding) {
		return
	}
	told := f.inject(s, t)
	took := s.renewed(t, f.name, told)
	s.did[f.name]++
	t.Logf("%s; a lease %d ms later", f.name, took.Milliseconds())
}

// end shuts the guest down, puts the pod back and says how it went.
func (s *soak) end(t *testing.T) {
	t.Helper()
	lost, pings := s.stopPing()
	rss := s.memory(t)
	if err := s.guest.ShutDown(s.Ctx); err != nil {
		t.Error(err)
	}
	s.stopServer(t)
	s.Podwire(t, "teardown")
	faults := 0
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.did)) {
		faults += s.did[name]
		names = append(names, fmt.Sprintf("%s: %d", name, s.did[name]))
	}
	renewals, longest := s.figures()
	t.Logf("%s", strings.Join(names, ", "))
	note := func(name string, value any) { world.Figure(t, "soak", string(s.Binding)+", "+name, value) }
	note("faults", faults)
	note("renewals", renewals)
	note("longest without one", fmt.Sprintf("%.1f s", longest.Seconds()))
	note("pings", pings)
	note("pings lost", lost)
	note("server starts", len(s.starts))
	note("slowest start", fmt.Sprintf("%d ms", slices.Max(s.starts).Milliseconds()))
	note("server's memory", rss)
	if renewals == 0 {
		t.Error("the guest never renewed its lease")
	}
}
