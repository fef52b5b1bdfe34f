// Command guestimage DIR writes the file system of the demo guest's container
// image below DIR, from what hack/install.sh unpacked. It is a step of
// images/build.sh, and builds no container image itself.
package main

import (
	"fmt"
	"os"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/guest"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: guestimage DIR")
		os.Exit(2)
	}
	dir, err := checkout.Find()
	if err == nil {
		err = guest.Disk(dir, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guestimage:", err)
		os.Exit(1)
	}
}
