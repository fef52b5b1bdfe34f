package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/resolvconf"
)

// Agent does what the commands say in one pod.
type Agent struct {
	config config.Config
	log    *slog.Logger
	kernel *kernel.Kernel
	dir    record.Dir
}

// NewAgent returns an agent for the network namespace that the settings name.
func NewAgent(c config.Config, log *slog.Logger) (*Agent, error) {
	k, err := kernel.Open(c.NetNS)
	if err != nil {
		return nil, err
	}
	if c.NetNS != "" {
		log = log.With("netns", c.NetNS)
	}
	return &Agent{config: c, log: log, kernel: k, dir: record.Dir(c.StateDir)}, nil
}

// Close frees what the agent holds; what it did to the pod stays.
func (a *Agent) Close() error { return a.kernel.Close() }

// job is one pod interface and what is to be done to it.
type job struct {
	record record.Record
	// done says that the state file says the steps are done.
	done bool
	// resumed says that an earlier run was cut off between its first and last step.
	resumed bool
	// changed says that the guest is to be told other things than before, although
	// the wiring stays.
	changed bool
}

// host is what the pod knows of itself.
func (a *Agent) host() (discover.Host, []string, error) {
	name, err := os.Hostname()
	if err != nil {
		return discover.Host{}, nil, fmt.Errorf("reading the host name: %w", err)
	}
	text, err := os.ReadFile(a.config.ResolvConf)
	var warnings []string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		warnings = []string{fmt.Sprintf("there is no %s: the guest gets no nameserver from it", a.config.ResolvConf)}
	case err != nil:
		return discover.Host{}, nil, fmt.Errorf("reading the resolver's configuration: %w", err)
	}
	conf, parsed := resolvconf.Parse(text)
	for _, w := range parsed {
		warnings = append(warnings, a.config.ResolvConf+": "+w)
	}
	return discover.Host{Hostname: name, ResolvConf: conf}, warnings, nil
}

// prepare works out, for each pod interface, what is to be done. It changes
// nothing, so that plan and a dry run show what setup does: they are the same
// code up to here.
func (a *Agent) prepare(ctx context.Context) ([]job, error) {
	snapshot, err := a.kernel.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	names, err := a.interfaces(snapshot)
	if err != nil {
		return nil, err
	}
	host, warnings, err := a.host()
	if err != nil {
		return nil, err
	}
	jobs := make([]job, 0, len(names))
	for _, name := range names {
		j, err := a.prepareOne(snapshot, name, host)
		if err != nil {
			return nil, err
		}
		j.record.Warnings = append(warnings, j.record.Warnings...)
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// interfaces are those that are named, or those that are wired already, or the
// one that discover finds.
func (a *Agent) interfaces(s netstate.Snapshot) ([]string, error) {
	if len(a.config.Interfaces) > 0 {
		return a.config.Interfaces, nil
	}
	recorded, err := a.recorded(s.NetNS)
	if err != nil || len(recorded) > 0 {
		return recorded, err
	}
	links, err := discover.Interfaces(s, nil)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Name
	}
	return names, nil
}

// recorded returns the interfaces whose state is of this namespace. A damaged
// state is an error: to pass it over would be to wire a pod twice.
func (a *Agent) recorded(id netstate.Identity) ([]string, error) {
	all, err := a.dir.List()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		r, err := a.dir.Load(name)
		if err != nil {
			return nil, err
		}
		if r.Snapshot.NetNS.Same(id) {
			names = append(names, name)
		}
	}
	return names, nil
}

func (a *Agent) prepareOne(s netstate.Snapshot, name string, host discover.Host) (job, error) {
	r, err := a.dir.Load(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.fresh(s, name, host)
	case err != nil:
		return job{}, err
	case !r.Snapshot.NetNS.Same(s.NetNS):
		// The sandbox was made anew; what the file says was never done to this one.
		return a.fresh(s, name, host)
	default:
		return a.again(r, host)
	}
}

// fresh plans an interface that podwire has not touched.
func (a *Agent) fresh(s netstate.Snapshot, name string, host discover.Host) (job, error) {
	links, err := discover.Interfaces(s, []string{name})
	if err != nil {
		return job{}, err
	}
	found, err := discover.Discover(s, links[0], host, a.config)
	if err != nil {
		return job{}, err
	}
	p, err := plan.New(s, found.Link, found.Lease, a.config)
	if err != nil {
		return job{}, err
	}
	return job{record: record.Record{
		Version: record.Version, Phase: record.Recorded, Config: a.config, Snapshot: s,
		Lease: found.Lease, Interface: p.Interface, Steps: p.Steps, Warnings: found.Warnings,
	}}, nil
}

// again plans an interface that has a record: from what the kernel held before
// the first step, with today's settings. The steps must come out the same; the
// lease may change under a running guest.
func (a *Agent) again(r record.Record, host discover.Host) (job, error) {
	j, err := a.fresh(r.Snapshot, r.Interface.PodInterface, host)
	if err != nil {
		return job{}, err
	}
	if j.record.Steps.String() != r.Steps.String() {
		return job{}, fmt.Errorf("%q is wired already, with other settings; run \"podwire teardown\" first, or repeat the settings it was wired with",
			r.Interface.PodInterface)
	}
	// The recorded steps are what was done, so they stay to the letter.
	j.record.Steps = r.Steps
	j.record.Phase = r.Phase
	j.done = r.Phase == record.Applied
	j.resumed = r.Phase == record.Recorded
	j.changed = !equalJSON(j.record.Lease, r.Lease)
	return j, nil
}

func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
