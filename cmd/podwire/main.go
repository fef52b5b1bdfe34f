// Command podwire gives a pod's network to the virtual machine that runs in it.
package main

import (
	"os"

	"github.com/podwire/podwire/pkg/cli"
)

func main() {
	if cli.IsCNI(os.Args) {
		os.Exit(cli.CNI())
	}
	os.Args = cli.AsHook(os.Args)
	os.Exit(cli.Execute(cli.NewCommand()))
}
