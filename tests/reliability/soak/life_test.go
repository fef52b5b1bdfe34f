package soak

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/guest"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/world"
)

// soak is a world with a guest that renews its lease all the time.
type soak struct {
	*world.World
	guest    *guest.Machine
	nic, ip  string // the guest's, as it names them
	stopPing func() (lost, sent int)

	server    *exec.Cmd
	serverLog *pod.Log
	ended     chan error
	starts    []time.Duration // from exec to answering
	did       map[string]int  // faults, by their names
	tried     int             // times that a call of a setup was killed or failed
	dns       string          // that the guest is told; empty for what the pod has

	mu     sync.Mutex
	leases []leased
}

// leased is a lease that the guest got, and when it said so.
type leased struct {
	at   time.Time
	told string
}

// serve starts the server, as somebody who supervises it does.
func (s *soak) serve(t *testing.T) {
	t.Helper()
	program, err := s.Dir.Program("podwire")
	if err != nil {
		t.Fatal(err)
	}
	const ready = "/run/served"
	_ = s.VM.Do(func() error { return syscall.Unlink(ready) }) // a killed one leaves it
	log := &pod.Log{}
	cmd := exec.Command(program, "serve", "--ready-file", ready)
	cmd.Stdout, cmd.Stderr = log, log
	start := time.Now()
	if err := s.VM.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // of a test that failed
	s.server, s.serverLog, s.ended = cmd, log, ended
	for {
		if _, err := s.VM.ReadFile(ready); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the server ended: %v\n%s", err, log)
		case <-s.Ctx.Done():
			t.Fatalf("the server is not ready:\n%s", log)
		case <-time.After(time.Millisecond):
		}
	}
	s.starts = append(s.starts, time.Since(start))
}

// killServer ends the server as a crash does.
func (s *soak) killServer(t *testing.T) {
	t.Helper()
	if err := s.server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.ended
}

func (s *soak) stopServer(t *testing.T) {
	t.Helper()
	if err := s.server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("the server ended: %v\n%s", err, s.serverLog)
	}
	if strings.Contains(s.serverLog.String(), "panic") {
		t.Errorf("the server's log has a panic:\n%s", s.serverLog)
	}
}

// memory is what the server holds, in KiB.
func (s *soak) memory(t *testing.T) string {
	t.Helper()
	text, err := s.VM.ReadFile(fmt.Sprintf("/proc/%d/status", s.Status(t)[0].PID))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`VmRSS:\s+(.*)`).FindSubmatch(text)
	if match == nil {
		t.Fatalf("no VmRSS in\n%s", text)
	}
	return string(match[1])
}

func (s *soak) inGuest(t *testing.T, command string) {
	t.Helper()
	out, status, err := s.guest.Run(s.Ctx, command)
	if err != nil || status != 0 {
		t.Fatalf("in the guest: %q: %d %v\n%s", command, status, err, out)
	}
}

// watch notes what the guest says of its leases, until its console ends.
func (s *soak) watch() {
	for next := 0; ; {
		match, after, err := s.guest.WaitAfter(s.Ctx, next, "^"+guest.Prefix+"lease event=(bound|renew) .*")
		if err != nil {
			return
		}
		next = after
		s.mu.Lock()
		s.leases = append(s.leases, leased{time.Now(), match[0]})
		s.mu.Unlock()
	}
}

// renewed waits until the guest gets a lease with its address that has all that is to be
// told, from now on.
func (s *soak) renewed(t *testing.T, what, told string) time.Duration {
	t.Helper()
	since := time.Now()
	ctx, cancel := context.WithTimeout(s.Ctx, patience)
	defer cancel()
	for {
		last := s.last()
		if last.at.After(since) && strings.Contains(last.told, told) {
			if !strings.Contains(last.told, " ip="+s.ip+" ") {
				t.Fatalf("%s, and then the guest had another lease: %s", what, last.told)
			}
			return last.at.Sub(since)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s, and then the guest got no lease with %q within %s; the last was %s\nthe server's log:\n%s",
				what, told, patience, last.told, s.serverLog)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *soak) last() leased {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.leases) == 0 {
		return leased{}
	}
	return s.leases[len(s.leases)-1]
}

// figures are how many leases the guest got, and the longest time without one.
func (s *soak) figures() (number int, longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 1; i < len(s.leases); i++ {
		longest = max(longest, s.leases[i].at.Sub(s.leases[i-1].at))
	}
	return len(s.leases), longest
}

// ping has another pod ask the guest's pod for an answer five times a second until stop is
// called, which says how many were not answered.
func (s *soak) ping(t *testing.T) (stop func() (lost, sent int)) {
	t.Helper()
	busybox, err := s.Dir.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	out := &pod.Log{}
	cmd := exec.Command(busybox, "ping", "-i", "0.2", s.VM.Addr.Addr().String())
	cmd.Stdout, cmd.Stderr = out, out
	if err := s.Other.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() (lost, sent int) {
		_ = cmd.Process.Signal(syscall.SIGINT) // then it says how many
		_ = cmd.Wait()                         // with 1 where one was lost at the end
		var received int
		text := out.String()
		_, summary, _ := strings.Cut(text, "statistics ---\n")
		if _, err := fmt.Sscanf(summary, "%d packets transmitted, %d packets received", &sent, &received); err != nil {
			t.Fatalf("ping said %v:\n%s", err, text)
		}
		return sent - received, sent
	}
}
