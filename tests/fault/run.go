package fault

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
)

// Call is a system call that is about to be made.
type Call struct {
	Number  int    // among those counted in this run, from 1
	Name    string // such as "sendto"
	PID     int    // of the process, in the test's namespace
	Child   bool   // whether the process is not the one that was started
	What    string // is said in words where it can be told: a path, a netlink message, an ioctl
	Changes bool   // whether it changes anything, in so far as it can be told
}

// String is for the messages of tests.
func (c Call) String() string {
	return fmt.Sprintf("call %d, %s %s", c.Number, c.Name, c.What)
}

// Verdict says what becomes of a call. The zero one lets it be made.
type Verdict struct {
	Kill  bool       // the process, before the call is made
	Errno unix.Errno // what the call returns, without being made
}

// Result is what became of a program.
type Result struct {
	Stdout, Stderr string
	Code           int // its exit code, or -1 where a signal ended it
	Calls          int // that were counted until it ended
	Killed         bool
}

// Run runs a program in a space and has decide say of each call of the kinds whether it is
// made. decide is called by one goroutine, for one call after another, and the thread that
// makes the call waits meanwhile. It goes on being called for children that the program
// left behind, after Run has returned. That the program fails is no error.
//
// What the program prints goes into the result and not to cmd's writers: of those, Wait
// would wait for a child that was left behind.
func Run(s *pod.Space, kinds []string, cmd *exec.Cmd, decide func(Call) Verdict) (Result, error) {
	stdout, err := memory("stdout")
	if err != nil {
		return Result{}, err
	}
	defer stdout.Close()
	stderr, err := memory("stderr")
	if err != nil {
		return Result{}, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	sup := &supervisor{decide: decide, looked: map[int]int{}}
	if err := sup.start(s, kinds, cmd); err != nil {
		return Result{}, err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Result{}, fmt.Errorf("waiting for %q: %w", cmd.Path, err)
	}
	r := Result{Code: cmd.ProcessState.ExitCode(), Calls: int(sup.counted.Load()), Killed: sup.killed.Load()}
	if r.Stdout, err = content(stdout); err != nil {
		return Result{}, err
	}
	if r.Stderr, err = content(stderr); err != nil {
		return Result{}, err
	}
	if failed := sup.failed.Load(); failed != nil {
		return Result{}, fmt.Errorf("asking about the calls of %q: %w", cmd.Path, *failed)
	}
	return r, nil
}

// At is a decide that has the n-th call that changes anything end in one way. That call is
// written to reached, once it is.
func At(n int, v Verdict, reached *atomic.Pointer[Call]) func(Call) Verdict {
	changing := 0
	return func(c Call) Verdict {
		if c.Changes {
			changing++
		}
		if !c.Changes || changing != n {
			return Verdict{}
		}
		reached.Store(&c)
		return v
	}
}

// start starts a program on a thread that has the filter.
func (u *supervisor) start(s *pod.Space, kinds []string, cmd *exec.Cmd) error {
	program, err := filter(kinds)
	if err != nil {
		return err
	}
	return s.StartAfter(cmd, func() error {
		// From here on the kernel asks about the calls of this thread, too. It is the
		// supervisor, on another one, that lets them be made. Between fork and exec the
		// child may make none that is asked about: this program's other threads may wait
		// for it, the supervisor's as well.
		u.thread = unix.Gettid()
		fd, err := listen(program)
		if err != nil {
			return err
		}
		go u.run(fd)
		return nil
	})
}

// memory is a file without a directory that it would be left in.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), memoryPath+name), nil
}

// memoryPath begins the name of such a file, as /proc has it.
const memoryPath = "/memfd:"

func content(f *os.File) (string, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	return string(text), err
}
