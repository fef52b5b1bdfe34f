package world

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
)

// atOnce is how many tests of a package run at a time. They wait for most of their time, so
// that it may be more than there are processors.
const atOnce = "4"

// Main runs the tests of a package that need these programs of podwire, and says once, at
// the beginning, what is missing.
func Main(m *testing.M, programs ...string) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	dir, err := checkout.Find()
	for _, program := range programs {
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
