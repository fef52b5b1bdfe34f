package pod

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// qemuConf has libvirt run QEMU as it is done in a container, where the pod
// itself is the fence: as root, without namespaces or cgroups of its own, and
// without a daemon for logs.
const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
seccomp_sandbox = 0
`

// libvirtdConf lets root in without asking polkit, which is not there.
const libvirtdConf = `auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
`

// PrepareLibvirt writes the configuration of the libvirtd that is to run in the
// pod. It starts none: that is podwire-launcher's to do.
func (p *Pod) PrepareLibvirt() error {
	return errors.Join(
		p.addUser("/etc/passwd", "libvirt-qemu:x:64055:104::/var/lib/libvirt:/usr/sbin/nologin"),
		p.addUser("/etc/group", "kvm:x:104:"),
		p.addUser("/etc/group", "libvirt-qemu:x:64055:"),
		p.WriteFile("/etc/libvirt/qemu.conf", []byte(qemuConf), 0o644),
		p.WriteFile("/etc/libvirt/libvirtd.conf", []byte(libvirtdConf), 0o644),
		p.keepCapabilities(),
	)
}

// keepCapabilities lets the pods share what libvirt finds out about QEMU, which
// takes it a second each time.
func (p *Pod) keepCapabilities() error {
	kept := p.dir.Build("libvirt-cache")
	const cache = "/var/cache/libvirt"
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	return p.Do(func() error {
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return err
		}
		return unix.Mount(kept, cache, "", unix.MS_BIND, "")
	})
}

// addUser adds a line to the pod's /etc/passwd or /etc/group, if that name is
// not there. libvirt does not start without the user that it was built for, even
// if its configuration names another; and the package that adds it also starts
// a libvirtd at every boot.
func (p *Pod) addUser(file, line string) error {
	name, _, _ := strings.Cut(line, ":")
	old, err := p.ReadFile(file)
	if err != nil || strings.HasPrefix(string(old), name+":") || strings.Contains(string(old), "\n"+name+":") {
		return err
	}
	return p.Overlay(file, append(old, line+"\n"...))
}

// Overlay gives the pod a file of its own where the machine has one, by a mount:
// the machine's own stays as it is.
func (p *Pod) Overlay(file string, content []byte) error {
	mine := filepath.Join("/run/pod", file)
	if err := p.WriteFile(mine, content, 0o644); err != nil {
		return err
	}
	return p.Do(func() error {
		if mounted, err := os.ReadFile(file); err == nil && bytes.Equal(mounted, content) {
			return nil // it is mounted, and has just been written through
		}
		return unix.Mount(mine, file, "", unix.MS_BIND, "")
	})
}

// Listen listens on a unix socket at a path inside of the space, where a guest's
// serial line is to connect to. It may be accepted from outside.
func (s *Space) Listen(path string) (l net.Listener, err error) {
	err = s.Do(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		l, err = net.Listen("unix", path)
		if err != nil {
			return err
		}
		// The path means another file outside: it must not be removed there.
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		return nil
	})
	return l, err
}
