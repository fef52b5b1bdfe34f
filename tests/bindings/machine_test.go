package bindings

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// machine has a guest of libvirt's take the pod's place, and leave it again.
func (w *world) machine(t testing.TB) error {
	t.Helper()
	m, err := w.boot(t)
	if err != nil {
		return err
	}
	defer m.Kill() // of one that failed
	if err := w.machineTalks(m); err != nil {
		return m.Explain(err)
	}
	return errors.Join(m.ShutDown(w.ctx), w.unchanged(w.before))
}

// boot runs podwire-launcher in the VM's pod, and waits until the guest is ready.
func (w *world) boot(t testing.TB) (*guest.Machine, error) {
	t.Helper()
	return guest.Boot(w.ctx, w.dir, w.vm, func() { t.Log("trying KVM") }, []string{"podwire.ip6=wait", "podwire.listen=80"},
		append([]string{"--binding", w.binding.name}, w.binding.flags...)...)
}

// machineTalks: the guest was told its addresses, reaches what a pod does, and is
// reached.
func (w *world) machineTalks(m *guest.Machine) error {
	lease, err := m.Bound(w.ctx)
	if err != nil {
		return err
	}
	lease6, err := m.Bound6(w.ctx)
	if err != nil {
		return err
	}
	own4, own6 := w.binding.guest(w)
	if lease["ip"] != own4.Addr().String() || lease["dns"] != dns4 || lease6["ip"] != own6.Addr().String() || lease6["dns"] != dns6 {
		return fmt.Errorf("the guest was told %q and %q", lease, lease6)
	}
	return both(func(like netip.Addr) error {
		var errs []error
		for _, to := range w.targets(like) {
			want := to.name + " " + w.own(like).String()
			out, _, err := m.Run(w.ctx, fmt.Sprintf("echo who | nc -w 5 %s %d", to.at.Addr(), to.at.Port()))
			if err != nil || strings.TrimSpace(out) != want {
				errs = append(errs, fmt.Errorf("%s says %q, and not %q, %w", to.what, out, want, err))
			}
		}
		for _, from := range []*pod.Space{w.node.Space, w.other.Space, w.far.Space} {
			conn, err := w.dial(from, netip.AddrPortFrom(w.own(like), 80), callTime)
			if err == nil {
				err = errors.Join(from.Ping(w.ctx, w.own(like)), conn.Close())
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}
