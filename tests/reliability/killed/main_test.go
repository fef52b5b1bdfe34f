package killed

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
)

// atOnce is how many worlds there are at a time. They wait for the kernel for most of their
// time, so that it may be more than there are processors.
const atOnce = "4"

// TestMain says once, at the beginning, what is missing.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	dir, err := checkout.Find()
	if err == nil {
		_, err = dir.Program("podwire")
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
