//go:build linux && !cgo

package kernel

import (
	"os"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// calls are the system calls of a server that is confined: those of Go's runtime,
// also where it dies and prints why, those of files and of sockets. Not every
// architecture has all of them, and arm64 calls newfstatat fstatat.
var calls = []string{
	// memory, time and threads
	"brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "membarrier",
	"clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "restart_syscall",
	"futex", "sched_yield", "sched_getaffinity", "getpid", "gettid", "exit", "exit_group",
	"set_robust_list", "rseq", "getrandom",
	// signals
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
	"timer_create", "timer_settime", "timer_delete", "setitimer",
	// files; which ones is Landlock's matter
	"openat", "close", "read", "readv", "pread64", "write", "writev", "pwrite64", "ftruncate", "lseek", "fcntl", "dup", "dup3", "pipe2",
	"fstat", "fstatfs", "newfstatat", "fstatat", "statx", "readlinkat", "getdents64", "faccessat", "faccessat2", "getcwd",
	"unlinkat", "flock",
	// events
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "poll", "ppoll",
	// sockets that are open, and those that others open to this process
	"bind", "connect", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
	"sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "shutdown",
	// who it is
	"getuid", "geteuid", "getgid", "getegid", "getppid", "uname", "capget",
}

// restrictCalls has the kernel refuse all system calls but those of a server, with
// EPERM. It returns how many there are.
func restrictCalls(b Bounds) (int, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return 0, err
	}
	with := someCalls(b)
	var names []string
	for _, name := range calls {
		if _, ok := machine.SyscallNames[name]; ok {
			names = append(names, name)
		}
	}
	err = seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls:      []seccomp.SyscallGroup{{Names: names, NamesWithCondtions: with, Action: seccomp.ActionAllow}},
		},
	})
	if err != nil {
		return 0, err
	}
	kinds := map[string]bool{}
	for _, c := range with {
		kinds[c.Name] = true
	}
	return len(names) + len(kinds), nil
}

// someCalls are allowed with some arguments alone: threads but no processes, signals
// to itself, no sockets but those of plain protocols, and no file
// but an empty one.
func someCalls(b Bounds) []seccomp.NameWithConditions {
	self := uint64(os.Getpid())
	out := []seccomp.NameWithConditions{
		{Name: "clone", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}}},
		with("kill", argument{0, self}),
		with("tgkill", argument{0, self}),
		with("prctl", argument{0, unix.PR_SET_VMA}), // Go's runtime names its memory
		with("prctl", argument{0, unix.PR_GET_NO_NEW_PRIVS}),
		with("prctl", argument{0, unix.PR_GET_SECCOMP}),
		with("mknodat", argument{2, emptyFile}),
		with("ioctl", argument{1, unix.SIOCGIFINDEX}),
		with("ioctl", argument{1, unix.SIOCGIFFLAGS}),
		with("socket", argument{0, unix.AF_NETLINK}, argument{2, unix.NETLINK_ROUTE}),
		with("socket", argument{0, unix.AF_NETLINK}, argument{2, unix.NETLINK_NETFILTER}),
	}
	if b.Ask {
		// Protocol 0 keeps out the one of several paths, which Landlock does not know.
		out = append(out,
			with("socket", argument{0, unix.AF_INET}, argument{2, 0}),
			with("socket", argument{0, unix.AF_INET6}, argument{2, 0}))
	}
	return out
}

// argument is the n-th of a system call and the value that it must have.
type argument struct {
	n     uint32
	value uint64
}

func with(name string, arguments ...argument) seccomp.NameWithConditions {
	c := seccomp.NameWithConditions{Name: name}
	for _, a := range arguments {
		c.Conditions = append(c.Conditions, seccomp.Condition{Argument: a.n, Operation: seccomp.Equal, Value: a.value})
	}
	return c
}
