// Package page is what the programs share that make a page of docs of what tests saw: each
// is told a directory, and writes the page to standard output.
package page

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// Main runs such a program.
func Main(make func(dir string, w io.Writer) error) {
	name := filepath.Base(os.Args[0])
	if len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "usage: %s DIR\n", name)
		os.Exit(2)
	}
	if err := make(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Template is a page with holes, whose signs are <% and %>: Markdown has braces.
func Template(text string, functions template.FuncMap) (*template.Template, error) {
	return template.New("page").Delims("<%", "%>").Option("missingkey=error").Funcs(functions).Parse(text)
}

// ReadJSON reads a file that a test left.
func ReadJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// Kernel is the release of this machine's kernel without what a distribution adds.
func Kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "of unknown version"
	}
	parts := strings.SplitN(strings.TrimSpace(string(text)), ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}
