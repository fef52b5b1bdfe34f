package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/discover"
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
	wired, err := a.setup(ctx)
	return wired, a.honest(ctx, err)
}

// lockForSetup is lock for one that could do something with it.
func (a *Agent) lockForSetup(ctx context.Context, more ...kernel.Need) (unlock func(), err error) {
	if err := a.kernel.Require(append(more, kernel.NeedNetAdmin, kernel.NeedTun)...); err != nil {
		return nil, a.honest(ctx, err)
	}
	if err := a.worthwhile(); err != nil {
		return nil, a.honest(ctx, err)
	}
	unlock, err = persisted(ctx, func() (func(), error) { return a.lock(ctx) })
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil, err // what is between is another's, who works on it
	}
	return unlock, a.honest(ctx, err)
}

// worthwhile refuses what cannot come to anything before there is a state directory, which
// would be left behind.
func (a *Agent) worthwhile() error {
	if a.config.All {
		if _, err := a.annotated(); err != nil && !errors.Is(err, discover.ErrNoNetworks) {
			return err
		}
	}
	names, err := a.dir.List()
	if err == nil && len(names) == 0 { // or the binding is that of what is wired
		err = a.config.CheckBinding(a.config.Given...)
	}
	return err
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
	for _, j := range jobs {
		if err := a.dir.MayHold(j.record.Interface.PodInterface); err != nil {
			return nil, err
		}
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
	id, err := persisted(ctx, a.kernel.Identity)
	if err != nil {
		return err
	}
	names, err := persisted(ctx, a.dir.List)
	if err != nil {
		return err
	}
	records := make([]record.Record, len(names))
	for i, name := range names { // all of them, before anything is touched
		if records[i], err = a.load(name); err != nil {
			return err
		}
	}
	for i, name := range names {
		r := records[i]
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
// error. It may where its server answers, or cannot be asked, and where this process works
// on namespaces that are not its own, of which there may be many.
func (a *Agent) setAside(ctx context.Context, r record.Record, now netstate.Identity) error {
	name := r.Interface.PodInterface
	st, err := serve.Ask(ctx, a.dir.Socket(name), serve.OpStatus)
	alive := err == nil && st.NetNS.Same(r.Snapshot.NetNS) || err != nil && !errors.Is(err, serve.ErrNotServing)
	if alive || a.config.NetNS != "" && r.Snapshot.NetNS.BootID == now.BootID {
		return fmt.Errorf("the state %s is of another network namespace; run this inside that, or give each its own --state-dir", a.dir.Path(name))
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
		if j.resumed { // by the state file that is there
			return r, a.giveUp(ctx, r, err)
		}
		_ = a.dir.Remove(r.Interface.PodInterface) // nothing was done, and the first error says more
		return r, err
	}
	if err := apply.Run(ctx, a.kernel, r.Steps, a.log); err != nil {
		var half *apply.UndoError
		if errors.As(err, &half) {
			return r, err // the state stays: teardown can try again
		}
		if j.resumed { // the run that was cut off may have got further than this one
			return r, a.giveUp(ctx, r, err)
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
	if len(j.moved) > 0 {
		a.log.Warn("the pod's network was changed, taking it over", "link", r.Interface.PodInterface, "change", strings.Join(j.moved, "; "))
		// First, so that a teardown gives the pod what it was given last, whatever happens
		// from here on.
		if err := a.dir.Save(r); err != nil {
			return err
		}
	}
	if len(j.drift)+len(j.moved) > 0 {
		if len(j.drift) > 0 {
			a.log.Warn("not as planned, repairing", "link", r.Interface.PodInterface, "drift", strings.Join(j.drift, "; "))
		}
		if err := a.repair(ctx, j); err != nil {
			return err
		}
	}
	if j.changed {
		if len(j.moved) == 0 {
			if err := a.dir.Save(r); err != nil {
				return err
			}
		}
		a.log.Info("the guest is told other things from now on", "link", r.Interface.PodInterface)
	}
	// After a repair, too: the server is to hear a tap that was made anew before setup says
	// that it is there. And where nothing has changed: an earlier run may have been cut off
	// before it got here.
	err := persist(ctx, func() error {
		_, err := serve.Ask(ctx, a.dir.Socket(r.Interface.PodInterface), serve.OpReload)
		if errors.Is(err, serve.ErrNotServing) {
			return nil
		}
		return err
	})
	if err != nil && !j.changed && len(j.drift)+len(j.moved) == 0 {
		// A server without privileges may not read in a directory of another user's.
		a.log.Warn("the server could not look at the state again, which is as it was", "link", r.Interface.PodInterface, "err", err)
		return nil
	}
	return err
}

// repair does the steps again. Where it fails, and the drift is another than it was, the
// pod is neither as it was found nor as planned.
func (a *Agent) repair(ctx context.Context, j job) error {
	err := apply.Repair(ctx, a.kernel, j.record.Steps, a.log)
	if err == nil {
		return a.confirm(ctx, j.record)
	}
	s, lookErr := a.look(context.WithoutCancel(ctx))
	if lookErr != nil {
		return &apply.UndoError{Cause: err, Err: lookErr}
	}
	if drift := apply.Check(j.record.Steps, s); !slices.Equal(drift, j.drift) {
		return &apply.UndoError{Cause: err, Err: errors.New(strings.Join(drift, "; "))}
	}
	return err
}

// confirm reads the kernel again: that each step succeeded is not yet that all
// of them together are what was planned.
func (a *Agent) confirm(ctx context.Context, r record.Record) error {
	snapshot, err := a.look(ctx)
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
