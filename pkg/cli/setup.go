package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/plan"
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
	if err := a.kernel.Require(kernel.NeedNetAdmin, kernel.NeedTun); err != nil {
		return nil, err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := a.settle(ctx); err != nil {
		return nil, err
	}
	jobs, err := a.prepare(ctx)
	if err != nil {
		return nil, err
	}
	var wired []Wired
	for _, j := range jobs {
		r, err := a.setupOne(ctx, j)
		if err != nil {
			return nil, a.takeBack(ctx, wired, err)
		}
		wired = append(wired, Wired{Record: r, Before: j.done})
	}
	return wired, nil
}

func (a *Agent) lock(ctx context.Context) (func(), error) {
	if err := a.dir.Create(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	patience := time.AfterFunc(time.Second, func() {
		a.log.Info("waiting for another podwire that works on the same state", "path", string(a.dir))
	})
	defer patience.Stop()
	unlock, err := kernel.Lock(ctx, string(a.dir))
	if err != nil {
		return nil, fmt.Errorf("waiting for another podwire in %q: %w", a.dir, err)
	}
	return unlock, nil
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
			aside, err := a.dir.SetAside(name)
			if err != nil {
				return err
			}
			a.log.Warn("the state is of another network namespace, set aside", "link", name, "path", aside)
		case r.Phase == record.Undoing:
			a.log.Info("finishing a teardown that was cut off", "link", name)
			if err := a.undo(ctx, r); err != nil {
				return err
			}
		}
	}
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
		if j.resumed {
			return r, err // the older state file still says how to take it back
		}
		return r, errors.Join(err, a.dir.Remove(r.Interface.PodInterface))
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
		"bridge", r.Interface.Bridge, "tap", r.Interface.Tap, "mac", r.Interface.MAC)
	return r, nil
}

// keep leaves a wired interface alone, repairs what somebody changed of it, and
// passes on what the guest is to be told from now on.
func (a *Agent) keep(ctx context.Context, j job) error {
	r := j.record
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return err
	}
	if drift := apply.Check(r.Steps, snapshot); len(drift) > 0 {
		a.log.Warn("not as planned, repairing", "link", r.Interface.PodInterface, "drift", strings.Join(drift, "; "))
		if err := apply.Repair(ctx, a.kernel, r.Steps, a.log); err != nil {
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
	if _, err := serve.Ask(ctx, a.dir.Socket(r.Interface.PodInterface), serve.OpReload); err != nil && !errors.Is(err, serve.ErrNotServing) {
		return err
	}
	return nil
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

// takeBack undoes what this run wired, because of err.
func (a *Agent) takeBack(ctx context.Context, wired []Wired, err error) error {
	for _, w := range slices.Backward(wired) {
		if !w.Before {
			err = a.giveUp(ctx, w.Record, err)
		}
	}
	return err
}

// Teardown stops the servers and puts the pod's network back. Twice is fine.
func (a *Agent) Teardown(ctx context.Context) error {
	if err := a.kernel.Require(kernel.NeedNetAdmin); err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	id, err := a.kernel.Identity()
	if err != nil {
		return err
	}
	names := a.config.Interfaces
	if len(names) == 0 {
		if names, err = a.dir.List(); err != nil {
			return err
		}
	}
	var errs []error
	for _, name := range names {
		r, err := a.dir.Load(name)
		switch {
		case notExist(err):
			a.log.Info("not wired, nothing to put back", "link", name)
		case err != nil:
			errs = append(errs, a.lost(ctx, name, err))
		case !r.Snapshot.NetNS.Same(id):
			aside, err := a.dir.SetAside(name)
			errs = append(errs, err)
			a.log.Warn("the state is of another network namespace, set aside", "link", name, "path", aside)
		default:
			errs = append(errs, a.undo(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// lost tells a state file that cannot be read, of a pod that is wired, from one
// of a pod that is not: in the first a person must look.
func (a *Agent) lost(ctx context.Context, name string, err error) error {
	snapshot, serr := a.kernel.Snapshot(ctx)
	if serr != nil {
		return errors.Join(err, serr)
	}
	for _, link := range []string{plan.TapName(name), plan.BridgeName(name)} {
		if _, ok := snapshot.LinkByName(link); ok {
			return &apply.UndoError{Cause: err, Err: fmt.Errorf("%q is there, and what %q had is not known", link, name)}
		}
	}
	return err
}

// undo stops the server of an interface, takes its steps back and forgets it.
func (a *Agent) undo(ctx context.Context, r record.Record) error {
	name := r.Interface.PodInterface
	// What is begun is finished: between two steps back the pod has no network.
	ctx = context.WithoutCancel(ctx)
	if _, err := serve.Ask(ctx, a.dir.Socket(name), serve.OpStop); err != nil && !errors.Is(err, serve.ErrNotServing) {
		a.log.Warn("the server could not be stopped, going on without", "link", name, "err", err)
	}
	r.Phase = record.Undoing
	if err := a.dir.Save(r); err != nil {
		// The pod's network is worth more than the note of it: with the old state
		// file, a run that is cut off here is taken back all the same.
		a.log.Warn("the state could not be written, going on", "link", name, "err", err)
	}
	if err := apply.Undo(ctx, a.kernel, r.Steps, a.log); err != nil {
		return err
	}
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return &apply.UndoError{Err: err}
	}
	if missing := apply.Restored(r.Steps, snapshot); len(missing) > 0 {
		return &apply.UndoError{Err: errors.New(strings.Join(missing, "; "))}
	}
	if err := a.dir.Remove(name); err != nil {
		return err
	}
	a.log.Info("the pod's network is as it was found", "link", name)
	return nil
}
