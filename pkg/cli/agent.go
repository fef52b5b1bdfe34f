package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/resolvconf"
	"github.com/podwire/podwire/pkg/serve"
)

// Agent does what the commands say in one pod.
type Agent struct {
	config config.Config
	log    *slog.Logger
	kernel *kernel.Kernel
	dir    record.Dir
	// outside says that this process is not in the pod: host name and resolv.conf
	// are the node's, and are no business of the pod's.
	outside bool
	// alone says that this process does nothing but serve.
	alone bool
	files lastRead
	// takes are the kinds of damage to a state that what is done here does not mind, and
	// warned where that was said.
	takes  []error
	warned map[string]bool
}

// taking is an agent that takes what is recorded with a warning, whatever of these is
// wrong with it.
func (a *Agent) taking(kinds ...error) *Agent {
	return &Agent{
		config: a.config, log: a.log, kernel: a.kernel, dir: a.dir, outside: a.outside, alone: a.alone,
		takes: slices.Concat(a.takes, kinds), warned: map[string]bool{},
	}
}

// NewAgent returns an agent for the network namespace that the settings name.
func NewAgent(c config.Config, log *slog.Logger) (*Agent, error) {
	k, err := persisted(context.Background(), func() (*kernel.Kernel, error) { return kernel.Open(c.NetNS) })
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

// lock keeps other podwires from this state directory until unlock.
func (a *Agent) lock(ctx context.Context) (unlock func(), err error) {
	if err := a.dir.Create(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	patience := time.AfterFunc(time.Second, func() {
		a.log.Info("waiting for another podwire that works on the same state", "path", string(a.dir))
	})
	defer patience.Stop()
	unlock, err = kernel.Lock(ctx, string(a.dir))
	if err != nil {
		return nil, fmt.Errorf("waiting for another podwire in %q: %w", a.dir, err)
	}
	return unlock, nil
}

// host is what the pod knows of itself. Nothing in it is needed for a VM to
// start, so what cannot be read is a warning.
func (a *Agent) host(c config.Config) (discover.Host, []string) {
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if a.config.NetNS != "" && !(c.Gave("hostname") && c.Gave("resolv-conf")) {
		warn("--netns: host name and resolv.conf are those of this process, not of the pod; give --hostname and --resolv-conf")
	}
	name, err := os.Hostname()
	if err != nil {
		warn("the host name cannot be read: %v", err)
	}
	text, err := a.reads(c.ResolvConf, maxResolvConf)
	if err != nil {
		warn("the guest gets no nameserver from %q: %v", c.ResolvConf, err)
	}
	conf, parsed := resolvconf.Parse(text)
	for _, w := range parsed {
		warn("%s: %s", c.ResolvConf, w)
	}
	networks, err := a.readNetworks(c.NetworkStatus)
	if err != nil {
		warn("the pod's networks are not known by their names: %s: %v", c.NetworkStatus, err)
	}
	return discover.Host{Hostname: name, ResolvConf: conf, Networks: networks}, warnings
}

// networksPoll is how often an empty network-status file is looked at.
const networksPoll = 100 * time.Millisecond

// networks are those of the pod's network-status annotation; none where nobody
// said where it is. The kubelet fills the file some time after the pod began, so
// an empty one is waited for.
func (a *Agent) networks(ctx context.Context) ([]discover.Network, error) {
	path := a.config.NetworkStatus
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	patience := time.AfterFunc(time.Second, func() { a.log.Info("waiting for the pod's network-status annotation", "path", path) })
	defer patience.Stop()
	for {
		networks, err := a.annotated()
		if !errors.Is(err, discover.ErrNoNetworks) {
			return networks, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(networksPoll):
		}
	}
}

// annotated is networks without waiting for them.
func (a *Agent) annotated() ([]discover.Network, error) {
	path := a.config.NetworkStatus
	networks, err := a.readNetworks(path)
	if err != nil && !errors.Is(err, discover.ErrNoNetworks) {
		err = &config.Error{Source: a.config.Source("network-status"), Value: path, Want: "a file with the pod's network-status annotation: " + err.Error()}
	}
	return networks, err
}

// reads reads a file of the pod, or has it as it was last.
func (a *Agent) reads(path string, most int64) ([]byte, error) {
	return a.files.read(path, most, func(err error) {
		a.log.Warn("a file of the pod cannot be read: the guest is told what was in it before", "path", path, "err", err)
	})
}

func (a *Agent) readNetworks(path string) ([]discover.Network, error) {
	if path == "" {
		return nil, nil
	}
	text, err := a.reads(path, maxNetworks)
	if err != nil {
		return nil, err
	}
	return discover.ParseNetworks(text)
}

// recorded returns the records of this namespace, in the order of the VM's
// interfaces. A damaged one is an error, along with the others: to pass it over
// would be to wire a pod twice.
func (a *Agent) recorded(id netstate.Identity) ([]record.Record, error) {
	names, err := persisted(context.Background(), a.dir.List)
	if err != nil {
		return nil, err
	}
	var records []record.Record
	var errs []error
	for _, name := range names {
		r, err := a.load(name)
		errs = append(errs, err)
		if err == nil && r.Snapshot.NetNS.Same(id) {
			records = append(records, r)
		}
	}
	slices.SortStableFunc(records, func(a, b record.Record) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(madeAs(a), madeAs(b)))
	})
	return records, errors.Join(errs...)
}

// madeAs is the number of a record's pod interface.
func madeAs(r record.Record) int {
	link, _ := r.Snapshot.LinkByName(r.Interface.PodInterface)
	return link.Index
}

// records returns those of the named interfaces, or where none is named of all
// that have one.
func (a *Agent) records(names []string, id netstate.Identity) ([]record.Record, error) {
	records, err := a.asRecorded(names, id)
	for i := range records {
		if err == nil {
			records[i], err = a.complete(records[i])
		}
	}
	return records, err
}

func (a *Agent) asRecorded(names []string, id netstate.Identity) ([]record.Record, error) {
	if len(names) == 0 {
		return a.recorded(id)
	}
	var records []record.Record
	for _, name := range names {
		r, err := a.load(name)
		switch {
		case notExist(err):
			return nil, fmt.Errorf("%q: %w", name, errNotWired)
		case err != nil:
			return nil, err
		case !r.Snapshot.NetNS.Same(id):
			return nil, fmt.Errorf("%q: the state is of another network namespace: %w", name, errNotWired)
		}
		records = append(records, r)
	}
	return records, nil
}

// serving reports whether the server of an interface of this namespace answers.
func (a *Agent) serving(ctx context.Context, r record.Record) (serve.Status, bool) {
	st, err := serve.Ask(ctx, a.dir.Socket(r.Interface.PodInterface), serve.OpStatus)
	return st, err == nil && st.NetNS.Same(r.Snapshot.NetNS)
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
