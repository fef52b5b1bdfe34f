// The program reliability makes docs/reliability.md of what the tests of reliability
// measured: each promise with the test that keeps it, and that test's figures.
//
//	reliability DIR >docs/reliability.md
//
// DIR holds a file for each topic, which is a package below tests/reliability, with a line
// for each figure: its name, a tab, its value. The prose around them is page.md.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/podwire/podwire/tests/page"
)

//go:embed page.md
var text string

func main() { page.Main(run) }

func run(dir string, w io.Writer) error {
	figures, err := read(dir)
	if err != nil {
		return err
	}
	filled, err := page.Template(text, template.FuncMap{
		"figure": figures.figure,
		"table":  figures.table,
	})
	if err != nil {
		return err
	}
	var out strings.Builder
	if err := filled.Execute(&out, nil); err != nil {
		return err
	}
	_, err = io.WriteString(w, out.String())
	return err
}

// figure is one line of a topic's file.
type figure struct{ name, value string }

// figures are those of each topic, in the order in which they were noted.
type figures map[string][]figure

func read(dir string) (figures, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no figures in %s", dir)
	}
	all := figures{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		topic := strings.TrimSuffix(filepath.Base(path), ".txt")
		for line := range strings.Lines(string(text)) {
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if !ok || name == "" || value == "" {
				return nil, fmt.Errorf("reading %s: %q is no figure: want a name, a tab, a value", path, line)
			}
			all[topic] = append(all[topic], figure{name, value})
		}
	}
	return all, nil
}

// figure is a value by its name.
func (f figures) figure(topic, name string) (string, error) {
	for _, each := range f[topic] {
		if each.name == name {
			return each.value, nil
		}
	}
	return "", fmt.Errorf("the tests of %q noted no %q", topic, name)
}

// table is that of all figures of a topic whose names begin with what is given, which is
// left out of them.
func (f figures) table(topic, prefix string) (string, error) {
	var out strings.Builder
	for _, each := range f[topic] {
		if name, ok := strings.CutPrefix(each.name, prefix); ok {
			fmt.Fprintf(&out, "| %s | %s |\n", name, each.value)
		}
	}
	if out.Len() == 0 {
		return "", errors.New("the tests of " + topic + " noted nothing that begins with \"" + prefix + "\"")
	}
	return "| | |\n|---|---|\n" + out.String(), nil
}
