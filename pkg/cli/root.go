package cli

import (
	"context"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/config"
)

const rootHelp = `podwire gives a Kubernetes pod's network to the virtual machine that runs in it.

It finds what the CNI plugin gave the pod (addresses of both families, MAC, MTU,
routes, DNS), joins the pod interface to a tap, and serves the one guest on that
tap over DHCPv4, DHCPv6 and router advertisements: an unmodified VM boots with the
pod's own addresses. When the VM is gone, the pod's network is put back as it was
found. How the two are joined is --binding's to say: by a bridge, by tc redirects, or
by address translation, with the guest behind the pod (masquerade).

  podwire plan         what would be done; changes nothing
  podwire prestart     do it, and serve the guest in the background
  podwire status       is all as planned, what was the guest told
  podwire teardown     put the pod's network back

Every flag can come from the environment, as PODWIRE_ and its name (--state-dir is
PODWIRE_STATE_DIR), and from the YAML or JSON file of --config; a flag beats the
environment, which beats the file.

Exit codes: 0 done; 1 failed, and the pod's network is as it was found; 2 usage,
or a damaged state file: nothing was touched; 3 failed, and it could not be put back: a person must look.`

// NewCommand returns the podwire command.
func NewCommand() *cobra.Command {
	root := &cobra.Command{
		Use:     "podwire",
		Short:   "give a pod's network to the VM that runs in it",
		Long:    rootHelp,
		Version: Version(),
		Args:    unknown,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(
		inspectCommand(), planCommand(), setupCommand(), serveCommand(), prestartCommand(),
		statusCommand(), teardownCommand(), domainCommand(), hookCommand(), doctorCommand(), cniCommand(),
	)
	return root
}

// Version is the module's, as the build recorded it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// run is the frame of a command: settings, agent, and what it does with them.
func run(do func(ctx context.Context, cmd *cobra.Command, a *Agent) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		c, err := Load(cmd)
		if err != nil {
			return err
		}
		a, err := NewAgent(c, Logger(c, logOf(cmd.ErrOrStderr())))
		if err != nil {
			return &openError{c.StateDir, err}
		}
		defer a.Close()
		return do(cmd.Context(), cmd, a)
	}
}

func command(use, short, long string, groups []config.Group, do func(context.Context, *cobra.Command, *Agent) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: noArgs, RunE: run(do)}
	AddFlags(cmd, groups...)
	return cmd
}
