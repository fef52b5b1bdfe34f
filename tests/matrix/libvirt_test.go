package matrix

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
)

// leased6 is what udhcpc6 runs in the guest: it sets the address alone, the rest is the
// kernel's, by router advertisements.
const leased6 = `#!/bin/sh
[ "$1" != bound ] || ip -6 address add "$ipv6/128" dev "$interface"
`

// configure6 has the guest get its IPv6 addresses, once the kernel has its link-local
// one. It asks anew: what it sent as the link came up may have been before that.
const configure6 = `until ip -6 -o address show dev eth0 scope link | grep -v tentative | grep -q inet6; do usleep 50000; done; ` +
	`/bin/udhcpc6 -i eth0 -n -q -t 5 -T 1 -s /bin/leased6 2>&1 && ` +
	`until ip -6 route get %[1]s >/dev/null && ! ip -6 -o address show dev eth0 | grep -q tentative; do usleep 50000; done`

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
	xml, console, err := w.domain(t)
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

// domain is the guest, and its console.
func (w *world) domain(t *testing.T) (xml string, console *guest.Console, err error) {
	t.Helper()
	image, err := image()
	if err != nil {
		return "", nil, err
	}
	accel, err := guest.Accel(w.ctx, w.dir, image, func() { t.Log("trying KVM") })
	if err != nil {
		return "", nil, err
	}
	if err := w.vm.PrepareLibvirt(); err != nil {
		return "", nil, err
	}
	const socket = "/run/test/console"
	listener, err := w.vm.Listen(socket)
	if err != nil {
		return "", nil, err
	}
	d := guest.Domain{Name: "vm-0", Image: image, Accel: accel, Console: socket}
	if w.family == ipv6 {
		d.Ask = []string{"podwire.dhcp=off"} // which is DHCPv4
	}
	xml, err = d.XML()
	return xml, guest.Listen(listener), err
}

// image is the tests' guest, and busybox's DHCPv6 client: the kernel takes several
// archives one after the other.
var image = sync.OnceValues(func() (guest.Image, error) {
	dir, err := checkout.Find()
	if err != nil {
		return guest.Image{}, err
	}
	image, err := guest.Build(dir)
	if err != nil {
		return image, err
	}
	whole, err := os.ReadFile(image.Initrd)
	if err != nil {
		return image, err
	}
	path, err := dir.Unpacked("bin/udhcpc6")
	if err != nil {
		return image, err
	}
	client, err := os.ReadFile(path)
	if err != nil {
		return image, err
	}
	more := bytes.NewBuffer(whole)
	archive(more, "bin/udhcpc6", client)
	archive(more, "bin/leased6", []byte(leased6))
	archive(more, "TRAILER!!!", nil)
	// Not below /tmp, which a pod has to itself.
	image.Initrd = dir.Build("guest", "dual-stack.img")
	tmp := image.Initrd + ".new"
	if err := os.WriteFile(tmp, more.Bytes(), 0o644); err != nil {
		return image, err
	}
	return image, os.Rename(tmp, image.Initrd)
})

// archive adds a program to an archive of the kind that the kernel unpacks as its first
// root file system (Documentation/driver-api/early-userspace/buffer-format.rst).
func archive(to *bytes.Buffer, name string, content []byte) {
	fmt.Fprintf(to, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		1, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	for _, part := range [][]byte{append([]byte(name), 0), content} {
		to.Write(part)
		to.Write(make([]byte, -to.Len()&3))
	}
}

// machineReaches is reaches, for a guest that is talked to by its console. That it is
// reached is tried by echo requests.
func (w *world) machineReaches(m *machine) error {
	for _, own := range w.vm.Addrs {
		if own.Addr().Is4() {
			if _, err := m.Bound(w.ctx); err != nil {
				return err
			}
		} else if out, status, err := m.Run(w.ctx, fmt.Sprintf(configure6, far6)); err != nil || status != 0 {
			return fmt.Errorf("udhcpc6: status %d, %w\n%s", status, err, out)
		}
	}
	var errs []error
	for _, to := range w.targets() {
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
	seen, err := netip.ParseAddr(strings.TrimSpace(out))
	switch {
	case err != nil:
		return fmt.Errorf("reaching %s at %s: nc says %q", to.name, to.at, out)
	case !w.own(seen) && addr.Zone() == "":
		return fmt.Errorf("%s at %s was called by %s", to.name, to.at, seen)
	}
	return nil
}
