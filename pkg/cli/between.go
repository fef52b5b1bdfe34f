package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/serve"
)

const (
	// lookTries is how often something is tried that a run cannot do without: to give up
	// costs most on the way back.
	lookTries = 3
	lookPause = 10 * time.Millisecond
)

// persist tries something again that failed and may yet succeed.
func persist(ctx context.Context, what func() error) error {
	for n := 1; ; n++ {
		err := what()
		if err == nil || n == lookTries || ctx.Err() != nil || lasting(err) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookPause):
		}
	}
}

// persisted is persist for what has a result.
func persisted[T any](ctx context.Context, what func() (T, error)) (result T, err error) {
	err = persist(ctx, func() error {
		result, err = what()
		return err
	})
	return result, err
}

// lasting reports whether an error will be the same the next time, or took long enough.
func lasting(err error) bool {
	for _, each := range []error{
		fs.ErrNotExist, record.ErrDamaged, record.ErrForeign, os.ErrDeadlineExceeded, context.DeadlineExceeded, syscall.EROFS,
	} {
		if errors.Is(err, each) {
			return true
		}
	}
	return false
}

// look is a snapshot.
func (a *Agent) look(ctx context.Context) (netstate.Snapshot, error) {
	return persisted(ctx, func() (netstate.Snapshot, error) { return a.kernel.Snapshot(ctx) })
}

// load reads a record.
func (a *Agent) load(name string) (record.Record, error) {
	r, err := persisted(context.Background(), func() (record.Record, error) { return a.dir.Load(name) })
	if !slices.ContainsFunc(a.takes, func(kind error) bool { return errors.Is(err, kind) }) {
		return r, err
	}
	if text := oneLine(err); !a.warned[text] {
		a.warned[text] = true
		a.log.Warn("going by a state that is not as it should be", "link", name, "err", text)
	}
	return r, nil
}

// honest makes an error of setup one that says that the pod's network is neither as it
// was found nor as planned, where that is so: an earlier run was cut off, and this one
// failed before it could finish or take back what that had begun.
func (a *Agent) honest(ctx context.Context, err error) error {
	if err == nil || exitCode(err) != ExitFailed {
		return err
	}
	return a.halfDone(ctx, err, func(r record.Record) bool { return r.Phase != record.Applied })
}

// halfDone makes an error an *apply.UndoError where something is left of what one of
// the records has done to the pod.
func (a *Agent) halfDone(ctx context.Context, cause error, of func(record.Record) bool) error {
	ctx = context.WithoutCancel(ctx) // to look is not what was given up
	for _, r := range a.stillWired() {
		if !of(r) {
			continue
		}
		s, err := a.look(ctx)
		if err != nil {
			return &apply.UndoError{Cause: cause, Err: err}
		}
		if left := apply.Restored(r.Steps, s); len(left) > 0 {
			return &apply.UndoError{Cause: cause, Err: errors.New(strings.Join(left, "; "))}
		}
	}
	return cause
}

// stopServer also removes the socket that a killed server left.
func (a *Agent) stopServer(ctx context.Context, name string) error {
	err := persist(ctx, func() error {
		_, err := serve.Ask(ctx, a.dir.Socket(name), serve.OpStop)
		if errors.Is(err, serve.ErrNotServing) {
			err = os.Remove(a.dir.Socket(name))
		}
		return err
	})
	if notExist(err) {
		return nil
	}
	return err
}

// openError is an agent that could not be made: nothing is known of the pod.
type openError struct {
	stateDir string
	err      error
}

func (e *openError) Error() string { return e.err.Error() }

func (e *openError) Unwrap() error { return e.err }

// puttingBack says of a teardown that could not even begin that the pod is still wired,
// as far as there is a state to tell.
func puttingBack(err error) error {
	var unopened *openError
	if !errors.As(err, &unopened) {
		return err
	}
	if names, listErr := record.Dir(unopened.stateDir).List(); listErr == nil && len(names) == 0 {
		return err
	}
	return &apply.UndoError{Err: err}
}
