package guest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// domainAt is where a guest's domain is in its pod.
const domainAt = "/run/test/domain.xml"

// Machine is a guest that podwire-launcher runs in a pod.
type Machine struct {
	*Console
	launcher *exec.Cmd
	log      pod.Log
	ended    chan error
}

// Boot runs podwire-launcher with a guest in a pod, and waits until that is ready. Of
// the guest's kernel it asks what ask says; args are the launcher's.
func Boot(ctx context.Context, dir checkout.Dir, vm *pod.Pod, trying func(), ask []string, args ...string) (*Machine, error) {
	xml, console, err := InPod(ctx, dir, vm, trying, ask...)
	if err != nil {
		return nil, err
	}
	program, err := dir.Program("podwire-launcher")
	if err != nil {
		return nil, err
	}
	if err := vm.WriteFile(domainAt, []byte(xml), 0o644); err != nil {
		return nil, err
	}
	m := &Machine{Console: console, ended: make(chan error, 1)}
	m.launcher = exec.Command(program, append([]string{"--start-libvirtd", domainAt}, args...)...)
	m.launcher.Stdout, m.launcher.Stderr = &m.log, &m.log
	if err := vm.Start(m.launcher); err != nil {
		return nil, err
	}
	go func() { m.ended <- m.launcher.Wait() }()
	if _, err := m.WaitFor(ctx, Prefix+"ready"); err != nil {
		m.Kill()
		return nil, m.Explain(err)
	}
	return m, nil
}

// ShutDown ends the guest as the kubelet does, and waits for it.
func (m *Machine) ShutDown(ctx context.Context) error {
	if err := m.launcher.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	var err error
	select {
	case err = <-m.ended:
	case <-ctx.Done():
		err = errors.New("it did not end")
	}
	if err != nil {
		return m.Explain(fmt.Errorf("podwire-launcher: %w", err))
	}
	return nil
}

// Kill ends a launcher whose guest failed.
func (m *Machine) Kill() { _ = m.launcher.Process.Kill() }

// Explain adds what the launcher has logged to an error.
func (m *Machine) Explain(err error) error { return fmt.Errorf("%w\n%s", err, m.log.String()) }
