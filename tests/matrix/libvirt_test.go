package matrix

import (
	"errors"
	"fmt"
	"testing"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// boots has a real guest take the pod's place, and leave it again.
func (w *world) boots(t *testing.T) error {
	t.Helper()
	before, err := w.vm.Settled(w.ctx)
	if err != nil {
		return err
	}
	m, err := w.boot(t)
	if err != nil {
		return fmt.Errorf("the guest of libvirt's: %w", err)
	}
	defer m.Kill() // of a cell that failed
	if err := w.machineReaches(m); err != nil {
		return fmt.Errorf("the guest of libvirt's: %w", m.Explain(err))
	}
	if err := m.ShutDown(w.ctx); err != nil {
		return err
	}
	return w.unchanged(before)
}

// boot runs podwire-launcher in the VM's pod, and waits until the guest is ready.
func (w *world) boot(t *testing.T) (*guest.Machine, error) {
	t.Helper()
	var ask []string
	if w.family != ipv4 {
		ask = append(ask, "podwire.ip6=wait")
	}
	return guest.Boot(w.ctx, w.dir, w.vm, func() { t.Log("trying KVM") }, ask)
}

// machineReaches is reaches, for a guest that is talked to by its console. That it is
// reached is tried by echo requests.
func (w *world) machineReaches(m *guest.Machine) error {
	for _, own := range w.vm.Addrs {
		bound := m.Bound
		if own.Addr().Is6() {
			bound = m.Bound6
		}
		if _, err := bound(w.ctx); err != nil {
			return err
		}
	}
	var errs []error
	for _, to := range w.targets(w.binding.Behind()) {
		errs = append(errs, w.machineCalls(m, to))
	}
	for _, peer := range []*pod.Pod{w.other, w.far} {
		for _, own := range w.vm.Addrs {
			errs = append(errs, peer.Ping(w.ctx, own.Addr()))
		}
	}
	return errors.Join(errs...)
}

func (w *world) machineCalls(m *guest.Machine, to target) error {
	addr := to.at.Addr()
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone("eth0")
	}
	out, _, err := m.Run(w.ctx, fmt.Sprintf("head -c %d /dev/zero | nc -w 10 %s %d | head -n 1", bulk, addr, to.at.Port()))
	if err != nil {
		return err
	}
	got, err := parseAnswer(out)
	switch {
	case err != nil:
		return fmt.Errorf("reaching %s at %s: nc says %q", to.name, to.at, out)
	case !w.own(got.seen) && addr.Zone() == "":
		return fmt.Errorf("%s at %s was called by %s", to.name, to.at, got.seen)
	}
	return nil
}
