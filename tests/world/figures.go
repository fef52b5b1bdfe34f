package world

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Long reports whether tests of reliability are to take their time, and to do all of what
// they do a part of otherwise: "make reliability" asks for it.
func Long() bool { return os.Getenv("PODWIRE_LONG") == "1" }

// Figure notes a figure for docs/reliability.md, where somebody gathers them. A name is
// noted once; a topic is the name of the package whose tests measure it.
func Figure(t testing.TB, topic, name string, value any) {
	t.Helper()
	t.Logf("%s: %v", name, value)
	dir := os.Getenv("PODWIRE_RELIABILITY_OUT")
	if dir == "" {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, topic+".txt"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s\t%v\n", name, value); err != nil {
		t.Fatal(err)
	}
}
