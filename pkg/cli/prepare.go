package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/apply"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

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
	// drift is what is not as the done steps made it.
	drift []string
	// moved is what others have changed of the pod's network, which is taken over.
	moved []string
	// unasked are the gateways that setup is going to ask for their MACs.
	unasked []netip.Addr
}

// prepare works out, for each pod interface, what is to be done. It changes
// nothing, so that plan and a dry run show what setup does: they are the same
// code up to here.
func (a *Agent) prepare(ctx context.Context) ([]job, error) {
	return a.each(ctx, a.asSeen, a.again)
}

// prepareAsking is prepare for one that may ask the pod's network for what the
// kernel does not know.
func (a *Agent) prepareAsking(ctx context.Context) ([]job, error) {
	return a.each(ctx, a.askGateways, a.again)
}

// current is as prepare, but takes what is wired as it is, whatever today's
// settings would make of it.
func (a *Agent) current(ctx context.Context) ([]job, error) {
	return a.each(ctx, a.asSeen, func(_ netstate.Snapshot, r record.Record) (job, error) {
		r, err := a.complete(r)
		return job{record: r, done: true}, err
	})
}

type (
	// learn makes a snapshot complete for a link that is not wired, and says whether
	// its gateways were asked for their MACs.
	learn func(context.Context, netstate.Snapshot, string) (s netstate.Snapshot, asked bool, err error)
	// replan makes the job of an interface that has a record.
	replan func(netstate.Snapshot, record.Record) (job, error)
)

// each makes the job of each pod interface: those that are named, or those that
// are wired already, or the one that discover finds.
func (a *Agent) each(ctx context.Context, learn learn, again replan) ([]job, error) {
	snapshot, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	names, err := a.interfaces(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	jobs := make([]job, 0, len(names))
	for _, name := range names {
		r, err := a.load(name)
		var j job
		switch {
		case err == nil && r.Snapshot.NetNS.Same(snapshot.NetNS):
			j, err = again(snapshot, r)
		case err == nil || notExist(err):
			// A state of another namespace was never done to this one.
			j, err = a.learned(ctx, learn, snapshot, name)
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// learned makes the job of an interface that podwire has not touched.
func (a *Agent) learned(ctx context.Context, learn learn, s netstate.Snapshot, name string) (job, error) {
	s, asked, err := learn(ctx, s, name)
	if err != nil {
		return job{}, err
	}
	j, err := a.fresh(s, name, a.config, asked)
	if link, ok := s.LinkByName(name); ok && !asked {
		j.unasked = discover.Unresolved(s, link, a.config.Binding)
	}
	return j, err
}

// interfaces are the names of those to work on, in the order of the VM's own.
func (a *Agent) interfaces(ctx context.Context, s netstate.Snapshot) ([]string, error) {
	if len(a.config.Interfaces) > 0 {
		return a.config.Interfaces, nil
	}
	recorded, err := a.recorded(s.NetNS)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range recorded {
		names = append(names, r.Interface.PodInterface)
	}
	if a.config.All {
		return a.allInterfaces(ctx, s, names)
	}
	if len(names) > 0 {
		return names, nil
	}
	links, err := discover.Interfaces(s, nil, a.config.Binding)
	for _, l := range links {
		names = append(names, l.Name)
	}
	return names, err
}

func (a *Agent) allInterfaces(ctx context.Context, s netstate.Snapshot, wired []string) ([]string, error) {
	networks, err := a.networks(ctx)
	if err != nil {
		return nil, err
	}
	names, missing, err := discover.All(s, networks, wired, a.config.Binding)
	for _, network := range missing {
		a.log.Warn("a network of the pod has no interface that could be wired", "network", network)
	}
	return names, err
}

// fresh plans an interface from what it was before podwire touched it. asked says
// that its gateways have been asked for their MACs: then silence is worth a warning.
func (a *Agent) fresh(s netstate.Snapshot, name string, c config.Config, asked bool) (job, error) {
	if !a.outside { // there, a pod is not to blame for what its node has
		if err := c.CheckBinding(a.config.Given...); err != nil {
			return job{}, err
		}
	}
	links, err := discover.Interfaces(s, []string{name}, c.Binding)
	if err != nil {
		return job{}, err
	}
	var host discover.Host
	var warnings []string
	if !a.outside {
		host, warnings = a.host(c)
	}
	host.Unasked = !asked
	found, err := discover.Discover(s, links[0], host, c)
	if err != nil {
		return job{}, err
	}
	p, err := plan.New(s, found.Link, found.Lease, c)
	if err != nil {
		return job{}, err
	}
	r := record.Record{
		Version: record.Version, Phase: record.Recorded, Config: c, Snapshot: s,
		Lease: found.Lease, Interface: p.Interface, Steps: p.Steps, HostUnknown: a.outside, Network: found.Network,
	}
	if !a.outside {
		r.Warnings = append(warnings, found.Warnings...)
	}
	return job{record: r}, nil
}

// complete works out again what the guest is told, of a pod that was wired from
// outside: with the host name and resolv.conf that are seen in here.
func (a *Agent) complete(r record.Record) (record.Record, error) {
	if !r.HostUnknown || a.outside {
		return r, nil
	}
	j, err := a.underWiring(r)
	if err != nil {
		return r, err
	}
	r.Lease, r.Warnings = j.record.Lease, j.record.Warnings
	return r, nil
}

// underWiring plans an interface anew whose wiring stays as it was recorded: what its
// filters are for, the guest is told as before. An older podwire's know no IPv6.
func (a *Agent) underWiring(r record.Record) (job, error) {
	name, c := r.Interface.PodInterface, a.config.Over(r.Config)
	if c.DNSForward != r.Config.DNSForward {
		return job{}, fmt.Errorf("--dns-forward: %w", errOtherWiring(name))
	}
	// Which interface is the primary one may have looked otherwise from outside.
	c.DNSForward = len(r.Lease.Server.DNS) > 0
	j, err := a.fresh(r.Snapshot, name, c, true)
	if err != nil {
		return j, err
	}
	if j.record.Interface != r.Interface {
		return j, errOtherWiring(name)
	}
	j.record.Config.DNSForward = r.Config.DNSForward
	j.record.Lease.Server = r.Lease.Server
	if !r.Lease.Server.LinkLocal.IsValid() {
		j.record.Lease.Routers = nil
	}
	return j, nil
}

// errOtherWiring refuses settings that would change what is wired.
func errOtherWiring(name string) error {
	return fmt.Errorf("%q is wired already, with other settings; run \"podwire teardown\" first, or leave the new ones out", name)
}

// again plans an interface that has a record: from what the kernel held before
// the first step, with the settings of that time, but for those that are given
// now. The wiring must come out the same; the lease may change under a running
// guest.
func (a *Agent) again(now netstate.Snapshot, r record.Record) (job, error) {
	name := r.Interface.PodInterface
	if err := sameLink(now, r); err != nil {
		return job{}, err
	}
	c := a.config.Over(r.Config)
	if was, _ := r.Snapshot.LinkByName(name); c.Binding.For(was) != r.Interface.Binding {
		return job{}, errOtherWiring(name)
	}
	j, err := a.fresh(r.Snapshot, name, c, true)
	if err != nil {
		return job{}, err
	}
	if !sameWiring(j.record, r) {
		// Where today's settings change nothing, another release has wired it, and
		// it stays as that has made it.
		as, err := a.fresh(r.Snapshot, name, r.Config, true)
		if err != nil || !sameWiring(j.record, as.record) {
			return job{}, errOtherWiring(name)
		}
		if j, err = a.underWiring(r); err != nil {
			return job{}, err
		}
	}
	// The recorded steps are what was done, so they stay to the letter.
	planned := j
	j.record.Steps, j.record.Phase = r.Steps, r.Phase
	j.done, j.resumed = r.Phase == record.Applied, r.Phase == record.Recorded
	if j.done {
		if j, err = a.takeOver(now, r, j, planned); err != nil {
			return job{}, err
		}
		j.drift = apply.Check(j.record.Steps, now)
	}
	j.changed = !equalJSON(j.record.Lease, r.Lease)
	return j, nil
}

func sameWiring(a, b record.Record) bool {
	return a.Interface == b.Interface && a.Steps.String() == b.Steps.String()
}

// sameLink makes sure that the pod interface is still the one that was wired: the
// recorded addresses are not another's to be given or taken.
func sameLink(now netstate.Snapshot, r record.Record) error {
	name := r.Interface.PodInterface
	was, _ := r.Snapshot.LinkByName(name)
	link, ok := now.LinkByName(name)
	other := renamed(now, r)
	switch {
	case other != "":
		return errRenamed(r, other)
	case !ok:
		return fmt.Errorf("the pod interface %q, which is wired by the state, is gone; run \"podwire teardown\" to remove the rest", name)
	case link.Index != was.Index:
		return fmt.Errorf("the pod interface %q was replaced by another since it was wired; run \"podwire teardown\", then this again", name)
	}
	return nil
}

// renamed is what the wired pod interface is called now, if somebody gave it another name:
// a link of its number that has a MAC which it had, or has got from podwire.
func renamed(now netstate.Snapshot, r record.Record) string {
	was, _ := r.Snapshot.LinkByName(r.Interface.PodInterface)
	link, ok := now.LinkByIndex(was.Index)
	if !ok || link.Name == was.Name || link.Kind != was.Kind {
		return ""
	}
	its := []netstate.MAC{was.MAC}
	for _, step := range r.Steps {
		if set, ok := step.(plan.SetMAC); ok && set.Link == was.Name {
			its = append(its, set.MAC)
		}
	}
	if !slices.Contains(its, link.MAC) {
		return ""
	}
	return link.Name
}

// errRenamed asks for the name by which the steps know the pod interface: to forget what
// it had would leave it without.
func errRenamed(r record.Record, other string) error {
	name := r.Interface.PodInterface
	return fmt.Errorf("the pod interface %q, which is wired, was renamed to %q; \"ip link set %s name %s\", then run this again", name, other, other, name)
}

func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// remarks are what plan says of an interface besides its steps.
func (j job) remarks() []string {
	var out []string
	for _, w := range j.record.Warnings {
		out = append(out, "warning: "+w)
	}
	for _, gateway := range j.unasked {
		out = append(out, fmt.Sprintf("the gateway %s is to be asked for its MAC first", gateway))
	}
	switch {
	case len(j.moved) > 0:
		out = append(out, "wired already; what was changed of the pod's network is to be taken over: "+strings.Join(j.moved, "; "))
	case j.done && len(j.drift) > 0:
		out = append(out, "wired already, but not as planned, which is to be repaired: "+strings.Join(j.drift, "; "))
	case j.done && !j.changed:
		out = append(out, "wired already; nothing to do")
	case j.resumed:
		out = append(out, "an earlier setup was cut off; it is to be finished")
	}
	if j.changed {
		out = append(out, "the guest is to be told other things than before")
	}
	return out
}
