// Command podwire-launcher runs one libvirt domain in a pod, with the pod's own
// network.
package main

import (
	"os"

	"github.com/podwire/podwire/pkg/cli"
	"github.com/podwire/podwire/pkg/cli/launchcmd"
)

func main() {
	os.Exit(cli.Execute(launchcmd.NewCommand()))
}
