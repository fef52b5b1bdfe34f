package world

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
)

// SettleTime is how long a guest may take for what needs no more than a few messages.
const SettleTime = 15 * time.Second

// Eventually waits until nothing is missing; what is, the function says.
func (w *World) Eventually(t *testing.T, what string, missing func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.Ctx, SettleTime)
	defer cancel()
	for {
		text := missing()
		if text == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting until it %s: %s", what, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Without says that a text has not got something in it.
func Without(text, part string) string {
	if strings.Contains(text, part) {
		return ""
	}
	return fmt.Sprintf("there is no %q in\n%s", part, text)
}

// Output runs a command in a space, which must succeed.
func (w *World) Output(t *testing.T, space *pod.Space, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := space.Run(w.Ctx, words[0], words[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Reaches waits until an address can be had from a space.
func (w *World) Reaches(t *testing.T, from *pod.Space, targets ...netip.Addr) {
	t.Helper()
	for _, target := range targets {
		w.Eventually(t, "reaches "+target.String(), func() string {
			if err := from.Ping(w.Ctx, target); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

// Daemon runs a program in a space until the test ends, and returns what it has
// printed so far.
func Daemon(t *testing.T, space *pod.Space, name string, args ...string) func() string {
	t.Helper()
	var log pod.Log
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := space.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	return log.String
}

// LocalRoute waits until the pod has the routes to addresses of its own, which the
// kernel adds some time after these.
func (w *World) LocalRoute(t *testing.T, addrs ...netip.Addr) {
	t.Helper()
	for _, addr := range addrs {
		w.Eventually(t, "has the route to "+addr.String(), func() string {
			return Without(w.Output(t, w.VM.Space, "ip -6 route show table local"), "local "+addr.String()+" ")
		})
	}
}

// Enrich gives the pod what is easily lost.
func (w *World) Enrich(t *testing.T) {
	t.Helper()
	for _, line := range []string{
		"address add 10.244.1.200/24 dev eth0 label eth0:second",
		"address add fd00::7/64 dev eth0 nodad",
		"route add 10.9.0.0/16 via 10.244.1.1 metric 50 src 10.244.1.200 mtu 1400 protocol 99",
		"route add 10.8.0.0/16 via 10.244.1.1 table 100",
		"-6 route add 2001:db8:9::/48 via fd00:10:244:1::1 metric 50",
		"neighbour add 10.244.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
	} {
		if err := w.VM.IP(w.Ctx, "%s", line); err != nil {
			t.Fatal(err)
		}
	}
	w.LocalRoute(t, netip.MustParseAddr("fd00::7"))
}
