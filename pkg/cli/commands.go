package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
)

func setupCommand() *cobra.Command {
	return command("setup", "wire the pod's network to a tap for the VM",
		"Wire the pod's network to a tap for the VM. A second run changes nothing but what\ndrifted, what others have changed of the pod's network, which it takes over, and what the guest\nis to be told anew. A step that fails is taken back, and the pod\nworks as before.\n\nNeeds CAP_NET_ADMIN and /dev/net/tun.",
		[]config.Group{config.Setup, config.DryRun},
		func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			if a.config.DryRun {
				return printPlan(ctx, cmd, a)
			}
			wired, err := a.Setup(ctx)
			if err != nil {
				return err
			}
			a.report(cmd, wired)
			return nil
		})
}

func prestartCommand() *cobra.Command {
	return command("prestart", "setup, then serve in the background: the pre-start hook",
		"Wire the pod's network and leave a server behind, detached. Returns 0 only when the server\nanswers: the guest's first DISCOVER is not lost. When it cannot, what it\nwired is taken back.\n\nNeeds CAP_NET_ADMIN, CAP_NET_RAW and /dev/net/tun.",
		[]config.Group{config.Setup, config.Serve, config.DryRun},
		func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			if a.config.DryRun {
				return printPlan(ctx, cmd, a)
			}
			wired, err := a.Prestart(ctx)
			if err != nil {
				return err
			}
			a.report(cmd, wired)
			return nil
		})
}

func serveCommand() *cobra.Command {
	return command("serve", "serve the guest until SIGTERM",
		"Answer the guest on its tap, until SIGTERM or teardown. It is ready when --ready-file exists,\nand \"podwire status\" says so. Killed and started again it answers the same. What others change of\nthe pod's network the guest is told: of IPv6 routers, prefixes and MTU at once, else when it renews.\n\nOnce its sockets are open it gives up all capabilities, can get none back, and confines itself\nby seccomp and Landlock where the kernel has them; status says what is in force.\n\nNeeds CAP_NET_RAW; where setup was told to relay DNS (--dns-forward), also CAP_NET_ADMIN and\n/dev/net/tun.",
		[]config.Group{config.Serve},
		func(ctx context.Context, _ *cobra.Command, a *Agent) error {
			return a.Serve(ctx, kernel.NotifyReady)
		})
}

func teardownCommand() *cobra.Command {
	cmd := command("teardown", "stop the server and put the pod's network back",
		"Stop the server and put the pod's network back as it was found. Twice is fine.\n\nNeeds CAP_NET_ADMIN.",
		nil,
		func(ctx context.Context, _ *cobra.Command, a *Agent) error { return a.Teardown(ctx) })
	teardown := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return puttingBack(teardown(cmd, args)) }
	return cmd
}

// report prints what was wired. That nobody could be told of it does not undo it:
// an exit code of 1 would say so.
func (a *Agent) report(cmd *cobra.Command, wired []Wired) {
	if err := a.print(cmd.OutOrStdout(), wiredResults(wired)); err != nil {
		a.log.Warn("the pod is wired, but the result could not be printed", "err", err)
	}
}

func wiredResults(wired []Wired) []InterfaceResult {
	out := make([]InterfaceResult, len(wired))
	for i, w := range wired {
		out[i] = interfaceResult(w.Record)
	}
	return out
}

func (a *Agent) print(w io.Writer, results []InterfaceResult) error {
	if a.config.Output == "json" {
		return printJSON(w, Result{orEmpty(results)})
	}
	return printInterfaces(w, results)
}
