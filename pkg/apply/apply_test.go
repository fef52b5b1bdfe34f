package apply_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/podwire/podwire/internal/kerneltest"
	"github.com/podwire/podwire/internal/planned"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var quiet = slog.New(slog.DiscardHandler)

func stepsOf(t *testing.T, s netstate.Snapshot) plan.Steps { return boundSteps(t, s, config.Bridge) }

func boundSteps(t *testing.T, s netstate.Snapshot, b config.Binding) plan.Steps {
	t.Helper()
	c := config.Default()
	c.Binding = b
	p, _ := planned.Eth0(t, s, c)
	return p.Steps
}

// each does something for each shape of pod and each binding, in a bubble of time in
// which pauses take none.
func each(t *testing.T, do func(t *testing.T, before netstate.Snapshot, steps plan.Steps)) {
	t.Helper()
	for _, shape := range shapes.All() {
		for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
			if b == config.Masquerade && len(shape.Snapshot.AddrsOf(shapes.Index)) == 0 {
				continue // which it refuses
			}
			t.Run(shape.Name+"/"+string(b), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { do(t, shape.Snapshot, boundSteps(t, shape.Snapshot, b)) })
			})
		}
	}
}

// operations counts what a run of all steps takes.
func operations(t *testing.T, before netstate.Snapshot, steps plan.Steps) int {
	t.Helper()
	k := kerneltest.New(before)
	if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
		t.Fatal(err)
	}
	return k.Ops
}

func TestRunThenUndoLeavesThePodAsFound(t *testing.T) {
	each(t, func(t *testing.T, before netstate.Snapshot, steps plan.Steps) {
		k := kerneltest.New(before)
		if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
			t.Fatal(err)
		}
		if drift := apply.Check(steps, k.State); len(drift) > 0 {
			t.Errorf("drift right after: %q", drift)
		}
		for _, a := range k.State.Addrs {
			if a.Link == shapes.Index && slices.ContainsFunc(steps, func(s plan.Step) bool { return s.Kind() == "take-addresses" }) {
				t.Errorf("the pod interface still has %s", a.Prefix)
			}
		}
		if err := apply.Undo(t.Context(), k, steps, quiet); err != nil {
			t.Fatal(err)
		}
		if diff := kerneltest.Diff(before, k.State); diff != "" {
			t.Errorf("after undo (-before +after):\n%s", diff)
		}
		if missing := apply.Restored(steps, k.State); len(missing) > 0 {
			t.Errorf("missing: %q", missing)
		}
	})
}

func TestASecondRunChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, before netstate.Snapshot, steps plan.Steps) {
		k := kerneltest.New(before)
		if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
			t.Fatal(err)
		}
		ops, wired := k.Ops, kerneltest.New(k.State).State
		if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
			t.Fatal(err)
		}
		if k.Ops != ops {
			t.Errorf("the second run did %d operations", k.Ops-ops)
		}
		if diff := kerneltest.Diff(wired, k.State); diff != "" {
			t.Errorf("the second run changed (-before +after):\n%s", diff)
		}
	})
}

func TestWhateverFailsThePodIsAsFound(t *testing.T) {
	each(t, func(t *testing.T, before netstate.Snapshot, steps plan.Steps) {
		for n := 1; n <= operations(t, before, steps); n++ {
			k := kerneltest.New(before)
			k.FailAt, k.Err = n, syscall.EPERM
			err := apply.Run(t.Context(), k, steps, quiet)
			var step *apply.StepError
			if !errors.As(err, &step) || !errors.Is(err, syscall.EPERM) {
				t.Fatalf("operation %d: err = %v, want a StepError of EPERM", n, err)
			}
			if diff := kerneltest.Diff(before, k.State); diff != "" {
				t.Errorf("operation %d failed, and then (-before +after):\n%s", n, diff)
			}
		}
	})
}

// killed is a kernel whose caller dies after some operations.
type killed struct {
	*kerneltest.Kernel
}

var errKilled = errors.New("killed")

func (k killed) Undo(context.Context, plan.Step) error { return errKilled }

func TestKilledAnywhereItIsFinishedOrTakenBack(t *testing.T) {
	each(t, func(t *testing.T, before netstate.Snapshot, steps plan.Steps) {
		whole := kerneltest.New(before)
		if err := apply.Run(t.Context(), whole, steps, quiet); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= whole.Ops; n++ {
			half := kerneltest.New(before)
			half.FailAt = n
			if err := apply.Run(t.Context(), killed{half}, steps, quiet); err == nil {
				t.Fatalf("operation %d did not fail", n)
			}
			again := kerneltest.New(half.State)
			if err := apply.Run(t.Context(), again, steps, quiet); err != nil {
				t.Fatalf("finishing after operation %d: %v", n, err)
			}
			if diff := kerneltest.Diff(whole.State, again.State); diff != "" {
				t.Errorf("finished after operation %d (-want +got):\n%s", n, diff)
			}
			back := kerneltest.New(half.State)
			if err := apply.Undo(t.Context(), back, steps, quiet); err != nil {
				t.Fatalf("taking back after operation %d: %v", n, err)
			}
			if diff := kerneltest.Diff(before, back.State); diff != "" {
				t.Errorf("taken back after operation %d (-before +after):\n%s", n, diff)
			}
		}
	})
}

// wired is a kernel in which all steps are done.
func wired(t *testing.T, before netstate.Snapshot, steps plan.Steps) *kerneltest.Kernel {
	t.Helper()
	k := kerneltest.New(before)
	if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
		t.Fatal(err)
	}
	return kerneltest.New(k.State)
}

func TestATeardownOfWhichOneOperationFailsPutsAllBack(t *testing.T) {
	each(t, func(t *testing.T, before netstate.Snapshot, steps plan.Steps) {
		done := wired(t, before, steps)
		for n := 1; ; n++ {
			k := kerneltest.New(done.State)
			k.FailAt = n
			if err := apply.Undo(t.Context(), k, steps, quiet); err != nil {
				t.Fatalf("operation %d failed once, and with it the teardown: %v", n, err)
			}
			if diff := kerneltest.Diff(before, k.State); diff != "" {
				t.Errorf("operation %d (-before +after):\n%s", n, diff)
			}
			if k.Ops < n {
				return // there was no n-th operation
			}
		}
	})
}

func TestATeardownThatFailsForGoodSaysSoAndIsFinishedByTheNext(t *testing.T) {
	each(t, func(t *testing.T, before netstate.Snapshot, steps plan.Steps) {
		done := wired(t, before, steps)
		for n := 1; ; n++ {
			k := kerneltest.New(done.State)
			k.FailAt, k.FailOn = n, true
			var undo *apply.UndoError
			if err := apply.Undo(t.Context(), k, steps, quiet); err == nil {
				return // there was no n-th operation
			} else if !errors.As(err, &undo) {
				t.Fatalf("operation %d: err = %v, want an UndoError", n, err)
			}
			k.FailAt = 0
			if err := apply.Undo(t.Context(), k, steps, quiet); err != nil {
				t.Fatalf("second teardown after operation %d: %v", n, err)
			}
			if diff := kerneltest.Diff(before, k.State); diff != "" {
				t.Errorf("operation %d (-before +after):\n%s", n, diff)
			}
		}
	})
}

func TestARepairOfWhichOneOperationFailsIsMadeNevertheless(t *testing.T) {
	before := shapes.Dual()
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
		steps := boundSteps(t, before, b)
		for n := 1; ; n++ {
			k := kerneltest.New(before)
			k.FailAt = n
			if err := apply.Repair(t.Context(), k, steps, quiet); err != nil {
				t.Fatalf("%s: operation %d failed once, and with it the repair: %v", b, n, err)
			}
			if drift := apply.Check(steps, k.State); len(drift) > 0 {
				t.Errorf("%s: operation %d failed once, and then: %q", b, n, drift)
			}
			if k.Ops < n {
				break
			}
		}
	}
}

func TestAnEndedContextEndsTheRunAndNotTheWayBack(t *testing.T) {
	before := shapes.Dual()
	k := kerneltest.New(before)
	ctx, cancel := context.WithCancel(t.Context())
	steps := stepsOf(t, before)
	err := apply.Run(ctx, cancelAt{k, cancel, 6}, steps, quiet)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled", err)
	}
	if diff := kerneltest.Diff(before, k.State); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// cancelAt ends the context after so many steps, and fails an undo whose context
// has ended.
type cancelAt struct {
	*kerneltest.Kernel
	cancel context.CancelFunc
	after  int
}

func (c cancelAt) Do(ctx context.Context, s plan.Step) error {
	err := c.Kernel.Do(ctx, s)
	if len(c.State.Links) > 3 && s.Kind() == "take-addresses" {
		c.cancel()
	}
	return err
}

func (c cancelAt) Undo(ctx context.Context, s plan.Step) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.Kernel.Undo(ctx, s)
}

func TestBothErrorsAreNamedWhenTheWayBackFailsToo(t *testing.T) {
	err := error(&apply.UndoError{Cause: fmt.Errorf("attaching: %w", syscall.EBUSY), Err: syscall.EPERM})
	if !errors.Is(err, syscall.EBUSY) || !errors.Is(err, syscall.EPERM) {
		t.Errorf("%v does not hold both", err)
	}
}

func TestCheckNamesEachDrift(t *testing.T) {
	before := shapes.Bridge()
	steps := stepsOf(t, before)
	tests := []struct {
		name  string
		spoil func(s *netstate.Snapshot)
		want  string
	}{
		{"tap deleted", func(s *netstate.Snapshot) { dropLink(s, "tap-eth0") }, `"tap-eth0" is gone`},
		{"bridge deleted", func(s *netstate.Snapshot) { dropLink(s, "pw-eth0") }, `"pw-eth0" is gone`},
		{"pod interface deleted", func(s *netstate.Snapshot) { dropLink(s, "eth0") }, `"eth0" is gone`},
		{"bridge down", func(s *netstate.Snapshot) { link(s, "pw-eth0").Up = false }, `"pw-eth0" is down`},
		{"MTU changed", func(s *netstate.Snapshot) { link(s, "tap-eth0").MTU = 1500 }, "MTU of 1500, not 1450"},
		{"MAC changed", func(s *netstate.Snapshot) { link(s, "eth0").MAC = shapes.MAC }, "has the MAC"},
		{"port detached", func(s *netstate.Snapshot) { link(s, "eth0").Master = 0 }, "no port"},
		{"learning on", func(s *netstate.Snapshot) { link(s, "eth0").NoLearning = false }, "learns"},
		{"another link of that name", func(s *netstate.Snapshot) { link(s, "eth0").Index = 77 }, "another link"},
		{"filters gone", func(s *netstate.Snapshot) { s.Filters = nil }, `filter "guest"`},
		{"address back", func(s *netstate.Snapshot) { *s = shapes.WithAddr(*s, "10.244.1.7/24") }, "address 10.244.1.7/24 again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := kerneltest.New(before)
			if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
				t.Fatal(err)
			}
			tt.spoil(&k.State)
			if drift := strings.Join(apply.Check(steps, k.State), "\n"); !strings.Contains(drift, tt.want) {
				t.Errorf("drift = %q, want it to say %q", drift, tt.want)
			}
		})
	}
}

// TestCheckNamesEachDriftOfABinding also repairs each.
func TestCheckNamesEachDriftOfABinding(t *testing.T) {
	tests := []struct {
		name    string
		binding config.Binding
		spoil   func(s *netstate.Snapshot)
		want    string
	}{
		{"tap deleted", config.TC, func(s *netstate.Snapshot) { dropLink(s, "tap-eth0") }, `"tap-eth0" is gone`},
		{"tap down", config.TC, func(s *netstate.Snapshot) { link(s, "tap-eth0").Up = false }, `"tap-eth0" is down`},
		{"redirects gone", config.TC, func(s *netstate.Snapshot) { s.Filters = nil }, `the redirect from "eth0" to "tap-eth0" is gone`},
		{"redirect to a tap of before", config.TC, func(s *netstate.Snapshot) {
			s.Filters = slices.Clone(s.Filters)
			s.Filters[len(s.Filters)-1].To = 99
		}, "leads to link 99"},
		{"gateway's address gone", config.Masquerade, func(s *netstate.Snapshot) {
			s.Addrs = slices.DeleteFunc(s.Addrs, func(a netstate.Addr) bool { return a.Prefix.String() == "10.0.2.1/24" })
		}, "lost its address 10.0.2.1/24"},
		{"not forwarded", config.Masquerade, func(s *netstate.Snapshot) { link(s, "eth0").Forwarding = false }, `forwarding of "eth0" is 0`},
		{"IPv6 not forwarded", config.Masquerade, func(s *netstate.Snapshot) { s.Forwarding6 = false }, `forwarding of "all" is 0`},
		{"table gone", config.Masquerade, func(s *netstate.Snapshot) { s.Tables = nil }, `table "podwire-eth0" of nftables is gone`},
		{"other rules", config.Masquerade, func(s *netstate.Snapshot) { s.Tables[0].Chains[0].Rules = nil }, "other rules"},
	}
	for _, tt := range tests {
		t.Run(string(tt.binding)+", "+tt.name, func(t *testing.T) {
			before := shapes.Dual()
			steps, k := boundSteps(t, before, tt.binding), kerneltest.New(before)
			if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
				t.Fatal(err)
			}
			tt.spoil(&k.State)
			if drift := strings.Join(apply.Check(steps, k.State), "\n"); !strings.Contains(drift, tt.want) {
				t.Errorf("drift = %q, want it to say %q", drift, tt.want)
			}
			if err := apply.Repair(t.Context(), k, steps, quiet); err != nil {
				t.Fatal(err)
			}
			if drift := apply.Check(steps, k.State); len(drift) > 0 {
				t.Errorf("drift after the repair: %q", drift)
			}
		})
	}
}

func TestThePodsAddressesAreWatched(t *testing.T) {
	before := shapes.Dual()
	steps, k := boundSteps(t, before, config.Masquerade), kerneltest.New(before)
	if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
		t.Fatal(err)
	}
	k.State.Addrs = slices.DeleteFunc(k.State.Addrs, func(a netstate.Addr) bool { return a.Link == shapes.Index && a.Prefix.Addr().Is4() })
	if drift := strings.Join(apply.Check(steps, k.State), "\n"); !strings.Contains(drift, "behind which the guest is") {
		t.Errorf("drift = %q", drift)
	}
	k.State.Blind, k.State.Tables = true, nil
	if drift := strings.Join(apply.Check(steps, k.State), "\n"); strings.Contains(drift, "table") {
		t.Errorf("a table that cannot be seen is said to be gone: %q", drift)
	}
}

func TestRepairMakesGoodWhatDrifted(t *testing.T) {
	before := shapes.Bridge()
	steps := stepsOf(t, before)
	k := kerneltest.New(before)
	if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
		t.Fatal(err)
	}
	link(&k.State, "eth0").Master = 0
	k.State.Filters = nil
	if err := apply.Repair(t.Context(), k, steps, quiet); err != nil {
		t.Fatal(err)
	}
	if drift := apply.Check(steps, k.State); len(drift) > 0 {
		t.Errorf("drift after the repair: %q", drift)
	}
}

func TestRestoredNamesWhatIsMissing(t *testing.T) {
	before := shapes.Bridge()
	steps := stepsOf(t, before)
	k := kerneltest.New(before)
	if err := apply.Run(t.Context(), k, steps, quiet); err != nil {
		t.Fatal(err)
	}
	missing := strings.Join(apply.Restored(steps, k.State), "\n")
	for _, part := range []string{"tap-eth0", "pw-eth0", "address 10.244.1.7/24", "route to 0.0.0.0/0", "MAC"} {
		if !strings.Contains(missing, part) {
			t.Errorf("missing = %q, want it to name %q", missing, part)
		}
	}
}

func link(s *netstate.Snapshot, name string) *netstate.Link {
	i := slices.IndexFunc(s.Links, func(l netstate.Link) bool { return l.Name == name })
	return &s.Links[i]
}

func dropLink(s *netstate.Snapshot, name string) {
	s.Links = slices.DeleteFunc(s.Links, func(l netstate.Link) bool { return l.Name == name })
}
