//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// ErrConflict says that a link of the name that a step is to create exists and
// is something else. Nothing was touched.
var ErrConflict = errors.New("in use by something else")

// Kernel is one network namespace. Its methods may be called from several
// goroutines; steps are taken one at a time.
type Kernel struct {
	netns *namespace
	route *conn // NETLINK_ROUTE, opened inside the namespace

	nftOnly bool

	mu        sync.Mutex
	netfilter *conn // NETLINK_NETFILTER, opened when first needed
}

// Option changes how Open makes a Kernel.
type Option func(*Kernel)

// WithoutTC makes AddFilter use nftables also where the kernel has clsact and
// cls_bpf.
func WithoutTC() Option { return func(k *Kernel) { k.nftOnly = true } }

// Open returns a Kernel for the network namespace at path, or for the caller's
// own where path is empty. To enter another namespace takes CAP_SYS_ADMIN; the
// caller's own takes nothing, also when it is named by a path.
func Open(netnsPath string, opts ...Option) (*Kernel, error) {
	ns, err := openNamespace(netnsPath)
	if err != nil {
		return nil, err
	}
	_ = clockOffset() // now: a server that has confined itself may not read it any more
	k := &Kernel{netns: ns}
	for _, opt := range opts {
		opt(k)
	}
	err = ns.do(func() (err error) {
		k.route, err = dial(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, ns.close())
	}
	return k, nil
}

// Close closes what the Kernel holds open. It changes nothing in the namespace.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.route.close()
	if k.netfilter != nil {
		k.netfilter.close()
		k.netfilter = nil
	}
	return k.netns.close()
}

// Do takes a step. Where it is taken already, nothing is changed.
func (k *Kernel) Do(ctx context.Context, s plan.Step) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch s := s.(type) {
	case plan.CreateTap:
		return explain(k.createTap(ctx, s))
	case plan.CreateBridge:
		return explain(k.createBridge(ctx, s))
	case plan.AddFilter:
		return explain(k.addFilter(ctx, s))
	case plan.TakeAddresses:
		return explain(k.takeAddresses(ctx, s))
	case plan.SetMAC:
		return explain(k.setMAC(ctx, s.Link, s.MAC))
	case plan.AttachPort:
		return explain(k.attachPort(ctx, s))
	case plan.Redirect:
		return explain(k.redirect(ctx, s))
	case plan.AddAddresses:
		return explain(k.addAddresses(ctx, s))
	case plan.SetOption:
		return explain(k.setOption(ctx, s))
	case plan.Translate:
		return explain(k.translate(ctx, s))
	default:
		return fmt.Errorf("doing step %q: %w", s.Kind(), errors.ErrUnsupported)
	}
}

// Undo takes a step back. Where it is not taken, nothing is changed.
func (k *Kernel) Undo(ctx context.Context, s plan.Step) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch s := s.(type) {
	case plan.CreateTap:
		return explain(k.deleteTap(ctx, s))
	case plan.CreateBridge:
		return explain(k.deleteBridge(ctx, s))
	case plan.AddFilter:
		return explain(k.deleteFilter(ctx, s))
	case plan.TakeAddresses:
		return explain(k.giveAddresses(ctx, s))
	case plan.SetMAC:
		return explain(k.unsetMAC(ctx, s))
	case plan.AttachPort:
		return explain(k.detachPort(ctx, s))
	case plan.Redirect:
		return explain(k.unredirect(ctx, s))
	case plan.AddAddresses:
		return explain(k.removeAddresses(ctx, s))
	case plan.SetOption:
		return explain(k.unsetOption(ctx, s))
	case plan.Translate:
		return explain(k.untranslate(ctx, s))
	default:
		return fmt.Errorf("undoing step %q: %w", s.Kind(), errors.ErrUnsupported)
	}
}
