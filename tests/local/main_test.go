package local

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
)

// atOnce is how many tests run at a time. They wait for most of their time, so that it
// may be more than there are processors.
const atOnce = "4"

// TestMain says once, at the beginning, what is missing.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	dir, err := checkout.Find()
	for _, program := range []string{"podwire", "podwire-launcher"} {
		if err == nil {
			_, err = dir.Program(program)
		}
	}
	if err == nil && !chosen {
		err = flag.Set("test.parallel", atOnce)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
