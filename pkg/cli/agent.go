package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
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
	text, err := os.ReadFile(c.ResolvConf)
	if err != nil {
		warn("the guest gets no nameserver from resolv.conf: %v", err)
	}
	conf, parsed := resolvconf.Parse(text)
	for _, w := range parsed {
		warn("%s: %s", c.ResolvConf, w)
	}
	return discover.Host{Hostname: name, ResolvConf: conf}, warnings
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

// serving reports whether the server of an interface of this namespace answers.
func (a *Agent) serving(ctx context.Context, r record.Record) (serve.Status, bool) {
	st, err := serve.Ask(ctx, a.dir.Socket(r.Interface.PodInterface), serve.OpStatus)
	return st, err == nil && st.NetNS.Same(r.Snapshot.NetNS)
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
