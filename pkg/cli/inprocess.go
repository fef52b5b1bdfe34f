package cli

import (
	"context"
	"fmt"

	"github.com/podwire/podwire/pkg/plan"
)

// InProcess wires the pod and serves its guest in this process, as the launcher
// does.
type InProcess struct {
	agent *Agent
	stop  context.CancelFunc // of the server; nil while nothing is served here
	done  chan error         // what Serve returned
}

// NewInProcess returns a pod's network that is not wired yet.
func NewInProcess(a *Agent) *InProcess { return &InProcess{agent: a} }

// Setup wires the pod's interfaces and serves them; it returns when the server
// answers. When it cannot, what it wired is taken back.
func (p *InProcess) Setup(ctx context.Context) ([]plan.Interface, error) {
	wired, err := p.agent.Setup(ctx)
	if err != nil {
		return nil, err
	}
	interfaces := make([]plan.Interface, len(wired))
	served := true
	for i, w := range wired {
		interfaces[i] = w.Interface
		_, up := p.agent.serving(ctx, w.Interface.PodInterface)
		served = served && up
	}
	if served {
		return interfaces, nil // by a sidecar, or by an earlier call
	}
	if err := p.serve(ctx); err != nil {
		return nil, p.agent.takeBack(ctx, wired, err)
	}
	return interfaces, nil
}

// serve starts the server. It ends with Teardown, not with the context of Setup:
// the guest is served for as long as it runs.
func (p *InProcess) serve(ctx context.Context) error {
	ready, done := make(chan struct{}), make(chan error, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { done <- p.agent.Serve(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
		p.stop, p.done = stop, done
		return nil
	case err := <-done:
		stop()
		return fmt.Errorf("starting the server: %w", err)
	}
}

// Teardown stops serving and puts the pod's network back.
func (p *InProcess) Teardown(ctx context.Context) error {
	err := p.agent.Teardown(ctx)
	if p.stop == nil {
		return err
	}
	p.stop() // Teardown has ended it already, unless it failed early
	if serr := <-p.done; serr != nil {
		p.agent.log.Warn("the server ended with an error", "err", serr)
	}
	p.stop = nil
	return err
}
