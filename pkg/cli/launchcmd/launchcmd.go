// Package launchcmd is the command podwire-launcher: its flags, and the wiring
// of the domain's life in package launcher to the pod's network in package cli.
//
// It is a package of its own so that podwire, which has no use for libvirt, is
// built without it.
package launchcmd

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/cli"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/launcher"
)

const help = `podwire-launcher runs the libvirt domain of DOMAIN.xml (- for standard input) in a
pod, with the pod's own network.

It waits for libvirt, gives the pod's network to the domain as "podwire prestart"
does, starts the domain with the interfaces in it, serves its guest, reports what
happens to it, and ends when it ends. On SIGTERM it asks the guest to shut down,
and destroys the domain when the grace period is over. Then the pod's network is
put back.

A domain of that name that already runs is adopted: the launcher may be restarted
under it. So where the launcher has to give up while the domain runs, because
libvirt is gone, it leaves the network as it is and exits with 3.

With --prewired the pod's network is the work of others: of an init container that
runs "podwire setup" and a sidecar that runs "podwire serve", or of the CNI plugin.
The launcher then needs no capability, and with --connect qemu:///session no root:
it reads the state directory, waits for the pod to be wired, and runs the domain.

Every flag can come from the environment, as PODWIRE_ and its name (--connect is
PODWIRE_CONNECT), and from the YAML or JSON file of --config; a flag beats the
environment, which beats the file.

Exit codes: 0 the guest shut down, or moved to another host; 1 the domain did not
start or ended otherwise, and the pod's network is as it was found; 2 usage; 3
failed, and the network is not as it was found: a person must look.`

// NewCommand returns the podwire-launcher command.
func NewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "podwire-launcher [flags] DOMAIN.xml",
		Short:             "run a libvirt domain in a pod, with the pod's own network",
		Long:              help,
		Version:           cli.Version(),
		Args:              cli.ExactlyOne,
		ValidArgsFunction: domainFile,
		RunE:              run,
	}
	cli.AddFlags(cmd, config.Setup, config.Launcher)
	return cmd
}

// domainFile completes the one argument.
func domainFile(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []cobra.Completion{"xml"}, cobra.ShellCompDirectiveFilterFileExt
}

func run(cmd *cobra.Command, args []string) error {
	c, err := cli.Load(cmd)
	if err != nil {
		return err
	}
	domain, err := cli.ReadInput(cmd.InOrStdin(), args[0])
	if err == nil {
		_, err = domxml.Name(domain)
	}
	if err != nil {
		return cli.UsageError(err)
	}
	log := cli.Logger(c, cmd.ErrOrStderr())
	agent, err := cli.NewAgent(c, log)
	if err != nil {
		return err
	}
	defer agent.Close()
	network := networkOf(agent, c)
	err = launch(cmd.Context(), launcher.Options{
		DomainXML: domain, Connect: c.Connect, StartLibvirtd: c.StartLibvirtd,
		GracePeriod: c.GracePeriod, Timeout: c.Timeout, Log: log, Network: network,
	})
	var half *apply.UndoError
	if err != nil && !errors.As(err, &half) && network.Abandoned(context.WithoutCancel(cmd.Context())) {
		return stillWired{err} // by an earlier launcher, whose guest may still run
	}
	return err
}

// network is the pod's network, as this command has to do with it.
type network interface {
	launcher.Network
	// Abandoned reports whether the pod is wired and nobody serves its guest.
	Abandoned(ctx context.Context) bool
}

func networkOf(a *cli.Agent, c config.Config) network {
	if c.Prewired {
		return cli.NewPrewired(a)
	}
	return cli.NewInProcess(a)
}

func launch(ctx context.Context, o launcher.Options) error {
	err := launcher.Run(ctx, o)
	if errors.Is(err, launcher.ErrNetworkLeft) {
		return stillWired{err}
	}
	return err
}

// stillWired gives an error the exit code of a network that is not put back.
type stillWired struct{ error }

func (e stillWired) Unwrap() []error {
	return []error{e.error, &apply.UndoError{Err: launcher.ErrNetworkLeft}}
}
