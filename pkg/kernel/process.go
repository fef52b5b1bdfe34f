//go:build linux

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readyEnv = "PODWIRE_READY_FD"
	readyFD  = 3 // the first after standard input, output and error
	// lastWords is how long a child that closed its pipe may take to end by
	// itself, so that its own exit status can be told.
	lastWords = time.Second
)

// Detach starts argv in a session of its own and returns its process id once it
// has called NotifyReady. Its standard input is empty, its output is appended to
// the file at logPath, or dropped where that is empty. env is its whole
// environment; nil is the caller's. A child that ends before it is ready, or that
// is not when ctx ends, is an error, with the last line that it logged; it does
// not outlive it. Where there can be no log, the error is ErrNoLog, and nothing was started.
func Detach(ctx context.Context, argv []string, env []string, logPath string) (pid int, err error) {
	if len(argv) == 0 {
		return 0, errors.New("starting a process: no command")
	}
	log, offset, err := openLog(logPath)
	if err != nil {
		return 0, fmt.Errorf("starting %q: %w: %w", argv[0], ErrNoLog, err)
	}
	defer log.Close()
	cmd, ready, err := start(argv, env, log)
	if err != nil {
		return 0, fmt.Errorf("starting %q: %w", argv[0], err)
	}
	defer ready.Close()
	if err := awaitReady(ctx, cmd, ready); err != nil {
		if line := lastLine(logPath, offset); line != "" {
			err = fmt.Errorf("%w; it said: %s", err, line)
		}
		return 0, fmt.Errorf("starting %q: %w", argv[0], err)
	}
	// Somebody must take its exit status while this process lives.
	go func() { _ = cmd.Wait() }()
	return cmd.Process.Pid, nil
}

// ErrNoLog says that what a child says cannot be kept where it was to be.
var ErrNoLog = errors.New("no log can be written")

// start starts a child and returns the pipe through which it is to say that it is ready.
func start(argv, env []string, log *os.File) (*exec.Cmd, *os.File, error) {
	if env == nil {
		env = os.Environ()
	}
	cmd := &exec.Cmd{
		Path: argv[0], Args: argv,
		Env:    append(env[:len(env):len(env)], readyEnv+"="+strconv.Itoa(readyFD)),
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	var err error
	if !strings.Contains(argv[0], "/") {
		if cmd.Path, err = exec.LookPath(argv[0]); err != nil {
			return nil, nil, err
		}
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		ready.Close()
		return nil, nil, err
	}
	return cmd, ready, nil
}

// awaitReady waits for the child's byte. If none comes, the child is ended and
// taken leave of.
func awaitReady(ctx context.Context, cmd *exec.Cmd, ready *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.ReadFull(ready, make([]byte, 1))
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("waiting until it is ready: %w", context.Cause(ctx))
	}
	kill := time.AfterFunc(lastWords, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("ended before it was ready: %w", err)
	}
	return errors.New("ended before it was ready")
}

// lastLine returns the last line of text in a log after offset.
func lastLine(path string, offset int64) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	last := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			last = line
		}
	}
	return last
}

// NotifyReady tells the process that started this one by Detach that it is
// ready. Without such a process, and the second time, it does nothing.
func NotifyReady() {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil || fd < readyFD {
		return
	}
	_ = os.Unsetenv(readyEnv) // not for this process's own children
	pipe := os.NewFile(uintptr(fd), "ready")
	_, _ = pipe.Write([]byte{1})
	pipe.Close()
}
