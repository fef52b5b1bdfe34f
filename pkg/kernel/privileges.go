//go:build linux

package kernel

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// MayReadConfined returns why a process that is confined may not read a file, which as
// root it may do until then.
func MayReadConfined(path string) error { return mayConfined(path, unix.R_OK) }

// MayMakeConfined returns why a process that is confined may not make a file in a
// directory, nor remove one.
func MayMakeConfined(dir string) error { return mayConfined(dir, unix.W_OK|unix.X_OK) }

// mayConfined asks on a thread that has no capabilities in effect meanwhile.
func mayConfined(path string, mode uint32) error {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	has, err := capabilities()
	none := has
	for i := range none {
		none[i].Effective = 0
	}
	if err == nil {
		err = unix.Capset(&header, &none[0])
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
	}
	if got := unix.Capset(&header, &has[0]); got != nil {
		return fmt.Errorf("taking up capabilities again: %w", got) // the thread stays this goroutine's
	}
	runtime.UnlockOSThread()
	if err != nil {
		return &os.PathError{Op: "access", Path: path, Err: err}
	}
	return nil
}
