package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/serve"
)

// Wired is a pod interface that is wired.
type Wired struct {
	record.Record
	Before bool // an earlier run wired it
}

// Setup wires the pod's interfaces and returns them. A second run changes
// nothing; a run after one that was cut off finishes it. When it fails, what
// this run did is taken back.
func (a *Agent) Setup(ctx context.Context) ([]Wired, error) {
	unlock, err := a.lockForSetup(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return a.setup(ctx)
}

// lockForSetup is lock for one that could do something with it.
func (a *Agent) lockForSetup(ctx context.Context, more ...kernel.Need) (unlock func(), err error) {
	if err := a.kernel.Require(append(more, kernel.NeedNetAdmin, kernel.NeedTun)...); err != nil {
		return nil, err
	}
	return a.lock(ctx)
}

// setup is Setup with the lock held.
func (a *Agent) setup(ctx context.Context) ([]Wired, error) {
	if err := a.settle(ctx); err != nil {
		return nil, err
	}
	jobs, err := a.prepareAsking(ctx)
	if err != nil {
		return nil, err
	}
	var wired []Wired
	for i, j := range jobs {
		j.record.Position = i
		r, err := a.setupOne(ctx, j)
		if err != nil {
			return nil, a.takeBack(ctx, wired, err)
		}
		wired = append(wired, Wired{Record: r, Before: j.done})
	}
	return wired, nil
}

// settle clears away what earlier runs left: states of another namespace, and
// teardowns that were cut off.
func (a *Agent) settle(ctx context.Context) error {
	id, err := a.kernel.Identity()
	if err != nil {
		return err
	}
	names, err := a.dir.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		r, err := a.dir.Load(name)
		if err != nil {
			return err
		}
		switch {
		case !r.Snapshot.NetNS.Same(id):
			err = a.setAside(ctx, r, id)
		case r.Phase == record.Undoing:
			a.log.Info("finishing a teardown that was cut off", "link", name)
			err = a.undo(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setAside moves a state away that is of a namespace which is no more. While
// that namespace may live, its state is all that can put it back: then it is an
// error. It may where its server answers, and where this process works on
// namespaces that are not its own, of which there may be many.
func (a *Agent) setAside(ctx context.Context, r record.Record, now netstate.Identity) error {
	name := r.Interface.PodInterface
	_, alive := a.serving(ctx, r)
	if alive || a.config.NetNS != "" && r.Snapshot.NetNS.BootID == now.BootID {
		return fmt.Errorf("the state %s is of another network namespace; give each its own --state-dir", a.dir.Path(name))
	}
	aside, err := a.dir.SetAside(name)
	if err != nil {
		return err
	}
	a.log.Warn("the state is of a network namespace that is no more, set aside", "link", name, "path", aside)
	return nil
}

func (a *Agent) setupOne(ctx context.Context, j job) (record.Record, error) {
	r := j.record
	for _, w := range r.Warnings {
		a.log.Warn(w, "link", r.Interface.PodInterface)
	}
	if j.done {
		return r, a.keep(ctx, j)
	}
	if j.resumed {
		a.log.Info("finishing a setup that was cut off", "link", r.Interface.PodInterface)
	}
	r.Phase = record.Recorded
	if err := a.dir.Save(r); err != nil {
		return r, err // nothing was done; an older state file still says how to take it back
	}
	if err := apply.Run(ctx, a.kernel, r.Steps, a.log); err != nil {
		var half *apply.UndoError
		if errors.As(err, &half) {
			return r, err // the state stays: teardown can try again
		}
		return r, errors.Join(err, a.dir.Remove(r.Interface.PodInterface))
	}
	if err := a.confirm(ctx, r); err != nil {
		return r, a.giveUp(ctx, r, err)
	}
	r.Phase = record.Applied
	if err := a.dir.Save(r); err != nil {
		return r, a.giveUp(ctx, r, err)
	}
	a.log.Info("the pod interface is wired to its VM", "link", r.Interface.PodInterface,
		"binding", r.Interface.Binding, "tap", r.Interface.Tap, "mac", r.Interface.MAC)
	return r, nil
}

// keep leaves a wired interface alone, repairs what somebody changed of it, and
// passes on what the guest is to be told from now on.
func (a *Agent) keep(ctx context.Context, j job) error {
	r := j.record
	if len(j.drift) > 0 {
		a.log.Warn("not as planned, repairing", "link", r.Interface.PodInterface, "drift", strings.Join(j.drift, "; "))
		if err := apply.Repair(ctx, a.kernel, r.Steps, a.log); err != nil {
			return err
		}
		if err := a.confirm(ctx, r); err != nil {
			return err
		}
	}
	if !j.changed {
		return nil
	}
	if err := a.dir.Save(r); err != nil {
		return err
	}
	a.log.Info("the guest is told other things from now on", "link", r.Interface.PodInterface)
	_, err := serve.Ask(ctx, a.dir.Socket(r.Interface.PodInterface), serve.OpReload)
	if errors.Is(err, serve.ErrNotServing) {
		return nil
	}
	return err
}

// confirm reads the kernel again: that each step succeeded is not yet that all
// of them together are what was planned.
func (a *Agent) confirm(ctx context.Context, r record.Record) error {
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return err
	}
	if drift := apply.Check(r.Steps, snapshot); len(drift) > 0 {
		return fmt.Errorf("the wiring of %q is not as planned: %s", r.Interface.PodInterface, strings.Join(drift, "; "))
	}
	return nil
}

// giveUp takes a finished wiring back, because of err.
func (a *Agent) giveUp(ctx context.Context, r record.Record, err error) error {
	undo := a.undo(ctx, r)
	var half *apply.UndoError
	if errors.As(undo, &half) {
		half.Cause = err
		return half
	}
	return errors.Join(err, undo)
}

// takeBack undoes what this run wired, because of err. The lock has been held all
// the time: nobody else relies on it yet.
func (a *Agent) takeBack(ctx context.Context, wired []Wired, err error) error {
	for _, w := range slices.Backward(wired) {
		if !w.Before {
			err = a.giveUp(ctx, w.Record, err)
		}
	}
	return err
}
