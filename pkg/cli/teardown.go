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
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

// Teardown stops the servers and puts the pod's network back. Twice is fine. The
// error is an *apply.UndoError where the pod is still wired.
func (a *Agent) Teardown(ctx context.Context) error {
	err := a.teardown(ctx)
	var half *apply.UndoError
	if err == nil || errors.As(err, &half) {
		return err
	}
	return a.halfDone(ctx, err, func(record.Record) bool { return true })
}

// stillWired returns the records of this namespace, as far as they can be read.
func (a *Agent) stillWired() []record.Record {
	id, err := persisted(context.Background(), a.kernel.Identity)
	if err != nil {
		return nil
	}
	records, _ := a.taking(record.ErrConfig).recorded(id) // what cannot be read is not known
	return records
}

func (a *Agent) teardown(ctx context.Context) error {
	names, err := persisted(ctx, a.teardownNames)
	if err != nil || len(names) == 0 {
		return err
	}
	if err := a.kernel.Require(kernel.NeedNetAdmin); err != nil {
		return err
	}
	unlock, err := persisted(ctx, func() (func(), error) { return a.lock(ctx) })
	if err != nil {
		return err
	}
	defer unlock()
	id, err := persisted(ctx, a.kernel.Identity)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, a.teardownOne(ctx, name, id))
	}
	return touched(errs)
}

// touched is the error of several interfaces. Where some were put back, that of another
// must not pass for one that nothing was done about.
func touched(errs []error) error {
	err := errors.Join(errs...)
	var half *apply.UndoError
	if err == nil || errors.As(err, &half) || !slices.Contains(errs, nil) {
		return err
	}
	return errors.New(oneLine(err))
}

func (a *Agent) teardownNames() ([]string, error) {
	if len(a.config.Interfaces) > 0 {
		return a.config.Interfaces, nil
	}
	names, err := a.dir.List()
	if err != nil {
		return nil, err
	}
	torn, err := a.dir.Torn()
	if err != nil {
		return nil, err
	}
	names = append(names, torn...)
	slices.Sort(names)
	if len(names) == 0 {
		a.log.Info("nothing is wired, nothing to put back")
	}
	return slices.Compact(names), nil
}

func (a *Agent) teardownOne(ctx context.Context, name string, id netstate.Identity) error {
	r, err := a.taking(record.ErrConfig).load(name) // to put back is by the steps alone
	switch {
	case notExist(err):
		a.log.Info("not wired, nothing to put back", "link", name)
		return a.sweep(ctx, name)
	case err != nil:
		return a.lost(ctx, name, err)
	case !r.Snapshot.NetNS.Same(id):
		return a.setAside(ctx, r, id)
	default:
		return a.undo(ctx, r)
	}
}

// sweep removes the record that a setup which was killed had not finished writing.
func (a *Agent) sweep(ctx context.Context, name string) error {
	torn, err := a.dir.Torn()
	if err != nil || !slices.Contains(torn, name) {
		return nil // a directory that cannot be read holds nothing of a pod that is not wired
	}
	return persist(ctx, func() error { return a.dir.Remove(name) })
}

// lost tells a state file that cannot be read, of a pod that is wired, from one
// of a pod that is not: in the first a person must look.
func (a *Agent) lost(ctx context.Context, name string, err error) error {
	snapshot, serr := a.look(ctx)
	if serr != nil {
		return errors.Join(err, serr)
	}
	for _, link := range []string{plan.TapName(name), plan.BridgeName(name)} {
		if _, ok := snapshot.LinkByName(link); ok {
			return &apply.UndoError{Cause: err, Err: fmt.Errorf("%q is there, and what %q had is not known", link, name)}
		}
	}
	if slices.ContainsFunc(snapshot.Tables, func(t netstate.Table) bool { return t.Name == plan.TableName(name) }) {
		return &apply.UndoError{Cause: err, Err: fmt.Errorf("the table %q is there, and what was wired is not known", plan.TableName(name))}
	}
	if l, ok := snapshot.LinkByName(name); ok && slices.ContainsFunc(snapshot.Filters, func(f netstate.Filter) bool { return f.Link == l.Index }) {
		return &apply.UndoError{Cause: err, Err: fmt.Errorf("podwire's filters are on %q, and what was wired is not known", name)}
	}
	return err
}

// undo stops the server of an interface, takes its steps back and forgets it.
func (a *Agent) undo(ctx context.Context, r record.Record) error {
	name := r.Interface.PodInterface
	// What is begun is finished: between two steps back the pod has no network.
	ctx = context.WithoutCancel(ctx)
	if err := a.stopServer(ctx, name); err != nil {
		a.log.Warn("the server could not be stopped, going on without", "link", name, "err", err)
	}
	r = a.lastGiven(ctx, r)
	r.Phase = record.Undoing
	if err := a.dir.Save(r); err != nil {
		// The pod's network is worth more than the note of it: with the old state
		// file, a run that is cut off here is taken back all the same.
		a.log.Warn("the state could not be written, going on", "link", name, "err", err)
	}
	steps, err := a.stepsBack(ctx, r)
	if err != nil {
		return &apply.UndoError{Err: err}
	}
	if err := apply.Undo(ctx, a.kernel, steps, a.log); err != nil {
		return err
	}
	snapshot, err := a.look(ctx)
	if err != nil {
		return &apply.UndoError{Err: err}
	}
	if missing := apply.Restored(steps, snapshot); len(missing) > 0 {
		return &apply.UndoError{Err: errors.New(strings.Join(missing, "; "))}
	}
	if err := persist(ctx, func() error { return a.dir.Remove(name) }); err != nil {
		return fmt.Errorf("the pod's network is as it was found, but for the next podwire: %w", err)
	}
	a.log.Info("the pod's network is as it was found", "link", name)
	return nil
}

// stepsBack are the steps that can be undone. What was done to a pod interface
// that is gone went with it, and another one in its place has its own addresses.
func (a *Agent) stepsBack(ctx context.Context, r record.Record) (plan.Steps, error) {
	snapshot, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	if other := renamed(snapshot, r); other != "" {
		return nil, errRenamed(r, other)
	}
	if gone := sameLink(snapshot, r); gone != nil {
		a.log.Warn("the pod interface is not the one that was wired: only what podwire made is removed",
			"link", r.Interface.PodInterface)
		return r.Steps.Without(r.Interface.PodInterface), nil
	}
	return r.Steps, nil
}
