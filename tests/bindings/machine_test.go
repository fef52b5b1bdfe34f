package bindings

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
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

// machine has a guest of libvirt's take the pod's place, and leave it again.
func (w *world) machine(t testing.TB) error {
	t.Helper()
	m, err := w.boot(t)
	if err != nil {
		return err
	}
	defer func() { _ = m.launcher.Process.Kill() }() // of one that failed
	if err := w.machineTalks(m); err != nil {
		return fmt.Errorf("%w\n%s", err, m.log.String())
	}
	return errors.Join(w.shutDown(m), w.unchanged(w.before))
}

// boot runs podwire-launcher in the VM's pod, and waits until the guest is ready.
func (w *world) boot(t testing.TB) (*machine, error) {
	t.Helper()
	xml, console, err := guest.InPod(w.ctx, w.dir, w.vm, func() { t.Log("trying KVM") }, "podwire.ip6=wait", "podwire.listen=80")
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
	m.launcher = exec.Command(program, append([]string{"--binding", w.binding.name, "--start-libvirtd", domain}, w.binding.flags...)...)
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

// shutDown ends the guest as the kubelet does.
func (w *world) shutDown(m *machine) error {
	if err := m.launcher.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	var err error
	select {
	case err = <-m.ended:
	case <-w.ctx.Done():
		err = errors.New("it did not end")
	}
	if err != nil {
		err = fmt.Errorf("podwire-launcher: %w\n%s", err, m.log.String())
	}
	return err
}

// machineTalks: the guest was told its addresses, reaches what a pod does, and is
// reached.
func (w *world) machineTalks(m *machine) error {
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
