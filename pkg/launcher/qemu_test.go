//go:build cgo && libvirt_dlopen

package launcher

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/pkg/kernel"
)

// The tests of this file run real machines in QEMU, under a libvirtd of their
// own: this binary runs itself again as the first process of new namespaces, as
// it would be in a container.
const role = "PODWIRE_LAUNCHER_TEST_ROLE"

// surroundings makes a container of the new namespaces: directories of libvirt's
// that are empty, its user, which it wants even to run machines as root, and a
// tap. $0 is this binary and $1 the test.
const surroundings = `set -e
mkdir -p /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
for dir in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do mount -t tmpfs none $dir; done
cp /etc/passwd /etc/group /run/
grep -q ^libvirt-qemu: /run/passwd || echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false' >>/run/passwd
grep -q ^kvm: /run/group || echo 'kvm:x:64056:' >>/run/group
grep -q ^libvirt-qemu: /run/group || echo 'libvirt-qemu:x:64055:' >>/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
printf '%s\n' 'stdio_handler = "file"' 'user = "root"' 'group = "root"' 'namespaces = []' 'cgroup_controllers = []' >/etc/libvirt/qemu.conf
ip tuntap add tap-eth0 mode tap vnet_hdr
exec "$0" -test.v -test.run="$1"`

// guestCode is a guest in one sector. It switches the power button's event on,
// polls for it, and switches the machine off (ACPI: PM1a_EVT at 0x600, PM1a_CNT at
// 0x604, where SeaBIOS puts them).
var guestCode = []byte{
	0xfa,             // cli
	0xba, 0x02, 0x06, // mov dx, 0x602
	0xb8, 0x00, 0x01, // mov ax, PWRBTN_EN
	0xef,             // out dx, ax
	0xba, 0x00, 0x06, // mov dx, 0x600
	0xed,             // in ax, dx
	0xf6, 0xc4, 0x01, // test ah, PWRBTN_STS
	0x74, 0xfa, // jz the in
	0xba, 0x04, 0x06, // mov dx, 0x604
	0xb8, 0x00, 0x20, // mov ax, SLP_EN, type 0: soft off
	0xef,       // out dx, ax
	0xf4,       // hlt
	0xeb, 0xfd, // jmp the hlt
}

const (
	disk    = "/run/boot.img"
	pidFile = "/run/libvirt/qemu/vm.pid"
)

func machineXML(withGuest bool) string {
	boot := ""
	if withGuest {
		boot = `<disk type='file'><driver name='qemu' type='raw'/><source file='` + disk + `'/><target dev='hda' bus='ide'/></disk>`
	}
	return `<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
  <devices>` + boot + `<memballoon model='none'/></devices></domain>`
}

// inContainer runs the calling test again in a container and reports whether the
// caller is in it.
func inContainer(t *testing.T) bool {
	t.Helper()
	if os.Getenv(role) != "" {
		sector := make([]byte, 512)
		copy(sector, guestCode)
		sector[510], sector[511] = 0x55, 0xaa
		if err := os.WriteFile(disk, sector, 0o600); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if why := missing(); why != "" {
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	t.Setenv(role, "container")
	log := &record{t: t}
	child, err := kernel.StartChild(t.Context(), []string{
		"unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", surroundings, os.Args[0], "^" + t.Name() + "$",
	}, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	return false
}

func missing() string {
	if os.Geteuid() != 0 {
		return "this needs root, to make namespaces with taps in them"
	}
	for _, file := range []string{"/usr/sbin/libvirtd", "/usr/bin/qemu-system-x86_64", "/dev/net/tun"} {
		if _, err := os.Stat(file); err != nil {
			return err.Error()
		}
	}
	return ""
}

// pid waits for a pid file and returns what is in it.
func pid(t *testing.T, file string) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(file)
		if n, parseErr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && parseErr == nil {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %v", file, err)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func qemuOptions(o *Options, xml string) {
	o.Connect, o.StartLibvirtd, o.DomainXML, o.GracePeriod = "qemu:///system", true, xml, 20*time.Second
}

// The guest is asked by its power button, also by a launcher whose libvirtd was
// killed under it.
func TestQEMUGuestShutsDown(t *testing.T) {
	if !inContainer(t) {
		return
	}
	r := launchReal(t, func(o *Options) { qemuOptions(o, machineXML(true)) })
	r.log.await("event=started")
	machine := pid(t, pidFile)
	if err := syscall.Kill(pid(t, "/run/libvirtd.pid"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.log.await("lost libvirt")
	r.log.await("starting it again")
	r.log.awaitN("connected to libvirt", 2)
	if !alive(machine) {
		t.Error("the machine died with libvirt's daemon")
	}
	r.signal()
	r.wants("<nil>", "setup", "teardown")
	if alive(machine) {
		t.Error("the machine's process is still there, or was not collected")
	}
}

func TestQEMUWithoutAGuestIsDestroyed(t *testing.T) {
	if !inContainer(t) {
		return
	}
	r := launchReal(t, func(o *Options) {
		qemuOptions(o, machineXML(false))
		o.GracePeriod = time.Second
	})
	r.log.await("event=started")
	machine := pid(t, pidFile)
	r.signal()
	r.wants(`running domain "vm": the guest did not shut down within 1s and was destroyed`, "setup", "teardown")
	if alive(machine) {
		t.Error("the machine's process is still there, or was not collected")
	}
}

func TestQEMUThatIsKilledIsAFailure(t *testing.T) {
	if !inContainer(t) {
		return
	}
	r := launchReal(t, func(o *Options) { qemuOptions(o, machineXML(false)) })
	r.log.await("event=started")
	if err := syscall.Kill(pid(t, pidFile), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.wants(`running domain "vm": the hypervisor failed`, "setup", "teardown")
}

// A launcher that is killed leaves the machine to the next one.
func TestQEMUOutlivesTheLauncher(t *testing.T) {
	if os.Getenv(role) == "launcher" {
		var o Options
		w := newWorld(t)
		o = w.options()
		qemuOptions(&o, machineXML(true))
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		err := Run(ctx, o)
		fmt.Fprintf(os.Stderr, "result: %v; did: %q\n", err, w.done())
		return
	}
	if !inContainer(t) {
		return
	}
	t.Setenv(role, "launcher")
	first, log := startLauncher(t)
	log.await("event=started")
	machine := pid(t, pidFile)
	if err := syscall.Kill(pid(t, "/run/launcher.pid"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err == nil {
		t.Error("a launcher that was killed ended well")
	}

	second, log := startLauncher(t)
	log.await("adopting it")
	log.await("is wired")
	if !alive(machine) {
		t.Error("the machine died with the launcher")
	}
	if err := syscall.Kill(pid(t, "/run/launcher.pid"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Error(err)
	}
	log.await(`result: <nil>; did: \"setup\\nteardown\"`)
	if alive(machine) {
		t.Error("the machine's process is still there, or was not collected")
	}
}

func startLauncher(t *testing.T) (*kernel.Child, *record) {
	t.Helper()
	log := &record{t: t}
	child, err := kernel.StartChild(t.Context(), []string{
		"sh", "-c", `echo $$ >/run/launcher.pid; exec "$0" -test.v -test.run="$1"`, os.Args[0], "^" + t.Name() + "$",
	}, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	return child, log
}
