//go:build linux

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childLog is a log that a test can wait on.
type childLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *childLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *childLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *childLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// await waits until the log matches and returns the first group.
func (l *childLog) await(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	eventually(t, "a log line "+pattern, func() bool {
		found = re.FindStringSubmatch(l.String())
		return found != nil
	})
	return found[len(found)-1]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func startShell(ctx context.Context, t *testing.T, log *childLog, script string) *Child {
	t.Helper()
	c, err := StartChild(ctx, []string{"sh", "-c", script}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.process.Kill()
		<-c.Done()
	})
	return c
}

func TestChildEndsAsItsProgramDoes(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":     "<nil>",
		"exit 3":     `running "sh": exit status 3`,
		"kill -9 $$": `running "sh": signal: killed`,
	} {
		c := startShell(t.Context(), t, &childLog{}, script)
		if got := fmt.Sprint(c.Wait()); got != want {
			t.Errorf("%s: %s, want %s", script, got, want)
		}
		if err := c.Stop(); err != nil {
			t.Errorf("%s: stopping what has ended: %v", script, err)
		}
	}
}

func TestChildOutputIsLogged(t *testing.T) {
	log := &childLog{}
	c := startShell(t.Context(), t, log, `echo out; printf 'err: %5000s|' x >&2`)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	log.await(t, `level=DEBUG msg=out program=sh`)
	log.await(t, `level=INFO msg=.*err:`)
	log.await(t, `level=INFO msg=.*x\|`)
}

func TestChildThatIsMissing(t *testing.T) {
	_, err := StartChild(t.Context(), []string{"/nonexistent/libvirtd"}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `starting "/nonexistent/libvirtd"`) {
		t.Errorf("got %v", err)
	}
}

func TestChildIsStopped(t *testing.T) {
	tests := map[string]func(*Child, context.CancelFunc){
		"by hand":        func(c *Child, _ context.CancelFunc) { _ = c.Stop() },
		"by its context": func(_ *Child, cancel context.CancelFunc) { cancel() },
	}
	for name, stop := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			log := &childLog{}
			c := startShell(ctx, t, log, `trap 'kill $!; echo bye; exit 0' TERM; sleep 600 & echo ready; wait`)
			log.await(t, "msg=ready")
			stop(c, cancel)
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
			log.await(t, "msg=bye")
		})
	}
}

// asHelper runs one test of this binary again, in other surroundings.
const asHelper = "PODWIRE_CHILD_HELPER"

// A child must not outlive a parent that is killed, or a new parent would find
// it in the way.
func TestChildDiesWithItsParent(t *testing.T) {
	if os.Getenv(asHelper) != "" {
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		c, err := StartChild(t.Context(), []string{"sleep", "600"}, log)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "grandchild=%d\n", c.process.Pid)
		<-c.Done()
		return
	}
	t.Setenv(asHelper, "1")
	log := &childLog{}
	parent, err := StartChild(t.Context(), []string{os.Args[0], "-test.run=^TestChildDiesWithItsParent$"}, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(log.await(t, `grandchild=(\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the grandchild", func() bool { return ended(pid) })
}

// ended reports whether a process is gone, or a zombie that waits for an init.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

// libvirt waits for a machine's process to be gone, which it is not as a zombie.
func TestFirstProcessCollectsOrphans(t *testing.T) {
	if os.Getenv(asHelper) != "" {
		if os.Getpid() != 1 {
			t.Fatalf("process id %d, want 1", os.Getpid())
		}
		log := &childLog{}
		c := startShell(t.Context(), t, log, `(sh -c 'echo orphan=$$' &); exec sleep 600`)
		pid, err := strconv.Atoi(log.await(t, `orphan=(\d+)`))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the orphan to be collected", func() bool {
			return errors.Is(unix.Kill(pid, 0), unix.ESRCH)
		})
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); err == nil || err.Error() != `running "sh": signal: terminated` {
			t.Errorf("the child ended with %v", err)
		}
		return
	}
	unshare := []string{"unshare", "--pid", "--fork", "--kill-child"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	t.Setenv(asHelper, "1")
	log := &childLog{}
	c, err := StartChild(t.Context(), append(unshare, os.Args[0], "-test.run=^TestFirstProcessCollectsOrphans$"), log.logger())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log)
	}
}
