package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
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
		"Print the steps that setup would take, in the words of ip(8), bridge(8) and tc(8).\nChanges nothing, needs no capability.",
		[]config.Group{config.Setup}, printPlan)
}

func setupCommand() *cobra.Command {
	return command("setup", "wire the pod's network to a tap for the VM",
		"Wire the pod's network to a tap for the VM. A second run changes nothing. A step that\nfails is taken back, and the pod works as before.\n\nNeeds CAP_NET_ADMIN and /dev/net/tun.",
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
		"Wire the pod's network and leave a server behind, detached. Returns 0 only when the server\nanswers: the guest's first DISCOVER is not lost. When it cannot, the pod's network is put back.\n\nNeeds CAP_NET_ADMIN, CAP_NET_RAW and /dev/net/tun.",
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
		"Answer the guest on its tap, until SIGTERM or teardown. It is ready when --ready-file exists,\nand \"podwire status\" says so. Killed and started again it answers the same.\n\nNeeds CAP_NET_RAW.",
		[]config.Group{config.Serve},
		func(ctx context.Context, _ *cobra.Command, a *Agent) error {
			return a.Serve(ctx, kernel.NotifyReady)
		})
}

func teardownCommand() *cobra.Command {
	return command("teardown", "stop the server and put the pod's network back",
		"Stop the server and put the pod's network back as it was found. Twice is fine.\n\nNeeds CAP_NET_ADMIN.",
		nil,
		func(ctx context.Context, _ *cobra.Command, a *Agent) error { return a.Teardown(ctx) })
}

func statusCommand() *cobra.Command {
	return command("status", "say whether the pod is as planned and the guest served",
		"Say whether the pod is still as planned, whether the server is up, and what the guest was last\ntold. Exits with 0 only when all of it is well, so it can be a probe.",
		nil,
		func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			results, well, err := a.Status(ctx)
			if err != nil {
				return err
			}
			if err := a.print(cmd.OutOrStdout(), results); err != nil {
				return err
			}
			switch {
			case len(results) == 0 && a.config.Output == "text":
				return errNotWired
			case !well:
				return errQuiet
			}
			return nil
		})
}

func domainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "domain [FILE]",
		Short:             "print the libvirt interface, or FILE's domain with it put in",
		Long:              "Print the libvirt <interface> element of each wired interface, or the domain in FILE (- for\nstandard input) with them put in; all else in it stays as it is, to the letter. Before setup,\nit is what setup would make. Changes nothing, needs no capability.",
		Args:              atMostOne,
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"xml"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	AddFlags(cmd, config.Setup)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return run(func(ctx context.Context, cmd *cobra.Command, a *Agent) error {
			interfaces, err := a.planned(ctx)
			if err != nil {
				return err
			}
			text, err := domainText(cmd.InOrStdin(), args, interfaces)
			if err != nil {
				return usageError{err}
			}
			_, err = io.WriteString(cmd.OutOrStdout(), strings.TrimRight(text, "\n")+"\n")
			return err
		})(cmd, args)
	}
	return cmd
}

func domainText(stdin io.Reader, args []string, interfaces []plan.Interface) (string, error) {
	if len(args) == 0 {
		var all []string
		for _, i := range interfaces {
			element, err := domxml.Element(i)
			if err != nil {
				return "", err
			}
			all = append(all, element)
		}
		return strings.Join(all, "\n"), nil
	}
	text, err := ReadInput(stdin, args[0])
	if err != nil {
		return "", err
	}
	return domxml.Put(text, interfaces)
}

// ReadInput reads a file, or standard input where its name is "-".
func ReadInput(stdin io.Reader, name string) (string, error) {
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return "", fmt.Errorf("reading the domain: %w", err)
	}
	return string(text), nil
}

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

// planned returns the interfaces that are wired or would be.
func (a *Agent) planned(ctx context.Context) ([]plan.Interface, error) {
	jobs, err := a.current(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]plan.Interface, len(jobs))
	for i, j := range jobs {
		out[i] = j.record.Interface
	}
	return out, nil
}

// Status reports on each wired interface, and whether all is well.
func (a *Agent) Status(ctx context.Context) ([]InterfaceResult, bool, error) {
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return nil, false, err
	}
	names := a.config.Interfaces
	if len(names) == 0 {
		if names, err = a.recorded(snapshot.NetNS); err != nil {
			return nil, false, err
		}
	}
	well := len(names) > 0
	var results []InterfaceResult
	for _, name := range names {
		r, err := a.dir.Load(name)
		if err == nil && !r.Snapshot.NetNS.Same(snapshot.NetNS) {
			err = errNotWired
		}
		if err != nil {
			return nil, false, fmt.Errorf("%q: %w", name, err)
		}
		result := interfaceResult(r)
		st := a.statusOf(ctx, r, snapshot)
		_, served := r.Lease.IPv4()
		well = well && st.Applied && len(st.Drift) == 0 && (st.Serving || !served)
		result.StatusResult = st
		results = append(results, result)
	}
	return results, well, nil
}

func (a *Agent) statusOf(ctx context.Context, r record.Record, s netstate.Snapshot) *StatusResult {
	st := &StatusResult{Applied: r.Phase == record.Applied, Drift: orEmpty(apply.Check(r.Steps, s))}
	server, up := a.serving(ctx, r)
	if up {
		st.Serving, st.Guest, st.PID, st.Counts = true, server.Guest, server.PID, server.Counts
	}
	return st
}
