package cli

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

// recordOf is the record of a dual-stack pod, as this release makes it.
func recordOf(t *testing.T, a *Agent, settings ...config.Setting) record.Record {
	t.Helper()
	c := a.config
	if err := c.Apply(settings...); err != nil {
		t.Fatal(err)
	}
	j, err := a.fresh(shapes.Dual(), "eth0", c, true)
	if err != nil {
		t.Fatal(err)
	}
	return j.record
}

// olderRecord is one of a release that knew no IPv6.
func olderRecord(t *testing.T, a *Agent) record.Record {
	t.Helper()
	r := recordOf(t, a)
	r.Lease.Routers, r.Lease.Neighbors, r.Lease.Server.LinkLocal = nil, nil, netip.Addr{}
	for i, step := range r.Steps {
		if f, ok := step.(plan.AddFilter); ok {
			f.Drop = slices.DeleteFunc(slices.Clone(f.Drop), func(m plan.Match) bool {
				return strings.Contains(m.String(), "ip6") || strings.Contains(m.String(), "icmp6")
			})
			r.Steps[i] = f
		}
	}
	return r
}

func testAgent(outside bool) *Agent {
	return &Agent{config: config.Default(), log: slog.New(slog.DiscardHandler), outside: outside}
}

func dnsForward(value string) config.Setting {
	return config.Setting{Field: "dns-forward", Source: "--dns-forward", Values: []string{value}}
}

// TestPodWiredFromOutsideKeepsWhatItsFiltersAreFor: today's settings may change what
// the guest is told, and not what its wiring keeps off the pod's network.
func TestPodWiredFromOutsideKeepsWhatItsFiltersAreFor(t *testing.T) {
	outside := testAgent(true)
	older := olderRecord(t, outside)
	tests := []struct {
		name     string
		in       record.Record
		now      []config.Setting
		refused  bool
		dns      int // addresses of the relay
		noRouter bool
	}{
		{name: "as it was wired", in: recordOf(t, outside)},
		{name: "with a relay", in: recordOf(t, outside, dnsForward("true")), dns: 2},
		{name: "a relay that the wiring does not know", in: recordOf(t, outside), now: []config.Setting{dnsForward("true")}, refused: true},
		{name: "no relay any more", in: recordOf(t, outside, dnsForward("true")), now: []config.Setting{dnsForward("false")}, refused: true},
		{name: "by a release without IPv6", in: older, noRouter: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := testAgent(false)
			if err := a.config.Apply(tt.now...); err != nil {
				t.Fatal(err)
			}
			got, err := a.complete(tt.in)
			if tt.refused {
				if err == nil || !strings.Contains(err.Error(), "dns-forward") {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Lease.Server.DNS) != tt.dns || got.Lease.Server.LinkLocal != tt.in.Lease.Server.LinkLocal {
				t.Errorf("server %+v", got.Lease.Server)
			}
			if noRouter := len(got.Lease.Routers) == 0; noRouter != tt.noRouter {
				t.Errorf("routers %v", got.Lease.Routers)
			}
		})
	}
}

// TestWiringOfAnotherReleaseStays: a second setup, by a newer podwire, changes
// nothing of it; other settings are refused all the same.
func TestWiringOfAnotherReleaseStays(t *testing.T) {
	a := testAgent(false)
	older := olderRecord(t, a)
	older.Phase = record.Recorded
	j, err := a.again(older.Snapshot, older)
	if err != nil {
		t.Fatal(err)
	}
	if j.record.Steps.String() != older.Steps.String() || len(j.record.Lease.Routers) > 0 {
		t.Errorf("routers %v, steps\n%s", j.record.Lease.Routers, j.record.Steps)
	}
	for _, s := range []config.Setting{dnsForward("true"), {Field: "mtu", Source: "--mtu", Values: []string{"1300"}}} {
		a := testAgent(false)
		if err := a.config.Apply(s); err != nil {
			t.Fatal(err)
		}
		if _, err := a.again(older.Snapshot, older); err == nil {
			t.Errorf("%s: taken", s.Source)
		}
	}
}

// TestRoutesOfOthersAreThoseOfBeforeTheirWiring also where it was cut off.
func TestRoutesOfOthersAreThoseOfBeforeTheirWiring(t *testing.T) {
	for _, phase := range []record.Phase{record.Recorded, record.Applied} {
		a := testAgent(false)
		a.dir = record.Dir(t.TempDir())
		r := recordOf(t, a)
		r.Phase = phase
		if err := a.dir.Save(r); err != nil {
			t.Fatal(err)
		}
		now := r.Snapshot
		now.Routes, now.Addrs = nil, nil
		got, err := a.asBefore(now)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(got.Routes, netstate.Route.Default) {
			t.Errorf("%s: routes %v", phase, got.Routes)
		}
	}
}

// TestRecordsAreInTheOrderOfTheVM: the names of their files would put eth10 before
// eth2.
func TestRecordsAreInTheOrderOfTheVM(t *testing.T) {
	a := testAgent(false)
	a.dir = record.Dir(t.TempDir())
	save := func(name string, position, index int) {
		r := recordOf(t, a)
		r.Position = position
		r.Interface.PodInterface, r.Interface.Tap, r.Interface.Bridge = name, plan.TapName(name), plan.BridgeName(name)
		r.Snapshot.Links = []netstate.Link{{Name: name, Index: index}}
		r.Steps = nil
		if err := a.dir.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	save("eth0", 1, 2)
	save("net1", 0, 3) // the annotation has it first
	save("eth10", 2, 11)
	save("eth2", 2, 4) // wired by itself, as eth10 was
	records, err := a.recorded(shapes.Dual().NetNS)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records {
		got = append(got, r.Interface.PodInterface)
	}
	if want := []string{"net1", "eth0", "eth2", "eth10"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
