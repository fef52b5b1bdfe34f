package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/record"
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

// Execute runs a command with the process's arguments, ends it on SIGTERM, SIGINT and
// SIGHUP, prints its error in one line and returns the exit code.
func Execute(cmd *cobra.Command) int {
	// A reader that has gone must not end what is half done.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return shortUsage(err) })
	ran, err := execute(ctx, cmd)
	if err == nil {
		return ExitOK
	}
	code := exitCode(err)
	if text := said(err, ran); text != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", cmd.Name(), text)
	}
	return code
}

// endings are the signals that end a command in order: what it has begun it takes back, or
// finishes. One that the caller has it ignore, as nohup(1) does, stays ignored.
func endings() []os.Signal {
	return slices.DeleteFunc([]os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGHUP}, signal.Ignored)
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
	case errors.As(err, &setting), errors.As(err, &usage), errors.Is(err, record.ErrDamaged), errors.Is(err, record.ErrForeign):
		return ExitUsage
	default:
		return ExitFailed
	}
}

// said is an error in its one line; with where to look for what is allowed, unless it
// says that itself.
func said(err error, ran *cobra.Command) string {
	text := oneLine(err)
	var setting *config.Error
	if usage := (usageError{}); errors.As(err, &usage) && !errors.As(err, &setting) {
		text = fmt.Sprintf("%s; see \"%s --help\"", text, ran.CommandPath())
	}
	return text
}

// maxLine is how long an error may be, in octets. What it quotes is shortened where it
// is quoted; a bug's stack is longer than all else.
const maxLine = 8 << 10

// oneLine joins the lines of errors.Join. What is in an error may be anybody's: nothing in it
// is for a terminal to obey.
func oneLine(err error) string {
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
	if len(text) > maxLine {
		text = text[:maxLine] + "…"
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// maxUsage is how much of a command line an error repeats, in octets.
const maxUsage = 200

// shortUsage is for the errors of libraries, which repeat what was given.
func shortUsage(err error) error {
	if text := err.Error(); len(text) > maxUsage {
		err = errors.New(text[:maxUsage] + "…")
	}
	return usageError{err}
}

// noArgs is cobra.NoArgs, with the exit code of a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return shortUsage(fmt.Errorf("%q takes no arguments, and got %q", cmd.CommandPath(), args))
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
	return shortUsage(err)
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
