package pod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/checkout"
)

// init keeps the program's first thread for the first goroutine. Threads that
// entered other namespaces are thrown away, but the first one cannot be: if a
// goroutine of Do ran on it, the whole program would seem to be in there.
func init() { runtime.LockOSThread() }

// Space is a set of namespaces: network, mounts, processes, host name.
type Space struct {
	name  string
	dir   checkout.Dir
	holds *exec.Cmd      // its first process
	pipe  io.WriteCloser // which ends when this does
	env   []string       // of commands, besides what they have
}

// private are the directories that a space has to itself, empty: what daemons
// and plugins leave there goes with the space.
var private = []string{"/run", "/var", "/etc/libvirt", "/tmp"}

// NewSpace makes namespaces, with nothing in them but lo. The shell reaps orphans, as a pod's first process
// should, while it waits for the end of its input. The checkout stays visible
// even if it is below one of the private directories. The caller closes the space.
func NewSpace(name string, dir checkout.Dir) (*Space, error) {
	holds := exec.Command("/bin/sh", "-c", "cat; :")
	holds.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setpgid:    true, // a Ctrl-C on the terminal is for us, who then close it
	}
	pipe, err := holds.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := holds.Start(); err != nil {
		return nil, fmt.Errorf("making namespaces: %w", err)
	}
	s := &Space{name: name, dir: dir, holds: holds, pipe: pipe}
	if err := s.prepare(); err != nil {
		s.Close()
		return nil, fmt.Errorf("preparing %q: %w", name, err)
	}
	return s, nil
}

// prepare mounts what a pod has of its own, sets the host name, and brings lo up.
func (s *Space) prepare() error {
	err := s.Do(func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("making mounts private: %w", err)
		}
		if err := unix.Sethostname([]byte(s.name)); err != nil {
			return fmt.Errorf("setting the host name: %w", err)
		}
		return hide(string(s.dir))
	})
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mount", "-t", "proc", "proc", "/proc"},
		{"mount", "-t", "sysfs", "sysfs", "/sys"},
		{"ip", "link", "set", "lo", "up"},
	} {
		if _, err := s.Run(context.Background(), args[0], args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// hide mounts an empty directory over each of the private ones.
func hide(keep string) error {
	fd, err := unix.Open(keep, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %q: %w", keep, err)
	}
	defer unix.Close(fd)
	for _, dir := range private {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting an empty %q: %w", dir, err)
		}
	}
	for _, dir := range []string{"/var/lib", "/var/cache", "/var/log", "/run/lock"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", "/var/run"); err != nil {
		return err
	}
	if _, err := os.Stat(keep); err == nil {
		return nil
	}
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/thread-self/fd/%d", fd), keep, "", unix.MS_BIND|unix.MS_REC, "")
}

// Close kills all processes in the space, and with them the space. Commands that
// were started in it and not waited for yet must be waited for meanwhile, or
// afterwards: until then, the kernel keeps the space, and Close says so.
func (s *Space) Close() error {
	s.pipe.Close()
	err := s.holds.Process.Kill() // the end of the first is the end of all
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	gone := make(chan error, 1)
	go func() { gone <- s.holds.Wait() }()
	select {
	case <-gone: // killed
		return err
	case <-time.After(closeTime):
		return fmt.Errorf("closing %q: a command in it was not waited for", s.name)
	}
}

// closeTime is how long the kernel may take to end a space.
const closeTime = 5 * time.Second

// Name returns the space's host name.
func (s *Space) Name() string { return s.name }

// NetNS returns the path of the network namespace, as a runtime gives it to CNI.
func (s *Space) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", s.holds.Process.Pid) }

// Do runs a function inside of the space, on a thread of its own. What it opens
// may be used outside; goroutines that it starts are outside.
func (s *Space) Do(fn func() error) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		failed <- func() error {
			if err := s.enter(); err != nil {
				return fmt.Errorf("entering %q: %w", s.name, err)
			}
			return fn()
		}()
	}()
	return <-failed
}

// enter moves the calling thread into the namespaces. The mount namespace comes
// last: the paths of the others are found by the /proc of the outside.
func (s *Space) enter() error {
	// A thread can change its mounts alone only with a working directory alone.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	for _, kind := range []string{"net", "uts", "ipc", "pid", "mnt"} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", s.holds.Process.Pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Setns(fd, 0)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("joining the %s namespace: %w", kind, err)
		}
	}
	return nil
}

// Setenv gives the commands that are started from now on a variable of the environment.
func (s *Space) Setenv(name, value string) { s.env = append(s.env, name+"="+value) }

// Start starts a command inside of the space. Signals and Wait are for the
// command itself.
func (s *Space) Start(cmd *exec.Cmd) error {
	return s.StartAfter(cmd, func() error { return nil })
}

// StartAfter is Start where the thread that starts the command does something first, of
// which the command inherits what a thread leaves to a child.
func (s *Space) StartAfter(cmd *exec.Cmd, first func() error) error {
	if len(s.env) > 0 {
		cmd.Env = append(cmd.Environ(), s.env...)
	}
	if cmd.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		cmd.Dir = dir
		if hidden(dir) {
			cmd.Dir = "/"
		}
	}
	return s.Do(func() error {
		if err := first(); err != nil {
			return err
		}
		return cmd.Start()
	})
}

func hidden(dir string) bool {
	for _, each := range private {
		if rel, err := filepath.Rel(each, dir); err == nil && !strings.HasPrefix(rel, "..") {
			return true
		}
	}
	return false
}

// Run runs a command inside of the space and returns its standard output. The
// error of one that fails ends with what it wrote to standard error.
func (s *Space) Run(ctx context.Context, name string, args ...string) (string, error) {
	return s.RunCmd(exec.CommandContext(ctx, name, args...))
}

// RunCmd is Run for a command with an environment or an input.
func (s *Space) RunCmd(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := s.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("running %q in %q: %w: %s", strings.Join(cmd.Args, " "), s.name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

// WriteFile writes a file inside of the space, and the directories above it.
func (s *Space) WriteFile(path string, content []byte, perm os.FileMode) error {
	return s.Do(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, content, perm)
	})
}

// ReadFile reads a file of the space.
func (s *Space) ReadFile(path string) (content []byte, err error) {
	err = s.Do(func() error {
		content, err = os.ReadFile(path)
		return err
	})
	return content, err
}

// Dial connects from inside of the space to an address, which is no name.
func (s *Space) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = s.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Ping sends echo requests until one is answered, for three seconds.
func (s *Space) Ping(ctx context.Context, target netip.Addr) error {
	busybox, err := s.dir.Busybox()
	if err != nil {
		return err
	}
	for range 3 {
		if _, err = s.Run(ctx, busybox, "ping", "-q", "-c", "1", "-W", "1", target.String()); err == nil {
			return nil
		}
	}
	return err
}
