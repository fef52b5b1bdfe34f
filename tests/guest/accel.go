package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/podwire/podwire/tests/checkout"
)

// machine is what differs between the architectures' virtual machines.
type machine struct {
	qemu    string // the emulator's program
	arch    string // as libvirt and Linux call it
	kind    string // QEMU's -machine
	console string // the serial line, as the guest's kernel calls it
	// CPU models, as QEMU's -cpu takes them. Empty is QEMU's own default, which
	// any x86 can run; on arm64 that default is a 32-bit one.
	cpuKVM, cpuTCG string
}

// On a PC, the older machine: its firmware is through a second sooner, under TCG,
// as it has fewer PCI bridges to look behind.
var machines = map[string]machine{
	"amd64": {qemu: "qemu-system-x86_64", arch: "x86_64", kind: "pc", console: "ttyS0"},
	"arm64": {qemu: "qemu-system-aarch64", arch: "aarch64", kind: "virt", console: "ttyAMA0", cpuKVM: "host", cpuTCG: "cortex-a57"},
}

// probeTime is how long a kernel under KVM may take until init runs. Where KVM
// works that is half a second.
const probeTime = 5 * time.Second

// Accel returns "kvm" where a guest really boots under KVM, else "tcg". That
// /dev/kvm exists says little: under some hypervisors a guest hangs or QEMU
// aborts. So it is tried, once a boot of this machine and version of QEMU; the
// answer is kept in build/guest/accel.json. It calls trying before it tries.
func Accel(ctx context.Context, dir checkout.Dir, image Image, trying func()) (string, error) {
	m, ok := machines[runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("choosing a virtual machine: none is known for %q", runtime.GOARCH)
	}
	key, err := accelKey(ctx, m)
	if err != nil {
		return "", err
	}
	path := dir.Build("guest", "accel.json")
	answers := map[string]string{}
	if old, err := os.ReadFile(path); err == nil && json.Unmarshal(old, &answers) == nil && answers[key] != "" {
		return answers[key], nil
	}
	trying()
	accel := "tcg"
	if kvmWorks(ctx, m, image) {
		accel = "kvm"
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	content, err := json.Marshal(map[string]string{key: accel})
	if err != nil {
		return "", err
	}
	return accel, replace(path, content)
}

// accelKey is what an answer holds for.
func accelKey(ctx context.Context, m machine) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, m.qemu, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", m.qemu, err)
	}
	first, _, _ := strings.Cut(string(version), "\n")
	return strings.TrimSpace(string(boot)) + " " + first, nil
}

// kvmWorks boots the image under KVM until its init speaks.
func kvmWorks(ctx context.Context, m machine, image Image) bool {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	kvm.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	args := []string{
		"-machine", m.kind, "-accel", "kvm", "-m", "192", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", image.Kernel, "-initrd", image.Initrd,
		"-append", "console=" + m.console + " quiet panic=-1 podwire.finally=poweroff",
	}
	if m.cpuKVM != "" {
		args = append(args, "-cpu", m.cpuKVM)
	}
	qemu := exec.CommandContext(ctx, m.qemu, args...)
	out, err := qemu.StdoutPipe()
	if err != nil || qemu.Start() != nil {
		return false
	}
	up := false
	for scanner := bufio.NewScanner(out); !up && scanner.Scan(); {
		up = strings.Contains(scanner.Text(), Prefix+"up")
	}
	cancel()
	_ = qemu.Wait() // killed
	return up
}
