package bindings

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
)

// TestMain says once, at the beginning, what is missing.
func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := checkout.Find()
	for _, program := range []string{"podwire", "podwire-launcher"} {
		if err == nil {
			_, err = dir.Program(program)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
