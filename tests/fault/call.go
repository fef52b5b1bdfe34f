package fault

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// noise are the beginnings of paths that Go's runtime and library open, for themselves and
// whenever they like.
var noise = []string{
	"/sys/kernel/mm/", "/sys/fs/cgroup/", "/proc/self/cgroup", "/proc/self/mountinfo",
	"/etc/localtime", "/usr/share/zoneinfo", "/usr/lib/go", "/proc/sys/net/core/somaxconn", "/dev/null",
}

// look finds out what a call is about, and reports whether it counts.
func (c *Call) look(n *notification) (bool, error) {
	asked := target{thread: int(n.pid), process: c.PID, args: n.args}
	c.Changes = true
	switch c.Name {
	case "openat", "openat2":
		return c.open(asked)
	case "renameat", "renameat2", "linkat":
		return true, c.paths(asked, 1, 3)
	case "symlinkat":
		return true, c.paths(asked, 0, 2)
	case "unlinkat", "mkdirat", "fchmodat", "fchownat":
		return true, c.paths(asked, 1)
	case "connect", "bind":
		return true, c.address(asked)
	case "sendto", "sendmsg":
		return true, c.send(asked)
	case "recvfrom", "recvmsg":
		return c.receive(asked)
	case "read", "write", "writev", "pwrite64":
		return c.transfer(asked)
	case "socket":
		c.What = fmt.Sprintf("%s %d %d", family(uint16(n.args[0])), n.args[1]&0xf, n.args[2])
		return true, nil
	case "kill", "pidfd_send_signal":
		c.What = "signal " + unix.SignalName(unix.Signal(n.args[1]))
		return true, nil
	case "ioctl":
		c.What = request(uint32(n.args[1])) + " on "
	case "setsockopt", "getsockopt":
		c.What = option(n.args[1], n.args[2]) + " of "
	}
	c.Changes = !slices.Contains([]string{"getsockopt", "getsockname", "getdents64"}, c.Name)
	c.What += asked.file()
	return true, nil
}

func (c *Call) open(asked target) (bool, error) {
	path, err := asked.text(1)
	if err != nil {
		return false, err
	}
	c.What = path
	for _, beginning := range noise {
		if strings.HasPrefix(path, beginning) {
			return false, nil
		}
	}
	flags := asked.args[2]
	if c.Name == "openat2" {
		how, err := asked.memory(asked.args[2], 8)
		if err != nil || len(how) < 8 {
			return false, err
		}
		flags = native.Uint64(how)
	}
	c.Changes = flags&unix.O_PATH == 0 && flags&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC) != 0
	return true, nil
}

func (c *Call) paths(asked target, args ...int) error {
	var all []string
	for _, arg := range args {
		path, err := asked.text(arg)
		if err != nil {
			return err
		}
		all = append(all, path)
	}
	c.What = strings.Join(all, " ")
	return nil
}

// transfer is a read or a write. What the runtime wakes itself with does not count, nor
// does what the program prints.
func (c *Call) transfer(asked target) (bool, error) {
	c.Changes = c.Name != "read"
	c.What = asked.file()
	if strings.HasPrefix(c.What, memoryPath) || slices.ContainsFunc(noise, func(s string) bool { return strings.HasPrefix(c.What, s) }) {
		return false, nil
	}
	if !strings.HasPrefix(c.What, "/") && !strings.HasPrefix(c.What, "socket:") {
		return false, nil
	}
	if c.Name == "read" && strings.HasPrefix(c.What, "socket:") {
		return asked.ready()
	}
	return true, nil
}

func (c *Call) receive(asked target) (bool, error) {
	c.Changes = false
	domain, protocol, err := asked.socket()
	if err != nil {
		return false, err
	}
	c.What = named(domain, protocol)
	return asked.ready()
}

func (c *Call) address(asked target) error {
	length := min(asked.args[2], 128)
	raw, err := asked.memory(asked.args[1], int(length))
	if err != nil || len(raw) < 2 {
		return err
	}
	domain := native.Uint16(raw)
	c.What = family(domain)
	if domain == unix.AF_UNIX {
		path, _, _ := strings.Cut(string(raw[2:]), "\x00")
		c.What += " " + path
	}
	return nil
}

// target is who makes a call.
type target struct {
	thread, process int
	args            [6]uint64
}

// text is a string that an argument points to.
func (t target) text(arg int) (string, error) {
	raw, err := t.memory(t.args[arg], unix.PathMax)
	if err != nil {
		return "", err
	}
	text, _, _ := strings.Cut(string(raw), "\x00")
	return text, nil
}

// memory reads up to so many bytes from an address: fewer where no more are there. A
// transfer does not split a part, so that each page is a part.
func (t target) memory(address uint64, length int) ([]byte, error) {
	if length <= 0 {
		return nil, nil
	}
	page := os.Getpagesize()
	var parts []unix.RemoteIovec
	for at, left := uintptr(address), length; left > 0; {
		part := min(left, page-int(at)%page)
		parts = append(parts, unix.RemoteIovec{Base: at, Len: part})
		at, left = at+uintptr(part), left-part
	}
	buf := make([]byte, length)
	local := unix.Iovec{Base: &buf[0]}
	local.SetLen(length)
	n, err := unix.ProcessVMReadv(t.thread, []unix.Iovec{local}, parts, 0)
	if err != nil {
		return nil, fmt.Errorf("reading what a call is about: %w", err)
	}
	return buf[:n], nil
}

// file is what the descriptor that is the first argument leads to, as /proc has it.
func (t target) file() string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.thread, int32(t.args[0])))
	if err != nil {
		return fmt.Sprintf("descriptor %d", int32(t.args[0]))
	}
	if domain, protocol, err := t.socket(); strings.HasPrefix(path, "socket:") && err == nil {
		return "socket: " + named(domain, protocol)
	}
	return path
}

// borrow has a function look at the descriptor that is the first argument.
func (t target) borrow(look func(fd int) error) error {
	process, err := unix.PidfdOpen(t.process, 0) // whose threads have the same descriptors
	if err != nil {
		return fmt.Errorf("looking at a descriptor: %w", err)
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, int(int32(t.args[0])), 0)
	if err != nil {
		return fmt.Errorf("looking at a descriptor: %w", err)
	}
	defer unix.Close(fd)
	return look(fd)
}

// socket says of what kind the first argument is.
func (t target) socket() (domain, protocol int, err error) {
	err = t.borrow(func(fd int) error {
		if domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
			return err
		}
		protocol, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		return err
	})
	return domain, protocol, err
}

// ready reports whether there is something to receive.
func (t target) ready() (ready bool, err error) {
	err = t.borrow(func(fd int) error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, 0)
		ready = fds[0].Revents != 0
		return err
	})
	return ready, err
}
