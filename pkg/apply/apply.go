// Package apply carries a plan out, takes it back when a step fails, and
// compares what the kernel holds with what the plan made of it.
//
// It knows the kernel only as something that does and undoes single steps. The
// rule that makes it safe lives in the steps: each can be done twice and undone
// without having been done, so that a run that was killed anywhere is finished
// by running it again, or taken back by undoing all of it.
package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/podwire/podwire/pkg/plan"
)

// Kernel does what steps say.
type Kernel interface {
	// Do performs a step; it is a no-op where the step is done.
	Do(ctx context.Context, s plan.Step) error
	// Undo takes a step back; it is a no-op where the step is not done.
	Undo(ctx context.Context, s plan.Step) error
}

// StepError is a step that failed, after which everything was taken back.
type StepError struct {
	Index int
	Step  plan.Step
	Err   error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns what the kernel said.
func (e *StepError) Unwrap() error { return e.Err }

// UndoError says that the pod's network could not be put back: a person must
// look.
type UndoError struct {
	Cause error // why it was to be put back; nil in a teardown
	Err   error // what stood in the way
}

func (e *UndoError) Error() string {
	if e.Cause == nil {
		return fmt.Sprintf("the pod's network could not be put back: %v", e.Err)
	}
	return fmt.Sprintf("%v; and the pod's network could not be put back: %v", e.Cause, e.Err)
}

// Unwrap returns both errors.
func (e *UndoError) Unwrap() []error { return []error{e.Cause, e.Err} }

// Run does the steps in order. When one fails, or ctx ends between two, it
// undoes them all and returns a *StepError, or an *UndoError where that failed
// too.
func Run(ctx context.Context, k Kernel, steps plan.Steps, log *slog.Logger) error {
	for i, step := range steps {
		err := ctx.Err()
		start := time.Now()
		if err == nil {
			err = k.Do(ctx, step)
		}
		if err != nil {
			cause := &StepError{Index: i, Step: step, Err: err}
			log.Error("step failed, taking back what was done", "step", step.Kind(), "err", err)
			// The step itself may have failed half-way, so it is undone as well. What
			// ends the run must not end the way back.
			if undo := takeBack(context.WithoutCancel(ctx), k, steps[:i+1], log); undo != nil {
				return &UndoError{Cause: cause, Err: undo}
			}
			return cause
		}
		log.Info("step done", "step", step.Kind(), "what", firstLine(step), "dur", time.Since(start))
	}
	return nil
}

// Repair does all steps again, for a pod whose virtual machine runs: what is as
// planned stays as it is, and nothing is taken back when a step fails.
func Repair(ctx context.Context, k Kernel, steps plan.Steps, log *slog.Logger) error {
	return persist(ctx, log, func() []error {
		var errs []error
		for _, step := range steps {
			if err := k.Do(ctx, step); err != nil {
				errs = append(errs, err)
				log.Error("repairing a step failed", "step", step.Kind(), "err", err)
			}
		}
		return errs
	})
}

// Undo takes steps back, last first, and goes on where one fails: the more is
// put back the better. It returns an *UndoError or nil.
func Undo(ctx context.Context, k Kernel, steps plan.Steps, log *slog.Logger) error {
	if err := takeBack(ctx, k, steps, log); err != nil {
		return &UndoError{Err: err}
	}
	return nil
}

func takeBack(ctx context.Context, k Kernel, steps plan.Steps, log *slog.Logger) error {
	return persist(ctx, log, func() []error {
		var errs []error
		for _, step := range slices.Backward(steps) {
			start := time.Now()
			if err := k.Undo(ctx, step); err != nil {
				errs = append(errs, err)
				log.Error("taking back a step failed", "step", step.Kind(), "err", err)
				continue
			}
			log.Info("step taken back", "step", step.Kind(), "what", firstLine(step), "dur", time.Since(start))
		}
		return errs
	})
}

const (
	// rounds is how often all steps are gone through at most.
	rounds = 3
	// pause is between two rounds: what was in the way for a moment is gone by then.
	pause = 10 * time.Millisecond
)

// persist goes through all steps again where some failed, since to give up would
// leave the pod between. All of them, and not those that failed alone: what a step
// finds done it leaves alone, but what it did may have been too early while another
// was not done.
func persist(ctx context.Context, log *slog.Logger, round func() []error) error {
	for n := 1; ; n++ {
		errs := round()
		if len(errs) == 0 || n == rounds || ctx.Err() != nil {
			return errors.Join(errs...)
		}
		log.Warn("trying again what failed", "failed", len(errs), "round", n+1)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// firstLine is the step in one line, for the log.
func firstLine(step plan.Step) string {
	text := step.String()
	for i := range text {
		if text[i] == '\n' {
			return text[:i] + " …"
		}
	}
	return text
}
