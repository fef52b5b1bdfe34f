package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/podwire/podwire/pkg/kernel"
)

// Prestart wires the pod's interfaces and leaves a detached server behind. It
// returns when the server answers; when it does not, what this run wired is
// taken back.
func (a *Agent) Prestart(ctx context.Context) ([]Wired, error) {
	if err := a.kernel.Require(kernel.NeedNetRaw); err != nil {
		return nil, err
	}
	wired, err := a.Setup(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.detach(ctx, wired); err != nil {
		return nil, a.takeBackAlone(ctx, wired, err)
	}
	return wired, nil
}

// unserved are the interfaces whose guest nobody answers yet. One without
// addresses is plain layer 2 and has nobody to be answered.
func (a *Agent) unserved(ctx context.Context, wired []Wired) []string {
	var names []string
	for _, w := range wired {
		if _, up := a.serving(ctx, w.Record); !up {
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
	argv := append([]string{self, "serve"}, a.serveFlags(names)...)
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	log := a.dir.Log()
	pid, err := kernel.Detach(ctx, argv, os.Environ(), log)
	if left := a.unserved(ctx, wired); len(left) == 0 {
		// By this server, or by that of another prestart, which was faster.
		a.log.Info("the server answers", "pid", pid, "path", log)
		return nil
	}
	if err != nil {
		return fmt.Errorf("starting the server (its log: %s): %w", log, err)
	}
	return fmt.Errorf("the server (process %d) does not answer; its log: %s", pid, log)
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
	} {
		if flag.value != "" {
			args = append(args, "--"+flag.name+"="+flag.value)
		}
	}
	return args
}
