package fault

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Changing are the kinds of calls by which a program changes something outside of itself,
// or gets what it needs for that.
var Changing = []string{
	"sendto", "sendmsg", "ioctl", "openat", "openat2", "write", "writev", "pwrite64", "fsync", "fdatasync", "ftruncate",
	"renameat", "renameat2", "unlinkat", "mkdirat", "linkat", "symlinkat", "fchmod", "fchmodat", "fchown", "fchownat",
	"socket", "setsockopt", "bind", "connect", "listen", "flock", "setns", "kill", "pidfd_send_signal",
}

// numbers are those of all kinds of calls that can be asked about. There is no execve: a
// program is started by one that may not wait, see start.
var numbers = map[string]uint32{
	"accept4":           unix.SYS_ACCEPT4,
	"bind":              unix.SYS_BIND,
	"connect":           unix.SYS_CONNECT,
	"fchmod":            unix.SYS_FCHMOD,
	"fchmodat":          unix.SYS_FCHMODAT,
	"fchown":            unix.SYS_FCHOWN,
	"fchownat":          unix.SYS_FCHOWNAT,
	"fdatasync":         unix.SYS_FDATASYNC,
	"flock":             unix.SYS_FLOCK,
	"fsync":             unix.SYS_FSYNC,
	"ftruncate":         unix.SYS_FTRUNCATE,
	"getdents64":        unix.SYS_GETDENTS64,
	"getsockname":       unix.SYS_GETSOCKNAME,
	"getsockopt":        unix.SYS_GETSOCKOPT,
	"ioctl":             unix.SYS_IOCTL,
	"kill":              unix.SYS_KILL,
	"linkat":            unix.SYS_LINKAT,
	"listen":            unix.SYS_LISTEN,
	"mkdirat":           unix.SYS_MKDIRAT,
	"openat":            unix.SYS_OPENAT,
	"openat2":           unix.SYS_OPENAT2,
	"pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL,
	"pwrite64":          unix.SYS_PWRITE64,
	"read":              unix.SYS_READ,
	"recvfrom":          unix.SYS_RECVFROM,
	"recvmsg":           unix.SYS_RECVMSG,
	"renameat":          unix.SYS_RENAMEAT,
	"renameat2":         unix.SYS_RENAMEAT2,
	"sendmsg":           unix.SYS_SENDMSG,
	"sendto":            unix.SYS_SENDTO,
	"setns":             unix.SYS_SETNS,
	"setsockopt":        unix.SYS_SETSOCKOPT,
	"socket":            unix.SYS_SOCKET,
	"symlinkat":         unix.SYS_SYMLINKAT,
	"unlinkat":          unix.SYS_UNLINKAT,
	"write":             unix.SYS_WRITE,
	"writev":            unix.SYS_WRITEV,
}

// names are the kinds by number.
var names = func() map[uint32]string {
	m := map[uint32]string{}
	for name, number := range numbers {
		m[number] = name
	}
	return m
}()

// filter is the program that has the kernel ask about some kinds of calls, and make all
// others.
func filter(kinds []string) ([]unix.SockFilter, error) {
	const nr, arch = 0, 4 // offsets in struct seccomp_data
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	answer := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	equal := func(value uint32, then, otherwise uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: then, Jf: otherwise}
	}
	p := []unix.SockFilter{
		load(arch), equal(auditArch, 1, 0), answer(unix.SECCOMP_RET_ALLOW), // of another architecture the numbers are others
		load(nr),
	}
	for _, kind := range slices.Sorted(slices.Values(kinds)) {
		number, ok := numbers[kind]
		if !ok {
			return nil, fmt.Errorf("asking about %q: an unknown kind of call", kind)
		}
		p = append(p, equal(number, 0, 1), answer(unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(p, answer(unix.SECCOMP_RET_ALLOW)), nil
}
