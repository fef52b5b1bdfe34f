package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/podwire/podwire/pkg/domxml"
	"github.com/podwire/podwire/pkg/record"
)

// Prewired is the network of a pod that others wire and serve: an init container
// and a sidecar, or the CNI plugin. Nothing of it is this process's to change,
// so it needs no capability; it reads their state.
type Prewired struct{ agent *Agent }

// NewPrewired returns a pod's network that others wire.
func NewPrewired(a *Agent) *Prewired { return &Prewired{agent: a.taking(record.ErrTheirs)} }

// wiredPause is how often the state is looked for: containers of a pod may be
// started in any order, unless its spec says otherwise.
const wiredPause = 200 * time.Millisecond

// Setup waits until the pod is wired, and returns the domain's network cards.
func (p *Prewired) Setup(ctx context.Context) ([]domxml.Device, error) {
	timeout := p.agent.config.Timeout
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	records, err := p.agent.wired(p.agent.config.Interfaces)
	for said := false; errors.Is(err, errNotWired); records, err = p.agent.wired(p.agent.config.Interfaces) {
		if !said {
			p.agent.log.Info("waiting for the pod to be wired", "path", string(p.agent.dir))
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the pod to be wired: %w within %s in %q; is the state directory of \"podwire setup\" or of the CNI plugin mounted there?",
				errNotWired, timeout, p.agent.dir)
		case <-time.After(wiredPause):
		}
	}
	return p.agent.devices(records), readable(err)
}

// readable adds what to do where the state is another user's.
func readable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; let the pod's fsGroup be this user's group, or run this as the user of \"podwire setup\"", err)
	}
	return err
}

// Teardown does nothing: the network is that of others.
func (p *Prewired) Teardown(context.Context) error { return nil }

// Abandoned is false: who wired the pod looks after it.
func (p *Prewired) Abandoned(context.Context) bool { return false }
