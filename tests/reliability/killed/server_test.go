package killed

import (
	"context"
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/fault"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

// someServers is at which of the points prestart and serve are killed in the short form.
const someServers = 12

// TestPrestart has prestart killed, or the server that it starts, whichever is about to make
// the call. After another prestart there is one server, which answers.
func TestPrestart(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		at := func(t *testing.T, s *stage, n int) *fault.Call {
			t.Helper()
			return s.kill(t, n, "prestart")
		}
		inParts(t, b, someServers, "prestart, then prestart", at, func(t *testing.T, s *stage) {
			s.Podwire(t, "prestart")
			s.wantServed(t)
			tearDown(t, s)
			s.wantServers(t, 0)
		})
	})
}

// TestServe has the server killed up to where it says that it is ready.
func TestServe(t *testing.T) {
	t.Parallel()
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		at := func(t *testing.T, s *stage, n int) *fault.Call {
			t.Helper()
			s.Podwire(t, "setup")
			return s.killServe(t, n)
		}
		inParts(t, b, someServers, "serve, then serve", at, func(t *testing.T, s *stage) {
			cmd := exec.Command(s.program, "serve", "--ready-file", readyFile)
			var log pod.Log
			cmd.Stderr = &log
			if err := s.VM.Start(cmd); err != nil {
				t.Fatal(err)
			}
			s.Eventually(t, "serves", func() string {
				if status := s.status(t); !status.Serving {
					return "its log: " + log.String()
				}
				return ""
			})
			if s.wantServed(t); t.Failed() {
				t.Log(log.String())
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
	})
}

const readyFile = "/run/ready"

// killServe kills a server at a point. Where there is none up to where it is ready, that is
// its end as well.
func (s *stage) killServe(t *testing.T, n int) *fault.Call {
	t.Helper()
	if _, err := s.VM.Run(s.Ctx, "rm", "-f", readyFile); err != nil {
		t.Fatal(err)
	}
	ctx, ready := context.WithCancel(s.Ctx)
	defer ready()
	go func() {
		for ctx.Err() == nil {
			if _, err := s.VM.ReadFile(readyFile); err == nil {
				ready()
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	var reached atomic.Pointer[fault.Call]
	cmd := exec.CommandContext(ctx, s.program, "serve", "--ready-file", readyFile)
	r, err := fault.Run(s.VM.Space, fault.Changing, cmd, fault.At(n, fault.Verdict{Kill: true}, &reached))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.VM.ReadFile(readyFile); err != nil && !r.Killed {
		t.Fatalf("the server ended before it was ready: %+v", r)
	}
	return reached.Load()
}

// wantServed checks that one server serves the pod, and that a guest gets its lease from it.
func (s *stage) wantServed(t *testing.T) {
	t.Helper()
	status := s.status(t)
	if !status.Serving || !status.Applied || len(status.Drift) > 0 {
		t.Errorf("status = %+v", status)
	}
	s.wantServers(t, 1)
	if got := s.exchange(t)["ip"]; got != s.GuestAddr().String() {
		t.Errorf("the guest was told the address %q", got)
	}
}

// exchange has a guest at the tap get a lease, and returns what it is told.
func (s *stage) exchange(t *testing.T) map[string]string {
	t.Helper()
	var to world.Wired
	if err := s.first(t, &to); err != nil {
		t.Fatal(err)
	}
	guest := s.NewGuest(t)
	tap, err := wire.Connect(s.Ctx, s.VM.Space, to.Tap, guest, "nic0", to.MAC, to.MTU)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Udhcpc(guest, s.Dir, "nic0")
	if err != nil {
		t.Fatal(err)
	}
	told := s.Wait(t, c, "bound").Told
	c.Stop()
	if err := tap.Close(); err != nil {
		t.Error(err)
	}
	guest.Close()
	return told
}

// first reads what podwire's status says of the pod's interface.
func (s *stage) first(t *testing.T, into any) error {
	t.Helper()
	var result struct{ Interfaces []json.RawMessage }
	out, _ := s.VM.Run(s.Ctx, s.program, "status", "-o", "json") // whose code says whether all is well
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Interfaces) != 1 {
		t.Fatalf("podwire status printed %q: %v", out, err)
	}
	return json.Unmarshal(result.Interfaces[0], into)
}

func (s *stage) status(t *testing.T) (status world.Status) {
	t.Helper()
	if err := s.first(t, &status); err != nil {
		t.Fatal(err)
	}
	return status
}

// wantServers waits until so many servers run in the pod, which has its own processes.
func (s *stage) wantServers(t *testing.T, want int) {
	t.Helper()
	s.Eventually(t, "has "+strconv.Itoa(want)+" servers", func() string {
		out, err := s.VM.Run(s.Ctx, "sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done 2>/dev/null; true`)
		if err != nil {
			return err.Error()
		}
		if strings.Count(out, "podwire serve ") != want {
			return out
		}
		return ""
	})
}
