package bindings

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// result is a cell of the table.
type result struct {
	Check   string `json:"check"`
	Binding string `json:"binding"`
	Works   bool   `json:"works"`
	Instead string `json:"instead,omitempty"` // where it does not work
	Error   string `json:"error,omitempty"`   // that is not as expected
}

// report collects the cells of a run.
type report struct {
	mu    sync.Mutex
	cells []result
}

// add reports whether it is worthwhile to go on.
func (r *report) add(c result) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cells = append(r.cells, c)
	return c.Error == "" || !strings.HasPrefix(c.Check, "configured")
}

func (r *report) cell(name, binding string) (result, bool) {
	for _, c := range r.cells {
		if c.Check == name && c.Binding == binding {
			return c, true
		}
	}
	return result{}, false
}

// ordered are the cells in the order of the table, but for the one that is on the page
// itself.
func (r *report) ordered() []result {
	var out []result
	for _, row := range checks {
		if row.name == picturable {
			continue
		}
		for _, b := range bindings {
			if c, ok := r.cell(row.name, b.name); ok {
				out = append(out, c)
			}
		}
	}
	return out
}

// table is the run as text.
func (r *report) table() string {
	var out strings.Builder
	tab := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprint(tab, "\n")
	for _, b := range bindings {
		fmt.Fprint(tab, "\t"+b.name)
	}
	fmt.Fprintln(tab)
	for _, row := range checks {
		fmt.Fprint(tab, row.name)
		for _, b := range bindings {
			c, ok := r.cell(row.name, b.name)
			word := "yes"
			switch {
			case !ok:
				word = "-"
			case c.Error != "":
				word = "FAILED"
			case !c.Works:
				word = "no"
			}
			fmt.Fprint(tab, "\t"+word)
		}
		fmt.Fprintln(tab)
	}
	_ = tab.Flush() // to memory
	return out.String()
}

// write leaves the table for the page.
func (r *report) write(t *testing.T) error {
	t.Helper()
	return leave("table.json", r.ordered())
}

// leave writes a file into the directory that PODWIRE_BINDINGS_OUT names, if it names
// one.
func leave(name string, content any) error {
	dir := os.Getenv("PODWIRE_BINDINGS_OUT")
	if dir == "" {
		return nil
	}
	text, err := json.MarshalIndent(content, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o644)
	}
	return err
}
