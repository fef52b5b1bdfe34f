// The program bindings makes docs/bindings.md of what tests/bindings saw in one run:
// what works with each binding, how fast each is, and how each looks to the kernel.
//
//	bindings DIR >docs/bindings.md
//
// DIR holds table.json, figures.json and the pictures, which the tests leave there. The
// prose around them is page.md.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/podwire/podwire/tests/page"
)

// cell is a check with one binding, as tests/bindings writes it.
type cell struct {
	Check   string `json:"check"`
	Binding string `json:"binding"`
	Works   bool   `json:"works"`
	Instead string `json:"instead"`
	Error   string `json:"error"`
}

// figure is a row of what was measured.
type figure struct {
	Name   string             `json:"name"`
	Unit   string             `json:"unit"`
	Rounds int                `json:"rounds"`
	Median map[string]float64 `json:"median"`
}

// figures is a run of measurements, and where it was.
type figures struct {
	CPUs   int      `json:"cpus"`
	Kernel string   `json:"kernel"`
	Rows   []figure `json:"rows"`
}

// bindings are the columns; the others are related to the first.
var bindings = []string{"bridge", "tc", "masquerade"}

//go:embed page.md
var text string

var filled = template.Must(page.Template(text, nil))

func main() { page.Main(run) }

func run(dir string, w io.Writer) error {
	var cells []cell
	var measured figures
	err := errors.Join(page.ReadJSON(filepath.Join(dir, "table.json"), &cells), page.ReadJSON(filepath.Join(dir, "figures.json"), &measured))
	pictures := map[string]string{}
	for _, b := range bindings {
		var picture string
		err = errors.Join(err, page.ReadJSON(filepath.Join(dir, "picture-"+b+".json"), &picture))
		pictures[b] = strings.TrimSpace(picture)
	}
	if err != nil {
		return err
	}
	if err := whole(cells, measured); err != nil {
		return err
	}
	return filled.Execute(w, map[string]any{
		"CPUs": measured.CPUs, "Kernel": measured.Kernel, "Picture": pictures,
		"Checks": checks(cells), "Figures": table(measured.Rows),
	})
}

// whole: a page is made of a run that passed, with all bindings.
func whole(cells []cell, measured figures) error {
	for _, name := range order(cells) {
		for _, b := range bindings {
			if _, ok := find(cells, name, b); !ok {
				return fmt.Errorf("%q was not tried with %s: a page is made of a whole run", name, b)
			}
		}
	}
	for _, c := range cells {
		if c.Error != "" {
			return fmt.Errorf("%q failed with %s: a page is made of a run that passed", c.Check, c.Binding)
		}
	}
	for _, row := range measured.Rows {
		for _, b := range bindings {
			if _, ok := row.Median[b]; !ok {
				return fmt.Errorf("%q was not measured with %s", row.Name, b)
			}
		}
	}
	if len(cells) == 0 || len(measured.Rows) == 0 {
		return errors.New("nothing was tried, or nothing measured")
	}
	return nil
}

// order are the names of the checks, each once, in their order.
func order(cells []cell) []string {
	var out []string
	for _, c := range cells {
		if !slices.Contains(out, c.Check) {
			out = append(out, c.Check)
		}
	}
	return out
}

func find(cells []cell, check, binding string) (cell, bool) {
	i := slices.IndexFunc(cells, func(c cell) bool { return c.Check == check && c.Binding == binding })
	if i < 0 {
		return cell{}, false
	}
	return cells[i], true
}

func header(first string) string {
	return "| " + first + " | " + strings.Join(bindings, " | ") + " |\n|---|" + strings.Repeat("---|", len(bindings)) + "\n"
}

// checks is the table of what works; below it, what to do about what does not.
func checks(cells []cell) string {
	var out strings.Builder
	out.WriteString(header(""))
	var notes []string
	for _, name := range order(cells) {
		out.WriteString("| " + name)
		for _, b := range bindings {
			c, _ := find(cells, name, b)
			word := "yes"
			if !c.Works {
				i := slices.Index(notes, c.Instead)
				if i < 0 {
					i = len(notes)
					notes = append(notes, c.Instead)
				}
				word = fmt.Sprintf("no (%d)", i+1)
			}
			out.WriteString(" | " + word)
		}
		out.WriteString(" |\n")
	}
	for i, note := range notes {
		if i == 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "%d. %s\n", i+1, note)
	}
	return out.String()
}

// table is that of the figures, each with how many times that of the first binding it
// is.
func table(rows []figure) string {
	var out strings.Builder
	out.WriteString(header("median"))
	for _, row := range rows {
		fmt.Fprintf(&out, "| %s, of %d", row.Name, row.Rounds)
		base := row.Median[bindings[0]]
		for i, b := range bindings {
			value := row.Median[b]
			fmt.Fprintf(&out, " | %s %s", digits(value), row.Unit)
			if i > 0 && base > 0 {
				fmt.Fprintf(&out, " (%.2f)", value/base)
			}
		}
		out.WriteString(" |\n")
	}
	return out.String()
}

// digits writes a number with three of them; what is larger than that has no fraction.
func digits(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
