package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/record"
)

func statusCommand() *cobra.Command {
	return command("status", "say whether the pod is as planned and the guest served",
		"Say whether the pod is still as planned, what others have changed of its network since, whether\nthe server is up, and what the guest was last told. Exits with 0 only when all of it is well, so it can be a probe.",
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

// Status reports on each wired interface, and whether all is well.
func (a *Agent) Status(ctx context.Context) ([]InterfaceResult, bool, error) {
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return nil, false, err
	}
	records, err := a.taking(record.ErrTheirs, record.ErrConfig).records(a.config.Interfaces, snapshot.NetNS)
	if err != nil {
		return nil, false, err
	}
	well := len(records) > 0
	var results []InterfaceResult
	for _, r := range records {
		result := interfaceResult(r)
		st := a.statusOf(ctx, r, snapshot)
		well = well && st.Applied && len(st.Drift)+len(st.Degraded) == 0 && (st.Serving || !r.Lease.Served())
		result.StatusResult = st
		results = append(results, result)
	}
	return results, well, nil
}

func (a *Agent) statusOf(ctx context.Context, r record.Record, s netstate.Snapshot) *StatusResult {
	st := &StatusResult{Applied: r.Phase == record.Applied, Drift: orEmpty(drift(r, s)), Limits: limits(r.Interface.Binding)}
	server, up := a.serving(ctx, r)
	if up {
		st.Serving, st.Guest, st.PID, st.Counts = true, server.Guest, server.PID, server.Counts
		st.Confinement, st.Degraded = server.Confinement, server.Degraded
	}
	return st
}

// drift is what is not as the steps made it, and what else others have changed of the
// pod's network.
func drift(r record.Record, now netstate.Snapshot) []string {
	out := apply.Check(r.Steps, now)
	for _, text := range moved(r, now) {
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
