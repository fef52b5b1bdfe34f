package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
)

// NIC is what a guest has of podwire's: the tap and the MAC that it was told of.
type NIC struct{ Tap, MAC string }

// QEMU is a guest that runs without libvirt, as in a container with nothing but QEMU.
type QEMU struct {
	*Console
	cmd     *exec.Cmd
	log     pod.Log
	monitor net.Conn
	space   *pod.Space
	control string // path of QEMU's monitor
	ended   chan struct{}
}

var started atomic.Int64

// Start runs QEMU in a pod, on a tap that is there. Nothing is waited for but that it
// starts; of the guest's kernel it asks what ask says. It runs until it is killed.
func Start(ctx context.Context, dir checkout.Dir, space *pod.Space, nic NIC, trying func(), ask ...string) (*QEMU, error) {
	image, err := Build(dir)
	if err != nil {
		return nil, err
	}
	accel, err := Accel(ctx, dir, image, trying)
	if err != nil {
		return nil, err
	}
	// One of several in the same pod, one after the other.
	console := fmt.Sprintf("/run/test/qemu-%d", started.Add(1))
	listener, err := space.Listen(console)
	if err != nil {
		return nil, err
	}
	q := &QEMU{Console: Listen(listener), space: space, control: console + ".monitor", ended: make(chan struct{})}
	m := machines[runtime.GOARCH]
	// Emulated on a machine that has much to do, a PC's timer seems not to tick when Linux
	// tries it, and it gives up.
	args := append(q.devices(m, console, nic), "-accel", accel, "-kernel", image.Kernel, "-initrd", image.Initrd,
		"-append", strings.Join(append([]string{"console=" + m.console, "quiet", "panic=-1", "no_timer_check"}, ask...), " "))
	if cpu := map[string]string{"kvm": m.cpuKVM, "tcg": m.cpuTCG}[accel]; cpu != "" {
		args = append(args, "-cpu", cpu)
	}
	q.cmd = exec.Command(m.qemu, args...)
	q.cmd.Stdout, q.cmd.Stderr = &q.log, &q.log
	if err := space.Start(q.cmd); err != nil {
		listener.Close()
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	go func() {
		_ = q.cmd.Wait() // killed, or its console says why
		listener.Close()
		close(q.ended)
	}()
	return q, nil
}

// devices are those of a guest with one card. Its ROM would be for booting by network.
func (q *QEMU) devices(m machine, console string, nic NIC) []string {
	return []string{
		"-machine", m.kind, "-m", "192", "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "socket,id=console,path=" + console, "-serial", "chardev:console",
		"-monitor", "unix:" + q.control + ",server=on,wait=off",
		"-netdev", "tap,id=pod,vhost=off,script=no,downscript=no,ifname=" + nic.Tap,
		"-device", "virtio-net-pci,netdev=pod,romfile=,mac=" + nic.MAC,
	}
}

// Kill ends QEMU as a crash does, and waits until it has let go of its tap.
func (q *QEMU) Kill() {
	_ = q.cmd.Process.Kill()
	<-q.ended
	if q.monitor != nil {
		q.monitor.Close()
	}
}

// Running reports whether QEMU has not ended.
func (q *QEMU) Running() bool {
	select {
	case <-q.ended:
		return false
	default:
		return true
	}
}

// Reset presses the machine's reset button.
func (q *QEMU) Reset(ctx context.Context) (err error) {
	if q.monitor == nil {
		if q.monitor, err = q.space.Dial(ctx, "unix", q.control); err != nil {
			return fmt.Errorf("reaching QEMU's monitor: %w", err)
		}
		go func() { _, _ = io.Copy(io.Discard, q.monitor) }() // it echoes what it reads
	}
	_, err = q.monitor.Write([]byte("system_reset\n"))
	return err
}

// Explain adds what QEMU has said to an error.
func (q *QEMU) Explain(err error) error {
	return errors.Join(err, errors.New(strings.TrimSpace(q.log.String())))
}
