//go:build linux && !cgo

package kernel

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// confinedEnv has the test's own program confine itself and say what it still can.
const confinedEnv = "PODWIRE_TEST_CONFINED"

// attempts are what a process that somebody else has taken over would try, and what
// the kernel says of it. The paths are below a directory of the test's.
func attempts(dir string) map[string]func() error {
	in := func(name string) string { return filepath.Join(dir, name) }
	openFile := func(path string, flags int) func() error {
		return func() error {
			fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	socket := func(domain, kind, protocol int) func() error {
		return func() error {
			fd, err := unix.Socket(domain, kind, protocol)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	connect := func(port int) func() error {
		return func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}
	}
	raw := func(call uintptr, args ...uintptr) func() error {
		args = append(args, make([]uintptr, 6)...)
		return func() error {
			if _, _, errno := unix.RawSyscall6(call, args[0], args[1], args[2], args[3], args[4], args[5]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	none := uintptr(unsafe.Pointer(new([64]byte)))
	return map[string]func() error{
		"read the state":            openFile(in("state/eth0.json"), unix.O_RDONLY),
		"list the state":            openFile(in("state"), unix.O_RDONLY|unix.O_DIRECTORY),
		"read what was linked anew": func() error { return relinked(in("volume"), openFile(in("volume/status"), unix.O_RDONLY)) },
		"read what takes its place": openFile(in("place/next"), unix.O_RDONLY),
		"write the state":           openFile(in("state/eth0.json"), unix.O_WRONLY),
		"truncate the state":        openFile(in("state/eth0.json"), unix.O_WRONLY|unix.O_TRUNC),
		"make a file in the state":  openFile(in("state/new"), unix.O_WRONLY|unix.O_CREAT),
		"remove its socket":         func() error { return unix.Unlink(in("state/eth0.sock")) },
		"make the ready file":       func() error { return CreateEmpty(in("ready/file")) },
		"write the ready file":      openFile(in("ready/file"), unix.O_WRONLY),
		"remove the ready file":     func() error { return unix.Unlink(in("ready/file")) },
		"make another file":         func() error { return CreateEmpty(in("other/new")) },
		"remove another file":       func() error { return unix.Unlink(in("other/file")) },
		"read another file":         openFile(in("other/file"), unix.O_RDONLY),
		"write another file":        openFile(in("other/file"), unix.O_WRONLY),
		"follow a link out":         openFile(in("state/out"), unix.O_RDONLY),
		"climb out":                 openFile(in("state/../other/file"), unix.O_RDONLY),
		"read passwords":            openFile("/etc/shadow", unix.O_RDONLY),
		"read memory by /proc":      openFile("/proc/self/mem", unix.O_RDWR),
		"change an option":          openFile("/proc/sys/net/ipv4/ip_forward", unix.O_WRONLY),
		"read an option":            openFile("/proc/sys/net/ipv4/ip_forward", unix.O_RDONLY),
		"make a directory":          func() error { return unix.Mkdir(in("ready/dir"), 0o700) },
		"make a link":               func() error { return unix.Symlink("/etc/shadow", in("ready/link")) },
		"rename":                    func() error { return unix.Rename(in("state/eth0.json"), in("state/gone")) },
		"link":                      func() error { return unix.Link(in("state/eth0.json"), in("ready/hard")) },
		"change a mode":             func() error { return unix.Chmod(in("state/eth0.json"), 0o777) },
		"change an owner":           func() error { return unix.Chown(in("state/eth0.json"), 1, 1) },
		"make a device":             func() error { return unix.Mknod(in("ready/mem"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))) },

		"start a program":    func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
		"start a process":    func() error { _, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{}); return err },
		"fork":               raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
		"fork anew":          raw(unix.SYS_CLONE3, none, 64),
		"signal itself":      func() error { return unix.Kill(os.Getpid(), 0) },
		"signal its parent":  func() error { return unix.Kill(os.Getppid(), 0) },
		"signal everybody":   func() error { return unix.Kill(-1, 0) },
		"trace":              func() error { return unix.PtraceAttach(os.Getppid()) },
		"read others":        raw(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid())),
		"hold a process":     func() error { _, err := unix.PidfdOpen(os.Getppid(), 0); return err },
		"take back a right":  takeBack,
		"be somebody else":   raw(unix.SYS_SETUID, 1),
		"be dumped":          func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
		"enter a namespace":  raw(unix.SYS_SETNS, 0, unix.CLONE_NEWNET),
		"make a namespace":   func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"mount":              func() error { return unix.Mount("none", in("ready"), "tmpfs", 0, "") },
		"load a BPF program": raw(unix.SYS_BPF, 5, none, 64),
		"watch by perf":      raw(unix.SYS_PERF_EVENT_OPEN, none, 0, 0),
		"use an io_uring":    raw(unix.SYS_IO_URING_SETUP, 1, none),
		"fault in user mode": raw(unix.SYS_USERFAULTFD, 0),
		"keep a key":         raw(unix.SYS_KEYCTL, 0),
		"make a memory file": func() error { _, err := unix.MemfdCreate("x", 0); return err },
		"load a module":      raw(unix.SYS_FINIT_MODULE, 0),
		"set the clock":      raw(unix.SYS_CLOCK_SETTIME, 0, none),

		"open a packet socket": socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
		"open a raw socket":    socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"open a Unix socket":   socket(unix.AF_UNIX, unix.SOCK_STREAM, 0),
		"open a vsock":         socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		"open a crypto socket": socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		"open MPTCP":           socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP),
		"open generic netlink": socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_GENERIC),
		"ask rtnetlink":        socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
		"ask a nameserver":     connect(53),
		"ask a web server":     connect(80),
		"make a tap":           openFile(tunDevice, unix.O_RDWR),
	}
}

// relinked is what the kubelet does to a volume whose content changes.
func relinked(volume string, then func() error) error {
	if status, err := os.Readlink(filepath.Join(volume, "status")); err != nil || status != "..data/status" {
		return errors.Join(errors.New("the test's volume is not what it should be"), err)
	}
	return then()
}

func takeBack() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_NET_ADMIN, Permitted: 1 << unix.CAP_NET_ADMIN}}
	return unix.Capset(&header, &data[0])
}

const (
	byCalls = "operation not permitted" // seccomp
	byRules = "permission denied"       // Landlock
)

// refused are the attempts that succeed, or fail otherwise than by the system call's being
// forbidden.
var refused = map[string]string{
	"read the state": "", "list the state": "", "read what was linked anew": "", "read what takes its place": "", "remove its socket": "",
	"make the ready file": "", "remove the ready file": "", "read an option": "", "signal itself": "",
	"ask rtnetlink": "", "ask a nameserver": "network is unreachable",
	"write the state": byRules, "truncate the state": byRules, "make a file in the state": byRules, "write the ready file": byRules,
	"make another file": byRules, "remove another file": byRules, "read another file": byRules, "write another file": byRules,
	"follow a link out": byRules, "climb out": byRules, "read passwords": byRules, "read memory by /proc": byRules,
	"change an option": byRules, "ask a web server": byRules, "make a tap": byRules,
}

// first are those that depend on one another.
var first = []string{"make the ready file", "write the ready file", "remove the ready file"}

func wantOf(name string) string {
	if want, ok := refused[name]; ok {
		return want
	}
	return byCalls
}

// said is what the confined process prints.
type said struct {
	Confinement Confinement
	Err         string
	Did         map[string]string
	Threads     []string // what other threads are told that were there before
}

// TestConfinedProcess is the process that TestWhatAConfinedProcessCannotDo starts.
func TestConfinedProcess(t *testing.T) {
	dir := os.Getenv(confinedEnv)
	if dir == "" {
		return
	}
	ask, answers := startThreads(8)
	c, err := Confine(Bounds{
		Read:   []string{filepath.Join(dir, "state"), filepath.Join(dir, "volume/status"), filepath.Join(dir, "place/file"), "/etc/hostname", "/proc/sys", filepath.Join(dir, "missing")},
		Create: []string{filepath.Join(dir, "ready")},
		Remove: []string{filepath.Join(dir, "ready"), filepath.Join(dir, "state")},
		Ask:    true,
	})
	s := said{Confinement: c, Did: map[string]string{}}
	if err != nil {
		s.Err = err.Error()
	}
	close(ask)
	for answer := range answers {
		s.Threads = append(s.Threads, answer)
	}
	todo := attempts(dir)
	do := func(name string) {
		s.Did[name] = ""
		if err := todo[name](); err != nil {
			s.Did[name] = rootCause(err)
		}
		delete(todo, name)
	}
	for _, name := range first {
		do(name)
	}
	for name := range todo {
		do(name)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.Write(append([]byte("SAID "), append(text, '\n')...))
}

func rootCause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// startThreads starts threads that, asked, say what they can do.
func startThreads(n int) (ask chan struct{}, answers chan string) {
	ask, answers = make(chan struct{}), make(chan string, n)
	var all, up sync.WaitGroup
	up.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			up.Done()
			<-ask
			_, shadow := unix.Open("/etc/shadow", unix.O_RDONLY, 0)
			_, packet := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
			has, err := capabilities()
			answers <- strings.Join([]string{errText(shadow), errText(packet), strconv.FormatUint(uint64(has[0].Effective|has[1].Effective), 16), errText(err)}, ", ")
		})
	}
	up.Wait()
	go func() { all.Wait(); close(answers) }()
	return ask, answers
}

func errText(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

// confinedDir is a directory with what the attempts are about.
func confinedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"state/eth0.json", "state/eth0.sock", "other/file", "ready/.keep", "volume/..1/status", "place/file", "place/next"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for path, target := range map[string]string{"state/out": "../other/file", "volume/..data": "..1", "volume/status": "..data/status"} {
		if err := os.Symlink(target, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func runConfined(t *testing.T, dir string, attr *syscall.SysProcAttr) said {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestConfinedProcess$")
	cmd.Env = append(os.Environ(), confinedEnv+"="+dir)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	_, text, found := strings.Cut(string(out), "SAID ")
	if !found {
		t.Fatalf("the confined process said nothing (%v):\n%s", err, out)
	}
	text, _, _ = strings.Cut(text, "\n")
	var s said
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return s
}

func TestWhatAConfinedProcessCannotDo(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("the attempts of one that was root before")
	}
	s := runConfined(t, confinedDir(t), &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	if s.Err != "" || len(s.Confinement.Lacking) > 0 {
		t.Fatalf("confined: %+v, %s", s.Confinement, s.Err)
	}
	if c := s.Confinement; c.Capabilities != "none" || !c.NoNewPrivileges || c.Seccomp == 0 || c.Landlock == 0 {
		t.Errorf("in force: %+v", c)
	}
	want := map[string]string{}
	for name := range s.Did {
		want[name] = wantOf(name)
	}
	if diff := cmp.Diff(want, s.Did); diff != "" {
		t.Errorf("what the kernel said (-want +got):\n%s", diff)
	}
	vain := 0
	for name := range want {
		if want[name] == byCalls || want[name] == byRules {
			vain++
		}
	}
	t.Logf("forbidden things tried: %d", vain)
	for _, thread := range s.Threads {
		if thread != byRules+", "+byCalls+", 0, done" {
			t.Errorf("a thread that was there before: %s", thread)
		}
	}
	if len(s.Threads) != 8 {
		t.Errorf("%d threads answered", len(s.Threads))
	}
}

// The names of system calls are the library's: one that is misspelled, or that an
// architecture calls otherwise, would be left out without a word.
func TestSystemCallsAreKnown(t *testing.T) {
	t.Parallel()
	only := map[string]*arch.Info{
		"newfstatat": arch.X86_64, "epoll_wait": arch.X86_64, "poll": arch.X86_64, "fstatat": arch.AARCH64,
	}
	some := someCalls(Bounds{Ask: true})
	names := slices.Clone(calls)
	for _, call := range some {
		names = append(names, call.Name)
	}
	for _, machine := range []*arch.Info{arch.X86_64, arch.AARCH64} {
		for _, name := range names {
			_, known := machine.SyscallNames[name]
			if want := only[name] == nil || only[name] == machine; known != want {
				t.Errorf("%s: there is a system call %q: %t, want %t", machine.Name, name, known, want)
			}
		}
	}
}
