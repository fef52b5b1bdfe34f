package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
)

// The exit codes, which scripts and probes rely on.
const (
	ExitOK       = 0
	ExitFailed   = 1 // failed, and the pod's network is as it was found
	ExitUsage    = 2
	ExitHalfDone = 3 // failed, and it could not be put back: a person must look
)

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errQuiet ends a command with ExitFailed after it has said all itself.
var errQuiet = errors.New("")

// Execute runs a command with the process's arguments, ends it on SIGTERM and
// SIGINT, prints its error in one line and returns the exit code.
func Execute(cmd *cobra.Command) int {
	// A reader that has gone must not end what is half done.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	ran, err := execute(ctx, cmd)
	if err == nil {
		return ExitOK
	}
	code := exitCode(err)
	if text := oneLine(err); text != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", cmd.Name(), text)
	}
	if code == ExitUsage {
		fmt.Fprintf(cmd.ErrOrStderr(), "Run '%s --help' for what it takes.\n", ran.CommandPath())
	}
	return code
}

// execute turns a panic into an error: its own exit code, 2, would say that
// nothing was touched.
func execute(ctx context.Context, cmd *cobra.Command) (ran *cobra.Command, err error) {
	defer func() {
		if p := recover(); p != nil {
			ran, err = cmd, &apply.UndoError{
				Cause: fmt.Errorf("a bug in podwire: %v", p),
				Err:   fmt.Errorf("see \"podwire status\", and try \"podwire teardown\"; %s", debug.Stack()),
			}
		}
	}()
	return cmd.ExecuteContextC(ctx)
}

func exitCode(err error) int {
	var setting *config.Error
	var usage usageError
	var undo *apply.UndoError
	switch {
	case errors.As(err, &undo):
		return ExitHalfDone
	case errors.As(err, &setting), errors.As(err, &usage):
		return ExitUsage
	default:
		return ExitFailed
	}
}

// oneLine joins the lines of errors.Join.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// noArgs is cobra.NoArgs, with the exit code of a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%q takes no arguments, and got %q", cmd.CommandPath(), args)}
	}
	return nil
}

// atMostOne is for commands that take one argument or none.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("want at most one argument, got %d: %s", len(args), cmd.UseLine())}
	}
	return nil
}

// unknown is for a command that has others below it and no arguments.
func unknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w; is it %s?", err, strings.Join(like, ", or "))
	}
	return usageError{err}
}

// UsageError marks an error as one of the command line.
func UsageError(err error) error { return usageError{err} }

// ExactlyOne is for commands that take one argument.
func ExactlyOne(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("want one argument, got %d: %s", len(args), cmd.UseLine())}
	}
	return nil
}
