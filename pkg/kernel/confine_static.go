//go:build linux && !cgo

package kernel

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// All that is here is done to every thread of the process, and so to those that they
// will start: capabilities, namespaces and Landlock's rules are each thread's own, and Go runs a
// goroutine on any of them.

// Stay moves the whole process into the namespace for good. From then on nothing in
// it takes CAP_SYS_ADMIN. No method of k may run at the same time.
func (k *Kernel) Stay() error {
	ns := k.netns
	if ns.file == nil {
		return nil
	}
	if err := allThreads(unix.SYS_SETNS, ns.file.Fd(), unix.CLONE_NEWNET); err != nil {
		return explain(fmt.Errorf("entering network namespace %q: %w", ns.file.Name(), err))
	}
	file := ns.file
	ns.file = nil
	return file.Close()
}

// Confine gives up all that a process does not need which has opened its sockets:
// every capability, and, where the kernel has Landlock and seccomp, all files and
// system calls beyond the bounds. It cannot be undone. What the kernel lacks is no error:
// the rest is in force all the same, and the result says what is.
func Confine(b Bounds) (Confinement, error) {
	// The standard library reads the time zone when it first prints a time.
	time.Now().Zone()
	var c Confinement
	lacks := func(what string, err error) {
		if err != nil {
			c.Lacking = append(c.Lacking, fmt.Sprintf("%s: %v", what, err))
		}
	}
	// A thread that has not got it may not filter its system calls without
	// CAP_SYS_ADMIN, which is gone by then.
	lacks("no new privileges", allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1))
	var err error
	// The rules come first: what they are about is opened, for which it may take a capability.
	c.Landlock, err = restrictFiles(b)
	lacks("Landlock", err)
	lacks("capabilities", dropCapabilities())
	c.Seccomp, err = restrictCalls(b)
	lacks("seccomp", err)
	return c, c.ask()
}

// ask fills in what the kernel itself says of the calling thread.
func (c *Confinement) ask() error {
	has, err := capabilities()
	if err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	c.Capabilities = "none"
	left := uint64(0)
	for i, half := range has {
		left |= uint64(half.Effective|half.Permitted|half.Inheritable) << (32 * i)
	}
	if left != 0 {
		c.Capabilities = fmt.Sprintf("%016x", left)
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("asking for no new privileges: %w", err)
	}
	c.NoNewPrivileges = nnp == 1
	// An old kernel without it says EINVAL.
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || mode != unix.SECCOMP_MODE_FILTER {
		c.Seccomp = 0
	}
	return nil
}

// dropCapabilities drops all that the threads have. The bounding set stays: it says what
// a program could get that is started, of which there is none, and without new privileges it would
// get nothing; to empty it takes forty system calls for which all threads are halted,
// three milliseconds on an idle machine and half a second on a busy one.
func dropCapabilities() error {
	err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	if unless(err, unix.EINVAL) != nil { // Linux before 4.3 has no such set
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// allThreads has every thread make a system call whose arguments are numbers.
func allThreads(call, arg1, arg2 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, arg1, arg2, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
