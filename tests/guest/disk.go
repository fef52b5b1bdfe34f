package guest

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/podwire/podwire/tests/checkout"
)

// standardOutput is that of a VM pod's container, where `kubectl logs` finds it:
// QEMU's own goes to libvirt's log. The container runtime gives it to the user of
// the container, so that a QEMU that is not root may open it, too.
const standardOutput = "/proc/1/fd/1"

// demo has the guest serve.
var demo = []string{"podwire.demo=1"}

// Disk writes, below path, the file system of the demo guest's container image:
// busybox under all of its names, and in /disk a kernel, its root file system,
// the domain, and the script that copies them to a VM pod's volume. What path
// held before is gone.
func Disk(dir checkout.Dir, path string) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	tree := tree{root: path}
	tree.dir("bin")
	tree.dir("disk")
	program, names, err := busybox(dir)
	if err != nil {
		return err
	}
	tree.file("bin/busybox", 0o755, program)
	for _, name := range names {
		tree.symlink("bin/"+name, "busybox")
	}
	boot, err := bootFiles(dir)
	if err != nil {
		return err
	}
	for name, content := range boot {
		tree.file("disk/"+name, 0o644, content)
	}
	return tree.err
}

// bootFiles returns the contents of /disk. The domains have words in them that
// the script replaces.
func bootFiles(dir checkout.Dir) (map[string][]byte, error) {
	path, err := dir.Unpacked("boot/vmlinuz-*")
	if err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	initrd, err := initrd(dir)
	if err != nil {
		return nil, fmt.Errorf("building the guest's root file system: %w", err)
	}
	script, err := scripts.ReadFile("install")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"vmlinuz": kernel, "initramfs.img": initrd, "install": script}
	for _, accel := range []string{"tcg", "kvm"} {
		text, err := Domain{
			Name: "@NAME@", Accel: accel, Log: standardOutput, Ask: demo,
			Image: Image{Kernel: "@DIR@/vmlinuz", Initrd: "@DIR@/initramfs.img"},
		}.XML()
		if err != nil {
			return nil, err
		}
		files["vm-"+accel+".xml"] = []byte(text)
	}
	return files, nil
}

// tree writes files with the permissions that they are given, whatever the
// umask, until the first error.
type tree struct {
	root string
	err  error
}

func (t *tree) dir(name string) {
	path := filepath.Join(t.root, name)
	t.try(func() error { return os.MkdirAll(path, 0o755) })
	t.try(func() error { return os.Chmod(path, 0o755) })
}

func (t *tree) file(name string, perm os.FileMode, content []byte) {
	path := filepath.Join(t.root, name)
	t.try(func() error { return os.WriteFile(path, content, perm) })
	t.try(func() error { return os.Chmod(path, perm) })
}

func (t *tree) symlink(name, target string) {
	t.try(func() error { return os.Symlink(target, filepath.Join(t.root, name)) })
}

func (t *tree) try(do func() error) {
	if t.err == nil {
		t.err = do()
	}
}
