package killed

import (
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

const (
	topic = "killed"
	// mostPoints is more than podwire has in any of its commands.
	mostPoints = 400
)

// stage is where podwire is killed.
type stage struct {
	*world.World
	program string
	before  []string // the pod's network as it was found
	wired   state    // after a setup that nothing happened to
}

// state is how a setup ends.
type state struct {
	Network []string
	Status  string
}

func newStage(t *testing.T, b pod.Binding) *stage {
	t.Helper()
	limit := 4 * time.Minute
	if world.Long() {
		limit = 20 * time.Minute
	}
	s := &stage{World: world.New(t, world.DualBridge, world.ResolvConf6, limit).With(b)}
	s.Enrich(t)
	var err error
	if s.program, err = s.Dir.Program("podwire"); err != nil {
		t.Fatal(err)
	}
	s.before = s.Settled(t)
	s.Podwire(t, "setup")
	s.wired = s.state(t)
	s.Podwire(t, "teardown")
	s.wantAsFound(t)
	return s
}

// state is that of a pod whose guest nobody serves, once all links are up but the tap,
// which nobody has opened.
func (s *stage) state(t *testing.T) (now state) {
	t.Helper()
	s.Eventually(t, "has its links up", func() string {
		now = s.passing(t)
		for _, line := range now.Network {
			if strings.Contains(line, " state DOWN ") && !strings.Contains(line, "tap-eth0") {
				return line
			}
		}
		return ""
	})
	return now
}

func (s *stage) passing(t *testing.T) state {
	t.Helper()
	out, _ := s.VM.Run(s.Ctx, s.program, "status", "-o", "json") // which says by its code that nobody does
	lines := s.Settled(t)
	for i := range lines {
		lines[i] = passing.ReplaceAllString(lines[i], "")
	}
	slices.Sort(lines)
	return state{Network: lines, Status: out}
}

// passing is what differs from one setup to the next: the numbers of links and of tc's
// actions, a bridge's timers, and how far a port of it has come.
var passing = regexp.MustCompile(`^[0-9]+: |\bindex [0-9]+ ref|[a-z_]+_timer +[0-9.]+|bridge_slave state [a-z]+`)

// parts are how many worlds share the points of one test, which wait for the kernel for
// most of the time of each.
func parts(every int) int {
	if every > 1 && !world.Long() {
		return 1
	}
	return 2
}

// inParts tries the points of a test, beginning with the first of every so many in the
// short form, in several worlds at once, and notes as a figure how many there were.
// at kills something at a point, or returns nil where there is none any more; after looks
// what became of it.
func inParts(t *testing.T, b pod.Binding, every int, figure string, at func(t *testing.T, s *stage, n int) *fault.Call, after func(t *testing.T, s *stage)) {
	t.Helper()
	shared := parts(every)
	if world.Long() {
		every = 1
	}
	var tried atomic.Int64
	t.Cleanup(func() { world.Figure(t, topic, figure+", "+string(b), tried.Load()) })
	for part := range shared {
		t.Run(strconv.Itoa(part), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, b)
			for n := 1 + part*every; ; n += shared * every {
				if n > mostPoints {
					t.Fatalf("still killed at call %d", mostPoints)
				}
				reached := at(t, s, n)
				if reached == nil {
					return
				}
				tried.Add(1)
				if after(t, s); t.Failed() {
					t.Fatalf("killed at the changing call %d: %v", n, reached)
				}
			}
		})
	}
}

// kill runs a command up to the n-th call that changes anything, and kills who is about to
// make it. There may be none.
func (s *stage) kill(t *testing.T, n int, args ...string) *fault.Call {
	t.Helper()
	var reached atomic.Pointer[fault.Call]
	cmd := exec.CommandContext(s.Ctx, s.program, append(args, "--log-level", "error")...)
	r, err := fault.Run(s.VM.Space, fault.Changing, cmd, fault.At(n, fault.Verdict{Kill: true}, &reached))
	if err != nil {
		t.Fatal(err)
	}
	at := reached.Load()
	if at == nil && r.Code != 0 {
		t.Fatalf("%v, which nobody killed: %+v", args, r)
	}
	if at != nil && at.Child && r.Code == 1 { // it says that nothing is left of it
		s.wantAsFound(t)
	}
	return at
}

func (s *stage) wantAsFound(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(s.before, s.Settled(t)); diff != "" {
		t.Errorf("the pod's network (-before +after):\n%s", diff)
	}
	left, err := s.VM.Run(s.Ctx, "find", "/run/podwire", "-mindepth", "1", "-not", "-name", "serve.log")
	if err != nil || left != "" {
		t.Errorf("left in the state directory (%v):\n%s", err, left)
	}
}

func (s *stage) wantWired(t *testing.T) {
	t.Helper()
	s.Eventually(t, "is as after a setup that nothing happened to", func() string {
		return cmp.Diff(s.wired, s.state(t))
	})
}
