// Package report makes the table with which a run of the cluster tests ends: what
// was checked on which shape, and how it went. It decides nothing.
package report

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Table is a table of shapes by checks, for several goroutines.
type Table struct {
	mu     sync.Mutex
	shapes []string
	checks []string
	cells  map[[2]string]string
	marks  map[[2]string]string
	notes  []string
}

// New makes a table with a column for each shape and a row for each check. What is
// never noted has a dash; a check that is not among them gets a row when it is noted.
func New(shapes, checks []string) *Table {
	return &Table{shapes: shapes, checks: checks, cells: map[[2]string]string{}, marks: map[[2]string]string{}}
}

// Mark has a check of a shape, if it goes well, be noted in other words: it had
// nothing to look at.
func (t *Table) Mark(shape, check, words string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.marks[[2]string{shape, check}] = words
}

// Note notes how a check of a shape went.
func (t *Table) Note(shape, check string, ok bool, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	cell := [2]string{shape, check}
	text := fmt.Sprintf("ok %.0fs", took.Seconds())
	if !ok {
		text = fmt.Sprintf("FAILED %.0fs", took.Seconds())
	} else if mark := t.marks[cell]; mark != "" {
		text = mark
	}
	if !slices.Contains(t.checks, check) {
		t.checks = append(t.checks, check)
	}
	t.cells[cell] = text
}

// Say adds a line below the table, once.
func (t *Table) Say(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(t.notes, line) {
		t.notes = append(t.notes, line)
	}
}

// Text returns the table under a title.
func (t *Table) Text(title string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintln(&b, title)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\t"+strings.Join(t.shapes, "\t"))
	for _, check := range t.checks {
		row := []string{check}
		for _, shape := range t.shapes {
			cell := t.cells[[2]string{shape, check}]
			if cell == "" {
				cell = "-"
			}
			row = append(row, cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a strings.Builder takes all
	for _, note := range t.notes {
		fmt.Fprintln(&b, note)
	}
	return b.String()
}
