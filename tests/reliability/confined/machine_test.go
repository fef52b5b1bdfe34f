package confined

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/checkout"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// resolverIn asks a nameserver from inside of a space, by one protocol.
func resolverIn(space *pod.Space, network, server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return space.Dial(ctx, network, net.JoinHostPort(server, "53"))
	}}
}

func statusOf(t *testing.T, out string) status {
	t.Helper()
	var result struct{ Interfaces []status }
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire status printed %q: %v", out, err)
	}
	return result.Interfaces[0]
}

// thread is one of a process of this machine.
type thread struct {
	tid           int
	netns, status string
}

func threadsOf(t *testing.T, pid int) []thread {
	t.Helper()
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(dirs) < 2 {
		t.Fatalf("threads: %v, %v", dirs, err)
	}
	var out []thread
	for _, dir := range dirs {
		tid, _ := strconv.Atoi(filepath.Base(dir))
		text, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, thread{tid, netnsOf(t, filepath.Join(dir, "ns/net")), string(text)})
	}
	return out
}

func netnsOf(t *testing.T, path string) string {
	t.Helper()
	name, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// cost is that of a start.
type cost struct {
	start time.Duration
	rss   int // kB
}

// startOnce starts a server, and kills it when it has answered.
func (w *testWorld) startOnce(t *testing.T, confine string) cost {
	t.Helper()
	w.shell(t, "rm -f "+readyFile)
	began := time.Now()
	cmd := exec.Command(w.program, "serve", "--confine", confine, "--ready-file", readyFile)
	if err := w.VM.Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	path := fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, readyFile)
	for {
		if _, err := os.Stat(path); err == nil {
			break
		}
		select {
		case <-w.Ctx.Done():
			t.Fatal("the server is not ready")
		case <-time.After(100 * time.Microsecond):
		}
	}
	took := time.Since(began)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	rss, _ := strconv.Atoi(strings.Fields(rest)[0])
	return cost{took, rss}
}

func median(all []cost) cost {
	var out cost
	slices.SortFunc(all, func(a, b cost) int { return int(a.start - b.start) })
	out.start = all[len(all)/2].start
	slices.SortFunc(all, func(a, b cost) int { return a.rss - b.rss })
	out.rss = all[len(all)/2].rss
	return out
}

// TestWhatAConfinedProcessCannotDo runs the tests of package kernel in which a process
// confines itself by the server's own code and then tries what is forbidden. They are of
// a program without cgo, as podwire is.
func TestWhatAConfinedProcessCannotDo(t *testing.T) {
	t.Parallel()
	dir, err := checkout.Find()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(string(dir), "hack", "go.sh"), "test", "-count=1", "-v", "-run", "Confined|SystemCalls", "./pkg/kernel")
	cmd.Dir = string(dir)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestWhatAConfinedProcessCannotDo") {
		t.Fatalf("%v\n%s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "forbidden things tried: ")
	world.Figure(t, topic, "forbidden things that a confined process tried in vain", strings.Fields(rest + " 0")[0])
}

func wiredOf(t *testing.T, out string) world.Wired {
	t.Helper()
	var result struct{ Interfaces []world.Wired }
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire printed %q: %v", out, err)
	}
	return result.Interfaces[0]
}
