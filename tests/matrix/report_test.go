package matrix

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/podwire/podwire/tests/pod"
)

// family is a column of the table.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
	dual family = "dual"
)

var families = []family{ipv4, ipv6, dual}

// outcome is what a cell says.
type outcome string

const (
	passed  outcome = "ok"
	refused outcome = "refused" // with the reason, and the pod untouched
	absent  outcome = "-"       // there is no such layout, or this kernel cannot have it
	failed  outcome = "FAILED"
)

// result is a cell of the table.
type result struct {
	Layout  string      `json:"layout"`
	Family  family      `json:"family"`
	Binding pod.Binding `json:"binding"`
	Result  outcome     `json:"result"`
	Reason  string      `json:"reason,omitempty"`
	Client  string      `json:"client,omitempty"` // in a namespace
	Guest   bool        `json:"libvirt"`          // a real guest ran as well
}

// report collects the cells of a run.
type report struct {
	mu    sync.Mutex
	cells []result
}

func (r *report) add(c cell, res result) {
	res.Layout, res.Family, res.Binding = c.layout.name, c.family, c.binding
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cells = append(r.cells, res)
}

// of are the cells of a layout and a binding that ran, or cannot be, by family.
func (r *report) of(layout string, b pod.Binding) []result {
	var out []result
	for _, f := range families {
		for _, c := range r.cells {
			if c.Layout == layout && c.Family == f && c.Binding == b {
				out = append(out, c)
			}
		}
	}
	return out
}

// ordered are the cells that ran, in the order of the table.
func (r *report) ordered() []result {
	var out []result
	for _, l := range layouts {
		for _, b := range pod.Bindings {
			out = append(out, r.of(l.name, b)...)
		}
	}
	return out
}

// write leaves cni.json and the table, cni.txt, in the directory that
// PODWIRE_MATRIX_OUT names: docs/compatibility.md is made from the one, and the
// other is shown at the end of a run.
func (r *report) write() error {
	dir := os.Getenv("PODWIRE_MATRIX_OUT")
	if dir == "" {
		return nil
	}
	content, err := json.MarshalIndent(r.ordered(), "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cni.json"), append(content, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "cni.txt"), []byte(r.table()), 0o644)
	}
	return err
}

// table is the run as text, the reasons below.
func (r *report) table() string {
	var out, notes strings.Builder
	tab := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprint(tab, "\nlayout")
	for _, b := range pod.Bindings {
		fmt.Fprintf(tab, "\t%s", b)
	}
	fmt.Fprintln(tab)
	for _, l := range layouts {
		fmt.Fprint(tab, l.name)
		for _, b := range pod.Bindings {
			fmt.Fprint(tab, "\t")
			for i, c := range r.of(l.name, b) {
				if i > 0 {
					fmt.Fprint(tab, ", ")
				}
				fmt.Fprintf(tab, "%s %s", c.Family, c.Result)
				if c.Guest {
					fmt.Fprint(tab, "*")
				}
				line, _, _ := strings.Cut(c.Reason, "\n")
				if note := l.name + ": " + line + "\n"; line != "" && !strings.Contains(notes.String(), note) {
					notes.WriteString(note) // once for all of them
				}
			}
		}
		fmt.Fprintln(tab)
	}
	fmt.Fprintln(tab, "* also with a guest of libvirt's")
	_ = tab.Flush() // to memory
	return out.String() + notes.String()
}
