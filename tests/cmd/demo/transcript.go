package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// transcript prints what happens, for a person to read.
type transcript struct {
	w       io.Writer
	colour  bool
	started time.Time
}

// newTranscript writes in colour where somebody watches a terminal
// (no-color.org).
func newTranscript(f *os.File) *transcript {
	info, err := f.Stat()
	tty := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &transcript{w: f, colour: tty && os.Getenv("NO_COLOR") == "", started: time.Now()}
}

// The escape sequences of ECMA-48 that are used.
const (
	bold  = "1"
	dim   = "2"
	green = "32"
	cyan  = "36"
)

func (t *transcript) paint(code, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// chapter begins a part.
func (t *transcript) chapter(format string, args ...any) {
	fmt.Fprintf(t.w, "\n%s %s\n", t.paint(bold, fmt.Sprintf(format, args...)),
		t.paint(dim, fmt.Sprintf("(%.1f s)", time.Since(t.started).Seconds())))
}

// command prints a command of someone, and what it printed.
func (t *transcript) command(who, command, output string) {
	fmt.Fprintf(t.w, "  %s %s\n", t.paint(cyan, who), command)
	t.text(output)
}

// text prints lines, indented.
func (t *transcript) text(lines string) {
	for line := range strings.SplitSeq(strings.TrimRight(lines, "\n"), "\n") {
		if strings.TrimSpace(line) != "" {
			fmt.Fprintf(t.w, "    %s\n", strings.TrimRight(line, " "))
		}
	}
}

// good prints a result that is as it should be.
func (t *transcript) good(format string, args ...any) {
	fmt.Fprintf(t.w, "  %s %s\n", t.paint(green, "ok"), fmt.Sprintf(format, args...))
}
