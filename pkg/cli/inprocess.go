package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/kernel"
)

// InProcess wires the pod and serves its guest in this process, as the launcher
// does.
type InProcess struct {
	agent *Agent
	own   bool               // the wiring is this process's to take back
	stop  context.CancelFunc // of the server; nil while nothing is served here
	done  chan error         // what Serve returned
}

// NewInProcess returns a pod's network that is not wired yet.
func NewInProcess(a *Agent) *InProcess { return &InProcess{agent: a} }

// Setup wires the pod's interfaces and serves them; it returns when the server
// answers. When it cannot, what it wired is taken back.
func (p *InProcess) Setup(ctx context.Context) ([]domxml.Device, error) {
	unlock, err := p.agent.lockForSetup(ctx, kernel.NeedNetRaw)
	if err != nil {
		return nil, err
	}
	defer unlock()
	wired, err := p.agent.setup(ctx)
	if err != nil {
		return nil, p.agent.honest(ctx, err)
	}
	var devices []domxml.Device
	for _, w := range wired {
		devices = append(devices, p.agent.device(w.Record))
		p.own = p.own || !w.Before
	}
	names := p.agent.unserved(ctx, wired)
	if len(names) == 0 {
		return devices, nil // by a sidecar, or by an earlier call
	}
	if err := p.serve(ctx, names); err != nil {
		p.own = false
		return nil, p.agent.takeBack(ctx, wired, err)
	}
	p.own = true
	return devices, nil
}

// serve starts the server. It ends with Teardown, not with the context of Setup:
// the guest is served for as long as it runs.
func (p *InProcess) serve(ctx context.Context, names []string) error {
	ready, done := make(chan struct{}), make(chan error, 1)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { done <- p.agent.serve(serving, names, func() { close(ready) }) }()
	select {
	case <-ready:
		p.stop, p.done = stop, done
		return nil
	case err := <-done:
		stop()
		return fmt.Errorf("starting the server: %w", err)
	case <-ctx.Done():
		stop()
		return fmt.Errorf("starting the server: %w", errors.Join(context.Cause(ctx), <-done))
	}
}

// Teardown stops serving and puts the pod's network back. A network that others
// wired and serve is theirs, and stays.
func (p *InProcess) Teardown(ctx context.Context) error {
	if !p.own {
		return nil
	}
	err := p.agent.Teardown(ctx)
	if p.stop != nil {
		p.stop() // Teardown has ended it already, unless it failed early
		if serveErr := <-p.done; serveErr != nil {
			p.agent.log.Warn("the server ended with an error", "err", serveErr)
		}
		p.stop = nil
	}
	return err
}

// Abandoned reports whether the pod is wired and nobody serves its guest: after a
// failure a person must look.
func (p *InProcess) Abandoned(ctx context.Context) bool {
	for _, r := range p.agent.stillWired() {
		if _, served := p.agent.serving(ctx, r); !served && r.Lease.Served() {
			return true
		}
	}
	return false
}
