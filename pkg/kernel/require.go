//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Need is something that a command cannot do without.
type Need int

// What podwire needs of the container that it runs in.
const (
	NeedNetAdmin Need = iota // CAP_NET_ADMIN: to change the network
	NeedNetRaw               // CAP_NET_RAW: to open a packet socket
	NeedTun                  // /dev/net/tun: to make a tap
)

const (
	tunDevice = "/dev/net/tun"
	kvmDevice = "/dev/kvm"
)

// Require returns nil where all the needs are met, else one error for each that
// is not: what is missing, and the line of pod spec that grants it.
func (k *Kernel) Require(needs ...Need) error {
	var errs []error
	for _, need := range needs {
		errs = append(errs, need.check())
	}
	return errors.Join(errs...)
}

func (n Need) check() error {
	switch n {
	case NeedNetAdmin:
		return requireCapability("NET_ADMIN", unix.CAP_NET_ADMIN)
	case NeedNetRaw:
		return requireCapability("NET_RAW", unix.CAP_NET_RAW)
	case NeedTun:
		f, err := openTun()
		if err != nil {
			return err
		}
		return f.Close()
	default:
		panic(fmt.Sprintf("kernel: unknown need %d", n))
	}
}

// capabilityError is a capability that is missing.
type capabilityError struct{ name string }

func (e *capabilityError) Error() string { return lacking(e.name) }

func (e *capabilityError) Unwrap() error { return unix.EPERM }

func requireCapability(name string, number uint) error {
	has, err := hasCapability(number)
	if err != nil {
		return fmt.Errorf("reading capabilities: %w", err)
	}
	if !has {
		return &capabilityError{name}
	}
	return nil
}

// hasCapability reports whether the calling thread has a capability in effect.
func hasCapability(number uint) (bool, error) {
	has, err := capabilities()
	return has[number/32].Effective&(1<<(number%32)) != 0, err
}

// capabilities are the calling thread's, 32 each.
func capabilities() (has [2]unix.CapUserData, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err = unix.Capget(&header, &has[0])
	return has, err
}

// deviceError is a device that cannot be opened.
type deviceError struct {
	path string
	err  error
}

func (e *deviceError) Error() string {
	return fmt.Sprintf("device %s %s; the container gets it from a device plugin, or with %s",
		e.path, cannotOpen(e.err), deviceLine(e.path))
}

// cannotOpen says in what way a device is not there.
func cannotOpen(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "is missing"
	}
	return "cannot be opened (" + err.Error() + ")"
}

func (e *deviceError) Unwrap() error { return e.err }

// openTun opens the device that taps are made with.
func openTun() (*os.File, error) {
	// os.OpenFile would hand the descriptor to the poller, which a tun that is
	// attached to nothing answers with an error condition.
	fd, err := openTunFD(0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), tunDevice), nil
}

func openTunFD(flags int) (int, error) {
	var fd int
	err := uninterrupted(func() (err error) {
		fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|flags, 0)
		return err
	})
	if err != nil {
		return -1, &deviceError{tunDevice, err}
	}
	return fd, nil
}
