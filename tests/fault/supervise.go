package fault

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// supervisor answers the kernel's questions.
type supervisor struct {
	decide  func(Call) Verdict
	thread  int         // ours, which starts the program
	first   int         // the program's process
	looked  map[int]int // processes by their threads
	last    notification
	counted atomic.Int64
	killed  atomic.Bool
	failed  atomic.Pointer[error]
}

// notification is the kernel's struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32 // of the thread
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is the kernel's struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	errno int32 // negative
	flags uint32
}

// listen puts the filter on the calling thread and returns the descriptor by which the
// kernel asks.
//
// The flag has a signal not interrupt a call that was asked about already, as it would be
// asked about again then: Go's runtime sends itself signals at any time.
func listen(program []unix.SockFilter) (int, error) {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("having the kernel ask about calls, which takes Linux 5.19: %w", errno)
	}
	return int(fd), nil
}

// run answers until nobody is left that has the filter.
func (u *supervisor) run(fd int) {
	defer unix.Close(fd)
	// It only makes it faster, where the kernel knows it (6.6).
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			u.fail(err)
			return
		case fds[0].Revents&unix.POLLIN != 0:
			if err := u.answer(fd); err != nil {
				u.fail(err) // and let what is still to come be made
			}
		default:
			return
		}
	}
}

func (u *supervisor) fail(err error) { u.failed.CompareAndSwap(nil, &err) }

// answer takes one question.
func (u *supervisor) answer(fd int) error {
	var n notification
	if err := control(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)); err != nil {
		return gone(err) // its thread was killed or interrupted meanwhile
	}
	v, err := u.verdict(&n)
	// As long as its thread waits for the answer, the number is its own. It may have been
	// killed by somebody else while the call was looked at.
	if gone := control(fd, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&n.id)); gone != nil {
		return nil
	}
	if v.Kill {
		u.killed.Store(true)
		return unix.Kill(int(n.pid), unix.SIGKILL)
	}
	r := response{id: n.id, errno: -int32(v.Errno)}
	if v.Errno == 0 {
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	return errors.Join(err, gone(control(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))))
}

// verdict asks the test about a call that counts.
func (u *supervisor) verdict(n *notification) (Verdict, error) {
	if int(n.pid) == u.thread {
		return Verdict{}, nil
	}
	process, err := u.process(int(n.pid))
	if err != nil {
		return Verdict{}, err
	}
	if u.first == 0 {
		u.first = process
	}
	c := Call{Name: names[uint32(n.nr)], PID: process, Child: process != u.first}
	counts, err := c.look(n)
	if err != nil || !counts || u.restarted(c, n) {
		return Verdict{}, err
	}
	c.Number = int(u.counted.Add(1))
	v := u.decide(c)
	u.last = notification{}
	if v == (Verdict{}) {
		u.last = *n
	}
	return v, nil
}

// restarted reports whether a call is the last one again. The kernel makes a write to an
// option of the network anew, by itself, as long as somebody else holds its lock.
func (u *supervisor) restarted(c Call, n *notification) bool {
	return n.pid == u.last.pid && n.nr == u.last.nr && n.ip == u.last.ip && n.args == u.last.args && strings.HasPrefix(c.What, "/proc/sys/")
}

// process is the one that a thread is of.
func (u *supervisor) process(thread int) (int, error) {
	if process, ok := u.looked[thread]; ok {
		return process, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "\nTgid:")
	line, _, _ := strings.Cut(after, "\n")
	process, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, fmt.Errorf("reading whose thread %d is: %w", thread, err)
	}
	u.looked[thread] = process
	return process, nil
}

func control(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// gone is no error: that the one who asked is no more.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
