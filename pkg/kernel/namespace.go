//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// ownNamespace is that of the calling thread. /proc/self is the main thread's,
// which may be in another one.
const ownNamespace = "/proc/thread-self/ns/net"

// namespace is a network namespace that sockets and taps are opened in.
type namespace struct {
	file  *os.File // nil for the caller's own, which needs no entering
	inode uint64
}

// openNamespace opens the namespace at path. One that is the caller's own, named
// or not, is not entered: setns(2) takes CAP_SYS_ADMIN even when it changes
// nothing.
func openNamespace(path string) (*namespace, error) {
	own, err := inodeOf(ownNamespace)
	if err != nil {
		return nil, fmt.Errorf("opening network namespace: %w", err)
	}
	if path == "" {
		return &namespace{inode: own}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening network namespace: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening network namespace %q: %w", path, err)
	}
	inode := info.Sys().(*syscall.Stat_t).Ino
	if inode == own {
		f.Close()
		return &namespace{inode: own}, nil
	}
	return &namespace{file: f, inode: inode}, nil
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

func (ns *namespace) close() error {
	if ns.file == nil {
		return nil
	}
	return ns.file.Close()
}

// do calls f on a thread that is in the namespace. f must not start goroutines
// that open things: they would run elsewhere.
func (ns *namespace) do(f func() error) error {
	if ns.file == nil {
		return f()
	}
	done := make(chan error)
	go func() { done <- ns.enter(f) }()
	return <-done
}

// enter runs f inside. Where the thread cannot go back, it stays locked and so
// ends with its goroutine instead of serving others from the wrong namespace.
func (ns *namespace) enter(f func() error) error {
	runtime.LockOSThread()
	own, err := os.Open(ownNamespace)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering network namespace: %w", err)
	}
	defer own.Close()
	if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("entering network namespace %q: %w: %s", ns.file.Name(), err, lacking("SYS_ADMIN"))
		}
		return fmt.Errorf("entering network namespace %q: %w", ns.file.Name(), err)
	}
	err = f()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leaving network namespace %q: %w", ns.file.Name(), back))
	}
	runtime.UnlockOSThread()
	return err
}

// Identity names the namespace. The cookie is 0 on kernels before 5.14, which
// have none.
func (k *Kernel) Identity() (netstate.Identity, error) {
	cookie, err := unix.GetsockoptUint64(k.route.fd(), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return netstate.Identity{}, fmt.Errorf("reading the cookie of the network namespace: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return netstate.Identity{}, fmt.Errorf("reading the boot id: %w", err)
	}
	return netstate.Identity{
		Cookie: cookie,
		Inode:  k.netns.inode,
		BootID: strings.TrimSpace(string(boot)),
	}, nil
}
