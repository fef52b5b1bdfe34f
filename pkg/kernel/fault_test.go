//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/planned"
	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var quiet = slog.New(slog.DiscardHandler)

// fault is what happens to requests from the one of a number on.
type fault struct {
	name string
	err  error
	lost bool // the request is carried out, and only its answer is lost
	dump bool // a dump comes, and only half of it; other requests are not counted
	on   bool // to all those after it, too
}

// faults are those of each errno, both ways. In the long form of the tests each is
// tried at every request; else they take turns.
func faults() (all []fault) {
	for _, errno := range []unix.Errno{unix.EPERM, unix.EBUSY, unix.ENOBUFS, unix.EINTR, unix.ENOSPC} {
		name := unix.ErrnoName(errno)
		all = append(all,
			fault{name: name + " refused", err: errno},
			fault{name: name + " lost", err: fmt.Errorf("reading the kernel's answer: %w", errno), lost: true})
	}
	return all
}

// injected counts requests, and has those that it is for end as the fault says.
type injected struct {
	fault
	at, seen int // numbers of requests
}

func (i *injected) happened() bool { return i.seen >= i.at }

func (i *injected) around(execute func(*nl.NetlinkRequest) ([][]byte, error)) func(*nl.NetlinkRequest) ([][]byte, error) {
	return func(req *nl.NetlinkRequest) ([][]byte, error) {
		isDump := req.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
		if i.dump && !isDump {
			return execute(req)
		}
		i.seen++
		if i.seen < i.at || i.seen > i.at && !i.on {
			return execute(req)
		}
		if !i.lost && !i.dump {
			return nil, i.err
		}
		msgs, err := execute(req)
		switch {
		case err != nil:
			return nil, err
		case i.dump:
			return msgs[:len(msgs)/2], i.err
		}
		return nil, i.err
	}
}

// with has a fault happen to the n-th request that f makes.
func (p *pod) with(t *testing.T, what fault, n int, f func()) (happened bool) {
	t.Helper()
	if err := p.k.openNetfilter(); err != nil {
		t.Fatal(err)
	}
	i := &injected{fault: what, at: n}
	route, netfilter := p.k.route.execute, p.k.netfilter.execute
	defer func() { p.k.route.execute, p.k.netfilter.execute = route, netfilter }()
	p.k.route.execute, p.k.netfilter.execute = i.around(route), i.around(netfilter)
	f()
	return i.happened()
}

// withoutPause is a run whose dumps are tried again at once.
func (p *pod) withoutPause(
	steps plan.Steps, run func(context.Context, apply.Kernel, plan.Steps, *slog.Logger) error,
) error {
	atOnce := func(context.Context, int) error { return nil }
	defer func() { p.k.route.pause, p.k.netfilter.pause = pauseBefore, pauseBefore }()
	p.k.route.pause, p.k.netfilter.pause = atOnce, atOnce
	return run(context.Background(), p.k, steps, quiet)
}

// dual is a pod with what is easily lost, in both families.
var dual = []string{
	"addr add 10.244.1.7/24 brd 10.244.1.255 dev eth0",
	"addr add 10.244.1.200/24 dev eth0 label eth0:second",
	"addr add fd00:10:244:1::7/64 dev eth0 nodad",
	"route add default via 10.244.1.1",
	"route add 10.9.0.0/16 via 10.244.1.1 metric 50 src 10.244.1.200 mtu 1400 protocol 99",
	"route add 10.8.0.0/16 via 10.244.1.1 table 100",
	"-6 route add default via fd00:10:244:1::1",
	"neigh add 10.244.1.1 lladdr 02:00:00:00:00:99 nud permanent dev eth0",
}

// plannedFor are the steps that podwire takes in a pod.
func plannedFor(t *testing.T, s netstate.Snapshot, b config.Binding) plan.Steps {
	t.Helper()
	c := config.Default()
	c.Binding = b
	p, _ := planned.Eth0(t, s, c)
	return throughFile(t, p.Steps)
}

// onEachFault runs a test for each binding, as many as there are at a time, with what
// is to happen to the n-th request.
func onEachFault(t *testing.T, test func(t *testing.T, p *pod, steps plan.Steps, at func(n int) []fault)) {
	all := faults()
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
		run := func(name string, at func(n int) []fault) {
			t.Run(string(b)+" "+name, func(t *testing.T) {
				t.Parallel()
				p := newPod(t, dual)
				test(t, p, plannedFor(t, p.snapshot(t), b), at)
			})
		}
		if os.Getenv("PODWIRE_LONG") != "1" {
			run("in turn", func(n int) []fault { return all[n%len(all):][:1] })
			continue
		}
		for _, f := range all {
			run(f.name, func(int) []fault { return []fault{f} })
		}
	}
}

func TestWhicheverRequestOfASetupFailsThePodIsAsFoundOrAsPlanned(t *testing.T) {
	onEachFault(t, func(t *testing.T, p *pod, steps plan.Steps, at func(n int) []fault) {
		before := p.settled(t)
		for n := 1; ; n++ {
			for _, f := range at(n) {
				var err error
				if !p.with(t, f, n, func() { err = apply.Run(t.Context(), p.k, steps, quiet) }) {
					t.Logf("each of %d requests", n-1)
					return
				}
				p.wantFoundOrPlanned(t, err, before, steps)
				if t.Failed() {
					t.Fatalf("at request %d: %s: %v", n, f.name, err)
				}
			}
		}
	})
}

// wantFoundOrPlanned looks at a pod after a setup, and takes that back.
func (p *pod) wantFoundOrPlanned(t *testing.T, err error, before netstate.Snapshot, steps plan.Steps) {
	t.Helper()
	var step *apply.StepError
	switch {
	case err == nil:
		if drift := apply.Check(steps, p.settled(t)); len(drift) > 0 {
			t.Errorf("it was done, and is not as planned: %q", drift)
		}
		p.undo(t, steps...)
	case !errors.As(err, &step):
		t.Errorf("it could not be taken back: %v", err)
	}
	compare(t, before, p.settled(t))
}

func TestWhicheverRequestOfATeardownFailsThePodIsAsFound(t *testing.T) {
	onEachFault(t, func(t *testing.T, p *pod, steps plan.Steps, at func(n int) []fault) {
		before := p.settled(t)
		for n := 1; ; n++ {
			for _, f := range at(n) {
				p.do(t, steps...)
				var err error
				happened := p.with(t, f, n, func() { err = apply.Undo(t.Context(), p.k, steps, quiet) })
				if err != nil {
					t.Errorf("it could not be taken back: %v", err)
				}
				compare(t, before, p.settled(t))
				if t.Failed() {
					t.Fatalf("at request %d: %s", n, f.name)
				}
				if !happened {
					t.Logf("each of %d requests", n-1)
					return
				}
			}
		}
	})
}

// A dump may be cut short by a change elsewhere in the namespace, once or as long as
// somebody goes on changing it.
func TestWhicheverDumpIsInterruptedThePodIsAsFoundOrAsPlanned(t *testing.T) {
	once := fault{name: "once", err: nl.ErrDumpInterrupted, dump: true}
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			p := newPod(t, dual)
			steps := plannedFor(t, p.snapshot(t), b)
			before := p.settled(t)
			for n, setup, teardown := 1, true, true; setup || teardown; n++ {
				var err error
				setup = p.with(t, once, n, func() { err = apply.Run(t.Context(), p.k, steps, quiet) })
				if err != nil {
					t.Fatalf("setup, at dump %d: %v", n, err)
				}
				teardown = p.with(t, once, n, func() { err = apply.Undo(t.Context(), p.k, steps, quiet) })
				if err != nil {
					t.Fatalf("teardown, at dump %d: %v", n, err)
				}
				compare(t, before, p.settled(t))
			}
		})
	}
}

// Where the tables never settle, a setup is taken back if it can be, and else says that
// it is not; and the teardown that comes when they have settled puts the pod back.
func TestDumpsThatAreInterruptedForEver(t *testing.T) {
	forEver := fault{name: "for ever", err: nl.ErrDumpInterrupted, dump: true, on: true}
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			p := newPod(t, dual)
			steps := plannedFor(t, p.snapshot(t), b)
			before := p.settled(t)
			for n, happened := 1, true; happened; n++ {
				var err error
				happened = p.with(t, forEver, n, func() { err = p.withoutPause(steps, apply.Run) })
				var undo *apply.UndoError
				switch halfDone := errors.As(err, &undo); {
				case halfDone:
					p.undo(t, steps...)
				case happened && err == nil:
					t.Errorf("at dump %d: it was not noticed", n)
				case !happened:
					p.with(t, forEver, 1, func() { err = p.withoutPause(steps, apply.Undo) })
					if !errors.As(err, &undo) {
						t.Errorf("teardown: %v", err)
					}
					p.undo(t, steps...)
				}
				compare(t, before, p.settled(t))
				if t.Failed() {
					t.Fatalf("at dump %d: %v", n, err)
				}
			}
		})
	}
}
