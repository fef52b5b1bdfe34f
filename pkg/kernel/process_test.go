//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// detach starts a script whose end the test sees to.
func detach(ctx context.Context, t *testing.T, script, log string) (int, error) {
	t.Helper()
	pid, err := Detach(ctx, []string{"sh", "-c", script}, nil, log)
	if err == nil {
		t.Cleanup(func() {
			_ = unix.Kill(pid, unix.SIGKILL)
			until(t, "the process to be reaped", func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
		})
	}
	return pid, err
}

func TestDetachReturnsWhenTheChildIsReady(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("an older line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const script = `echo out; echo err >&2; echo "fd $PODWIRE_READY_FD"; printf x >&3; exec 3>&-; read line || echo "no input"; exec sleep 600`
	pid, err := detach(t.Context(), t, script, log)
	if err != nil {
		t.Fatal(err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("its session is %d: %v, want its own", sid, err)
	}
	const want = "an older line\nout\nerr\nfd 3\nno input\n"
	until(t, "the child's words", func() bool {
		got, err := os.ReadFile(log)
		return err == nil && string(got) == want
	})
}

func TestDetachTellsWhyTheChildEnded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, want string }{
		"status":     {"echo first; echo last words >&2; exit 3", `starting "sh": ended before it was ready: exit status 3; it said: last words`},
		"no words":   {"exit 4", `starting "sh": ended before it was ready: exit status 4`},
		"success":    {"true", `starting "sh": ended before it was ready`},
		"signal":     {"kill -9 $$", `starting "sh": ended before it was ready: signal: killed`},
		"pipe alone": {"exec 3>&-; exec sleep 600", `starting "sh": ended before it was ready: signal: killed`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, []byte("of an older child\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := detach(t.Context(), t, c.script, log); err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestDetachEndsTheChildWithTheContext(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := Detach(ctx, []string{"sh", "-c", "echo $$; exec sleep 600"}, nil, log)
		ended <- err
	}()
	until(t, "the child to say its number", func() bool {
		b, _ := os.ReadFile(log)
		return strings.HasSuffix(string(b), "\n")
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the child lives on: %v", err)
	}
}

func TestDetachWithoutAProgramOrALog(t *testing.T) {
	t.Parallel()
	if _, err := Detach(t.Context(), []string{"/nonexistent/podwire"}, nil, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such file: %v", err)
	}
	if _, err := Detach(t.Context(), []string{"podwire-nonexistent"}, nil, ""); err == nil {
		t.Error("no such command: started")
	}
	if _, err := Detach(t.Context(), nil, nil, ""); err == nil {
		t.Error("no command: started")
	}
	if _, err := Detach(t.Context(), []string{"true"}, nil, "/nonexistent/log"); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrNoLog) {
		t.Errorf("no directory for the log: %v", err)
	}
	if _, err := detach(t.Context(), t, "printf x >&3; exec sleep 600", ""); err != nil {
		t.Errorf("no log: %v", err)
	}
}

// asServer makes the test binary the child of TestNotifyReady.
const asServer = "PODWIRE_TEST_SERVER"

func TestNotifyReadyTellsTheParentOnce(t *testing.T) {
	if os.Getenv(asServer) != "" {
		NotifyReady()
		NotifyReady()
		fmt.Println("environment:", os.Getenv(readyEnv))
		select {}
	}
	log := filepath.Join(t.TempDir(), "log")
	argv := []string{os.Args[0], "-test.run=^TestNotifyReadyTellsTheParentOnce$"}
	pid, err := Detach(t.Context(), argv, append(os.Environ(), asServer+"=1"), log)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the child's words", func() bool {
		b, _ := os.ReadFile(log)
		return string(b) == "environment: \n"
	})
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	until(t, "the process to be reaped", func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
}

func TestNotifyReadyWithoutAParentDoesNothing(t *testing.T) {
	for _, fd := range []string{"", "x", "1", "-3"} {
		t.Setenv(readyEnv, fd)
		NotifyReady()
	}
}

func TestLockIsHeldByOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	if _, err := Lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	second := make(chan error)
	go func() {
		unlock, err := Lock(t.Context(), dir)
		if err == nil {
			unlock()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Errorf("the second did not wait: %v", err)
	default:
	}
	unlock()
	if err := <-second; err != nil {
		t.Errorf("after it was given up: %v", err)
	}
	unlock() // of nobody's lock
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestLockNeedsADirectory(t *testing.T) {
	t.Parallel()
	if _, err := Lock(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestUptimeGoesForward(t *testing.T) {
	t.Parallel()
	first := Uptime()
	if second := Uptime(); first <= 0 || second < first || second-first > time.Minute {
		t.Errorf("%s, then %s", first, second)
	}
}
