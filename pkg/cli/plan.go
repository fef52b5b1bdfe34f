package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/config"
)

func inspectCommand() *cobra.Command {
	return command("inspect", "print what the guest would inherit",
		"Print the pod interface and what the guest would be told of it. Changes nothing, needs no capability.",
		[]config.Group{config.Setup},
		func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			jobs, err := a.current(ctx)
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), jobResults(jobs))
		})
}

func planCommand() *cobra.Command {
	return command("plan", "print the steps that setup would take",
		"Print the steps that setup would take, in the words of ip(8), bridge(8), tc(8), sysctl(8) and nft(8).\nChanges nothing, needs no capability.",
		[]config.Group{config.Setup}, printPlan)
}

// printPlan prints what Setup would do. It is what Setup itself starts with.
func printPlan(ctx context.Context, cmd *cobra.Command, a *Agent) error {
	jobs, err := a.prepare(ctx)
	if err != nil {
		return err
	}
	results := jobResults(jobs)
	for i, j := range jobs {
		results[i].Remarks = j.remarks()
		if j.done {
			continue
		}
		for _, step := range j.record.Steps {
			results[i].Steps = append(results[i].Steps, step.String())
		}
	}
	if a.config.Output == "json" {
		return printJSON(cmd.OutOrStdout(), Result{results})
	}
	for _, r := range results {
		fmt.Fprintf(cmd.OutOrStdout(), "# %s: %s with the guest's %s\n", r.PodInterface, strings.Join(r.Addresses, ", "), r.MAC)
		for _, remark := range r.Remarks {
			fmt.Fprintf(cmd.OutOrStdout(), "# %s\n", remark)
		}
		for _, step := range r.Steps {
			fmt.Fprintln(cmd.OutOrStdout(), step)
		}
	}
	return nil
}

func jobResults(jobs []job) []InterfaceResult {
	out := make([]InterfaceResult, len(jobs))
	for i, j := range jobs {
		out[i] = interfaceResult(j.record)
	}
	return out
}
