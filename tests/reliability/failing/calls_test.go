package failing

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// kinds are all calls that are made to fail: those that change something, and those that
// only look. Where a receive fails, the request was carried out, and its answer is lost.
var kinds = append([]string{"read", "recvfrom", "recvmsg", "getdents64", "getsockname", "getsockopt"}, fault.Changing...)

var errnos = []unix.Errno{unix.EPERM, unix.EBUSY, unix.ENOBUFS, unix.EINTR, unix.ENOSPC}

// interruptible are the calls that a signal may break off (signal(7)), which are made again
// by podwire or by Go's library.
var interruptible = []string{"openat", "read", "write", "fsync", "ioctl", "flock", "sendto", "recvfrom"}

// mostCalls is more than podwire makes in one run.
const mostCalls = 2000

// point is a call that is to fail.
type point struct {
	number int // among those of the process
	errno  unix.Errno
	child  bool // of a server that the program starts, and not of the program
}

// inject runs podwire, in which one call fails. What was reached is nil where there were
// fewer calls.
func (w *testWorld) inject(t *testing.T, p point, args ...string) (s said, reached *fault.Call) {
	t.Helper()
	var hit atomic.Pointer[fault.Call]
	var over atomic.Bool // what a server does from then on is left alone
	n := 0
	decide := func(c fault.Call) fault.Verdict {
		if c.Child != p.child || ofRuntime(c) || over.Load() {
			return fault.Verdict{}
		}
		if n++; n != p.number {
			return fault.Verdict{}
		}
		hit.Store(&c)
		return fault.Verdict{Errno: p.errno}
	}
	r, err := fault.Run(w.VM.Space, kinds, exec.CommandContext(w.Ctx, w.program, args...), decide)
	over.Store(true)
	if err != nil {
		t.Fatal(err)
	}
	return said{r.Code, r.Stdout, r.Stderr}, hit.Load()
}

// ofRuntime reports whether Go's runtime makes the call, for itself.
func ofRuntime(c fault.Call) bool {
	return strings.HasSuffix(c.What, "/cgroup") || strings.HasSuffix(c.What, "/mountinfo")
}

// tally counts points by what came of them.
type tally struct {
	codes map[unix.Errno]map[int]int
}

func (c *tally) add(errno unix.Errno, code int) {
	if c.codes == nil {
		c.codes = map[unix.Errno]map[int]int{}
	}
	if c.codes[errno] == nil {
		c.codes[errno] = map[int]int{}
	}
	c.codes[errno][code]++
}

func (c *tally) figure(t *testing.T, what string) {
	t.Helper()
	for _, errno := range errnos {
		codes := c.codes[errno]
		world.Figure(t, topic, fmt.Sprintf("points of %s, %s", what, unix.ErrnoName(errno)),
			fmt.Sprintf("%d (exit code 0: %d, 1: %d, 3: %d)", codes[done]+codes[failed]+codes[halfDone], codes[done], codes[failed], codes[halfDone]))
	}
}

// pace says which calls are tried.
type pace struct {
	every int  // how many calls are from one that is tried in the short form to the next
	all   bool // whether each is tried with every errno in the long form, and not with one
}

// paceOf is thorough with the default binding: with the others much is the same.
func paceOf(b pod.Binding) pace {
	if b == pod.Bridge {
		return pace{every: 4, all: true}
	}
	return pace{every: 13}
}

// errnosAt are those with which a call is tried; where it is one, they take turns.
func (p pace) errnosAt(number int) []unix.Errno {
	switch {
	case world.Long() && p.all:
		return errnos
	case world.Long():
		return errnos[number%len(errnos):][:1]
	}
	return errnos[number/p.every%len(errnos):][:1]
}

// each has a function try one call after another, which reports whether there was such a
// one.
func (p pace) each(t *testing.T, try func(number int, errno unix.Errno) (reached bool)) {
	t.Helper()
	step := p.every
	if world.Long() {
		step = 1
	}
	for number := 1; number < mostCalls; number += step {
		for _, errno := range p.errnosAt(number) {
			if !try(number, errno) || t.Failed() {
				return
			}
		}
	}
	t.Errorf("there are more than %d calls", mostCalls)
}

func TestEachCallOfSetupFails(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, patience)
		var points tally
		paceOf(b).each(t, func(number int, errno unix.Errno) bool {
			s, call := w.inject(t, point{number: number, errno: errno}, "setup", "--log-level", "error")
			if call == nil {
				w.wantWired(t, s, "setup")
				points.figure(t, "setup, "+string(b))
				return false
			}
			points.add(errno, s.code)
			w.wantHonest(t, s, errno, call)
			return true
		})
	})
}

// wantWired wants of a run in which nothing failed that it has wired the pod, and puts that
// back.
func (w *testWorld) wantWired(t *testing.T, s said, after string) {
	t.Helper()
	s.want(t, done)
	w.wantPlanned(t, after)
	w.try(t, "teardown").want(t, done)
	w.wantFound(t, "teardown")
}

// wantHonest wants the pod as it was found or as planned, and as the exit code of a setup
// says. Afterwards it is as it was found, and nothing is left.
func (w *testWorld) wantHonest(t *testing.T, s said, errno unix.Errno, call *fault.Call) {
	t.Helper()
	after := fmt.Sprintf("%s failed with %s", call, unix.ErrnoName(errno))
	now := w.Settled(t)
	isFound := slices.Equal(w.found, now)
	switch {
	case s.code == done:
		w.wantPlanned(t, after)
	case s.code == failed && isFound:
	case s.code == halfDone && !isFound:
		t.Logf("%s: podwire says truly that it could not be put back: %s", after, s.err)
	default:
		t.Fatalf("%s: exit code %d, and that the pod is as it was found is %v\n%s", after, s.code, isFound, s.err)
	}
	if errno == unix.EINTR && s.code != done && slices.Contains(interruptible, call.Name) {
		t.Fatalf("%s, and was not simply made again: %s", after, s.err)
	}
	w.try(t, "teardown", "--log-level", "error").want(t, done)
	if s.code != failed {
		w.wantFound(t, "teardown after "+after)
	}
	w.wantNothingLeft(t, after)
}

// wantNothingLeft looks for what a run left beside the network.
func (w *testWorld) wantNothingLeft(t *testing.T, after string) {
	t.Helper()
	if left := w.servers(t); len(left) > 0 {
		t.Fatalf("%s, and servers are left: %q", after, left)
	}
	if left := w.stateFiles(t); len(left) > 0 {
		t.Fatalf("%s, and in the state directory are left: %q", after, left)
	}
}

func TestEachCallOfTeardownFails(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		w := newWorld(t, b, patience)
		var points tally
		paceOf(b).each(t, func(number int, errno unix.Errno) bool {
			w.try(t, "setup", "--log-level", "error").want(t, done)
			s, call := w.inject(t, point{number: number, errno: errno}, "teardown", "--log-level", "error")
			if call == nil {
				s.want(t, done)
				w.wantFound(t, "teardown")
				points.figure(t, "teardown, "+string(b))
				return false
			}
			points.add(errno, s.code)
			w.wantPutBack(t, s, errno, call)
			return true
		})
	})
}

// wantPutBack wants the pod as it was found, or an exit code that says that it is not. Then
// another teardown puts it back.
func (w *testWorld) wantPutBack(t *testing.T, s said, errno unix.Errno, call *fault.Call) {
	t.Helper()
	after := fmt.Sprintf("%s failed with %s", call, unix.ErrnoName(errno))
	switch isFound := slices.Equal(w.found, w.Settled(t)); {
	case isFound && (s.code == done || s.code == failed):
	case !isFound && s.code == halfDone:
		t.Logf("%s: podwire says truly that it could not be put back: %s", after, s.err)
	default:
		t.Fatalf("%s: exit code %d, and that the pod is as it was found is %v\n%s", after, s.code, isFound, s.err)
	}
	if errno == unix.EINTR && s.code != done && slices.Contains(interruptible, call.Name) {
		t.Fatalf("%s, and was not simply made again: %s", after, s.err)
	}
	if s.code != done {
		w.try(t, "teardown", "--log-level", "error").want(t, done)
		w.wantFound(t, "a second teardown after "+after)
	}
	w.wantNothingLeft(t, after)
}

func TestEachCallOfPrestartFails(t *testing.T) {
	t.Parallel()
	for _, child := range []bool{false, true} {
		name := "before the server"
		if child {
			name = "in the server"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pod.Bridge, patience)
			var points tally
			pace{every: 6}.each(t, func(number int, errno unix.Errno) bool {
				s, call := w.inject(t, point{number: number, errno: errno, child: child}, "prestart", "--log-level", "error")
				if call == nil {
					w.wantWired(t, s, "prestart")
					points.figure(t, "prestart, "+name)
					return false
				}
				points.add(errno, s.code)
				if s.code == done {
					w.wantServed(t, call)
				}
				w.wantHonest(t, s, errno, call)
				return true
			})
		})
	}
}

// wantServed wants one server, and that it answers.
func (w *testWorld) wantServed(t *testing.T, call *fault.Call) {
	t.Helper()
	if all := w.servers(t); len(all) != 1 || !w.status(t).Serving {
		t.Fatalf("%s failed, prestart ended with 0, and there are the servers %q", call, all)
	}
}
