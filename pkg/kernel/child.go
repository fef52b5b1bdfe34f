//go:build linux

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// childGrace is how long a child may take to end after SIGTERM.
	childGrace = 10 * time.Second
	// drainTime is how long what an ended child has written is still waited for;
	// its own children may hold its output open for ever.
	drainTime = time.Second
)

// Child is a daemon that this process runs in the foreground and answers for.
//
// It is no exec.Cmd: one must not outlive the process that started it, and the
// process that starts one is often the first of its container, where it has to
// collect the orphans of others too.
type Child struct {
	name    string
	process *os.Process
	output  sync.WaitGroup
	done    chan struct{}
	err     error // valid once done is closed
}

// StartChild starts a program, which is stopped when ctx ends or this process
// dies. What it writes goes to the log line by line: its standard output at
// debug, its standard error at info. A signal from the terminal does not reach it.
//
// Where this process is the first of its PID namespace, every process of it that
// ends while the child runs is collected; so there at most one child may run at
// a time, and nothing else in this process may wait for one.
func StartChild(ctx context.Context, argv []string, log *slog.Logger) (*Child, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("starting %q: %w", argv[0], err)
	}
	c := &Child{name: argv[0], done: make(chan struct{})}
	started := make(chan error)
	go c.run(path, argv, log, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %q: %w", argv[0], err)
	}
	unbind := context.AfterFunc(ctx, func() { _ = c.Stop() })
	go func() {
		<-c.done
		unbind()
	}()
	return c, nil
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait waits for the child's end and returns nil where it exited with 0.
func (c *Child) Wait() error {
	<-c.done
	return c.err
}

// Stop asks the child to end, kills it if it does not within ten seconds, and
// returns when it is gone. An end that had to be forced is an error.
func (c *Child) Stop() error {
	if err := c.process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %q: %w", c.name, err)
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(childGrace):
	}
	_ = c.process.Kill()
	<-c.done
	return fmt.Errorf("stopping %q: it was killed, as it did not end within %s of SIGTERM", c.name, childGrace)
}

// run is the child's life. The parent-death signal is sent when the thread that
// forked ends (prctl(2), PR_SET_PDEATHSIG), so that thread is held until then.
func (c *Child) run(path string, argv []string, log *slog.Logger, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.start(path, argv, log)
	started <- err
	if err != nil {
		return
	}
	status, err := c.await()
	c.drain()
	if err == nil && status != "" {
		err = errors.New(status)
	}
	if err != nil {
		c.err = fmt.Errorf("running %q: %w", c.name, err)
	}
	close(c.done)
}

func (c *Child) start(path string, argv []string, log *slog.Logger) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	stdout, err := c.logLines(log, slog.LevelDebug)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := c.logLines(log, slog.LevelInfo)
	if err != nil {
		return err
	}
	defer stderr.Close()
	c.process, err = os.StartProcess(path, argv, &os.ProcAttr{
		Files: []*os.File{null, stdout, stderr},
		Sys:   &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM, Setpgid: true},
	})
	return err
}

// logLines returns a file whose lines are logged.
func (c *Child) logLines(log *slog.Logger, level slog.Level) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.output.Go(func() {
		defer r.Close()
		lines := bufio.NewReader(r)
		for {
			// A longer line is logged in pieces; to stop reading would stop the child.
			line, _, err := lines.ReadLine()
			if text := strings.TrimSpace(string(line)); text != "" {
				log.Log(context.Background(), level, text, "program", c.name)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					log.Warn("lost a program's output", "program", c.name, "err", err)
				}
				return
			}
		}
	})
	return w, nil
}

// await waits for the child's end and returns how it ended, or nothing where
// that was with exit status 0.
func (c *Child) await() (string, error) {
	if os.Getpid() != 1 {
		state, err := c.process.Wait()
		if err != nil || state.Success() {
			return "", err
		}
		return state.String(), nil
	}
	for {
		// A container's first process is the parent of all orphans. A machine that
		// has ended stays a zombie, which libvirt waits for in vain, until someone
		// collects it.
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR), err == nil && pid != c.process.Pid:
			continue
		case err != nil:
			return "", fmt.Errorf("waiting for its end: %w", err)
		case status.Signaled():
			return "signal: " + status.Signal().String(), nil
		case status.ExitStatus() != 0:
			return fmt.Sprintf("exit status %d", status.ExitStatus()), nil
		}
		return "", nil
	}
}

// drain waits, not for long, until all output is logged.
func (c *Child) drain() {
	drained := make(chan struct{})
	go func() {
		c.output.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
}
