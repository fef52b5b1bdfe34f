package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/kernel"
)

func doctorCommand() *cobra.Command {
	return command("doctor", "say whether podwire can work here, and what to do where it cannot",
		"Look at capabilities, devices, kernel features and the pod's network, and say of each whether\nit will do and what to do where it will not. Changes nothing; what it tries, it tries in a\nnetwork namespace of its own. Exits with 1 when something that setup needs is missing.",
		[]config.Group{config.Setup},
		func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			return a.doctor(ctx, cmd.OutOrStdout())
		})
}

func (a *Agent) doctor(ctx context.Context, w io.Writer) error {
	findings := a.kernel.Doctor(ctx)
	findings = append(findings, a.podFindings(ctx)...)
	failed := false
	for _, f := range findings {
		failed = failed || f.Status == kernel.StatusFail
	}
	if a.config.Output == "json" {
		if err := printJSON(w, map[string]any{"findings": findings}); err != nil {
			return err
		}
	} else {
		printFindings(w, findings)
	}
	if failed {
		return errQuiet
	}
	return nil
}

func printFindings(w io.Writer, findings []kernel.Finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%-4s  %s: %s\n", f.Status, f.Name, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(w, "      → %s\n", f.Fix)
		}
	}
}

// podFindings is what setup would say of this pod.
func (a *Agent) podFindings(ctx context.Context) []kernel.Finding {
	jobs, err := a.current(ctx)
	if err != nil {
		return []kernel.Finding{{Name: "pod network", Status: kernel.StatusFail, Detail: err.Error()}}
	}
	var findings []kernel.Finding
	for _, j := range jobs {
		r := j.record
		findings = append(findings, kernel.Finding{
			Name: "pod network", Status: kernel.StatusOK,
			Detail: fmt.Sprintf("the guest would take over %s: %v", r.Interface.PodInterface, r.Lease.Addrs),
		})
		for _, warning := range r.Warnings {
			findings = append(findings, kernel.Finding{Name: "pod network", Status: kernel.StatusWarn, Detail: warning})
		}
	}
	return findings
}
