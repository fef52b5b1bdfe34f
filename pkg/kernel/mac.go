//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func (k *Kernel) setMAC(ctx context.Context, name string, mac netstate.MAC) error {
	l, err := k.link(ctx, name)
	if err == nil && l.MAC != mac {
		err = k.changeMAC(ctx, l, mac)
	}
	if err != nil {
		return fmt.Errorf("setting MAC %s on %q: %w", mac, name, err)
	}
	return nil
}

// changeMAC changes it under a running link, or, where the driver answers EBUSY,
// under one that is down for that moment. Going down drops the link's routes:
// plans have the addresses away at this point.
func (k *Kernel) changeMAC(ctx context.Context, l linkInfo, mac netstate.MAC) error {
	change := func() error {
		return k.setLink(ctx, l.Index, func(m *message) { m.attr(unix.IFLA_ADDRESS, mac[:]) })
	}
	err := change()
	if !errors.Is(err, unix.EBUSY) || !l.Up {
		return err
	}
	if err := k.setUp(ctx, l.Index, false); err != nil {
		return err
	}
	err = change()
	// It comes up again whatever became of the change, and of ctx.
	return errors.Join(err, k.setUp(context.WithoutCancel(ctx), l.Index, true))
}

// unsetMAC gives the link its own MAC again. A link that is gone needs none.
func (k *Kernel) unsetMAC(ctx context.Context, s plan.SetMAC) error {
	err := k.setMAC(ctx, s.Link, s.Was)
	if errors.Is(err, errLinkGone) {
		return nil
	}
	return err
}
