//go:build linux

package kernel

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Bounds are what a process may still do once it is confined, besides what it does
// with what it has open.
type Bounds struct {
	// Read are the files and directories that it may read. One that is a symbolic link
	// into its own directory, as those of a Kubernetes volume are, may be made anew there.
	Read []string
	// Create are the directories in which it may make an empty file, and Remove those in
	// which it may remove one. It may write to none.
	Create, Remove []string
	// Ask says that it may send to nameservers. Else it may have no socket of IP.
	Ask bool
}

// Confinement is what is in force of a process: what it cannot do any more, whatever
// makes it try.
type Confinement struct {
	Capabilities    string   // those that it has left: none, or a number in base 16 as in /proc/PID/status
	NoNewPrivileges bool     // no program that it starts has more
	Seccomp         int      // the system calls that it may make; 0 for all
	Landlock        int      // the ABI of the rules for files, ports and signals; 0 for no rules
	Lacking         []string // what could not be done, and why
}

// ErrNotConfined says that this program cannot be confined: one with C in it has
// threads that Go knows nothing of.
var ErrNotConfined = errors.New("a program that was built with cgo cannot give up its privileges")

// emptyFile is the kind and mode of one.
const emptyFile = unix.S_IFREG | 0o644

// CreateEmpty makes an empty file, where none of the name is. It takes no right to
// write: it is mknod(2), which opens nothing.
func CreateEmpty(path string) error {
	err := uninterrupted(func() error { return unix.Mknod(path, emptyFile, 0) })
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	return nil
}
