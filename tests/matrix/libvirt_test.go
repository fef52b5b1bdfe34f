package matrix

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// machine is a guest that podwire-launcher runs.
type machine struct {
	*guest.Console
	launcher *exec.Cmd
	log      pod.Log
	ended    chan error
}

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
	defer func() { _ = m.launcher.Process.Kill() }() // of a cell that failed
	if err := w.machineReaches(m); err != nil {
		return fmt.Errorf("the guest of libvirt's: %w\n%s", err, m.log.String())
	}
	if err := m.launcher.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err = <-m.ended:
	case <-w.ctx.Done():
		err = errors.New("it did not end")
	}
	if err != nil {
		return fmt.Errorf("podwire-launcher: %w\n%s", err, m.log.String())
	}
	return w.unchanged(before)
}

// boot runs podwire-launcher in the VM's pod, and waits until the guest is ready.
func (w *world) boot(t *testing.T) (*machine, error) {
	t.Helper()
	var ask []string
	if w.family != ipv4 {
		ask = append(ask, "podwire.ip6=wait")
	}
	xml, console, err := guest.InPod(w.ctx, w.dir, w.vm, func() { t.Log("trying KVM") }, ask...)
	if err != nil {
		return nil, err
	}
	program, err := w.dir.Program("podwire-launcher")
	if err != nil {
		return nil, err
	}
	const domain = "/run/test/domain.xml"
	if err := w.vm.WriteFile(domain, []byte(xml), 0o644); err != nil {
		return nil, err
	}
	m := &machine{Console: console, ended: make(chan error, 1)}
	m.launcher = exec.Command(program, "--start-libvirtd", domain)
	m.launcher.Stdout, m.launcher.Stderr = &m.log, &m.log
	if err := w.vm.Start(m.launcher); err != nil {
		return nil, err
	}
	go func() { m.ended <- m.launcher.Wait() }()
	if _, err := m.WaitFor(w.ctx, guest.Prefix+"ready"); err != nil {
		_ = m.launcher.Process.Kill()
		return nil, fmt.Errorf("%w\n%s", err, m.log.String())
	}
	return m, nil
}

// machineReaches is reaches, for a guest that is talked to by its console. That it is
// reached is tried by echo requests.
func (w *world) machineReaches(m *machine) error {
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

func (w *world) machineCalls(m *machine, to target) error {
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
