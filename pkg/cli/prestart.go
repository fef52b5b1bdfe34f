package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/podwire/podwire/pkg/kernel"
)

// lockedEnv tells a server that the process that started it holds the lock for
// both.
const lockedEnv = "PODWIRE_LOCKED"

// Prestart wires the pod's interfaces and leaves a detached server behind. It
// returns when the server answers; when it does not, what this run wired is
// taken back. The lock is held until then, so that no other podwire relies on
// what may yet be taken back.
func (a *Agent) Prestart(ctx context.Context) ([]Wired, error) {
	unlock, err := a.lockForSetup(ctx, kernel.NeedNetRaw)
	if err != nil {
		return nil, err
	}
	defer unlock()
	wired, err := a.setup(ctx)
	if err != nil {
		return nil, a.honest(ctx, err)
	}
	if err := a.detach(ctx, wired); err != nil {
		return nil, a.takeBack(ctx, wired, err)
	}
	return wired, nil
}

// unserved are the interfaces whose guest nobody answers yet.
func (a *Agent) unserved(ctx context.Context, wired []Wired) []string {
	var names []string
	for _, w := range wired {
		if _, up := a.serving(ctx, w.Record); !up && w.Lease.Served() {
			names = append(names, w.Interface.PodInterface)
		}
	}
	return names
}

// detach starts "podwire serve" for the interfaces that nobody serves yet.
func (a *Agent) detach(ctx context.Context, wired []Wired) error {
	names := a.unserved(ctx, wired)
	if len(names) == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	log := a.dir.Log()
	argv := append([]string{self, "serve"}, a.serveFlags(names)...)
	env := append(os.Environ(), lockedEnv+"=1")
	pid, err := kernel.Detach(ctx, argv, env, log)
	if errors.Is(err, kernel.ErrNoLog) { // a guest that is served is worth more
		a.log.Warn("what the server says is not kept", "err", a.dir.Advise(err))
		log = "none"
		pid, err = kernel.Detach(ctx, argv, env, "")
	}
	if err != nil {
		return fmt.Errorf("starting the server (its log: %s): %w", log, a.dir.Advise(err))
	}
	if left := a.unserved(ctx, wired); len(left) > 0 {
		return fmt.Errorf("the server of %q (process %d) does not answer; its log: %s", left, pid, log)
	}
	a.log.Info("the server answers", "pid", pid, "path", log)
	return nil
}

// serveFlags are the settings that the detached server shares with this process.
func (a *Agent) serveFlags(names []string) []string {
	c := a.config
	var args []string
	for _, name := range names {
		args = append(args, "--interface="+name)
	}
	for _, flag := range []struct{ name, value string }{
		{"state-dir", c.StateDir},
		{"netns", c.NetNS},
		{"log-format", c.LogFormat},
		{"log-level", c.LogLevel},
		{"timeout", c.Timeout.String()},
		{"ready-file", c.ReadyFile},
		{"confine", c.Confine},
	} {
		if flag.value != "" {
			args = append(args, "--"+flag.name+"="+flag.value)
		}
	}
	return args
}
