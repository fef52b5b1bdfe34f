package guest

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/podwire/podwire/tests/checkout"
)

// Image is what a guest boots.
type Image struct {
	Kernel string // path of a kernel, as QEMU's -kernel takes it
	Initrd string // path of the root file system
}

//go:embed init dhcp dhcp6 leased leased6 resolv try-ping index.cgi run install
var scripts embed.FS

// Build makes the image from the packages that hack/install.sh unpacked below
// build/pkg, and leaves it in build/guest. It takes a few hundredths of a
// second; an image that is there already is left as it is.
func Build(dir checkout.Dir) (Image, error) {
	kernel, err := dir.Unpacked("boot/vmlinuz-*")
	if err != nil {
		return Image{}, err
	}
	initrd, err := initrd(dir)
	if err != nil {
		return Image{}, fmt.Errorf("building the guest's root file system: %w", err)
	}
	path := dir.Build("guest", "initrd.img")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return Image{}, err
	}
	if err := replace(path, initrd); err != nil {
		return Image{}, err
	}
	return Image{Kernel: kernel, Initrd: path}, nil
}

// initrd returns the guest's root file system.
func initrd(dir checkout.Dir) ([]byte, error) {
	var archive cpio
	for _, name := range []string{
		"bin", "dev", "etc", "modules", "proc", "run", "sys", "tmp", "www", "www/cgi-bin", "control", "control/cgi-bin",
	} {
		archive.dir(name)
	}
	if err := addBusybox(&archive, dir); err != nil {
		return nil, err
	}
	if err := addModules(&archive, dir); err != nil {
		return nil, err
	}
	for _, path := range []string{
		"init", "bin/dhcp", "bin/dhcp6", "bin/leased", "bin/leased6", "bin/resolv", "bin/try-ping", "www/cgi-bin/index.cgi", "control/cgi-bin/run",
	} {
		script, err := scripts.ReadFile(filepath.Base(path))
		if err != nil {
			return nil, err
		}
		archive.file(path, 0o755, script)
	}
	return archive.finish(), nil
}

// addBusybox adds busybox, under all of its names, and its DHCPv6 client.
func addBusybox(archive *cpio, dir checkout.Dir) error {
	content, names, err := busybox(dir)
	if err != nil {
		return err
	}
	archive.file("bin/busybox", 0o755, content)
	for _, name := range names {
		archive.symlink("bin/"+name, "busybox")
	}
	path, err := dir.Unpacked("bin/udhcpc6")
	if err != nil {
		return err
	}
	if content, err = os.ReadFile(path); err != nil {
		return err
	}
	archive.file("bin/udhcpc6", 0o755, content)
	return nil
}

// busybox returns the program and the names of its commands.
func busybox(dir checkout.Dir) (program []byte, names []string, err error) {
	path, err := dir.Busybox()
	if err != nil {
		return nil, nil, err
	}
	if program, err = os.ReadFile(path); err != nil {
		return nil, nil, err
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, nil, fmt.Errorf("listing the commands of busybox: %w", err)
	}
	for _, name := range strings.Fields(string(list)) {
		if name != "busybox" {
			names = append(names, name)
		}
	}
	return program, names, nil
}

// addModules adds the modules, and in modules/order the order to load them in.
func addModules(archive *cpio, dir checkout.Dir) error {
	path, err := dir.Unpacked("lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return err
	}
	list, err := modules(path)
	if err != nil {
		return err
	}
	var order strings.Builder
	for _, each := range list {
		archive.file("modules/"+each.name+".ko", 0o644, each.content)
		fmt.Fprintf(&order, "%s.ko\n", each.name)
	}
	archive.file("modules/order", 0o644, []byte(order.String()))
	return nil
}

// replace writes a file in one step, so that a guest that boots at the same time
// reads the old or the new one; and not at all if it is the same already.
func replace(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Chmod(0o644); err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if closing := tmp.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
