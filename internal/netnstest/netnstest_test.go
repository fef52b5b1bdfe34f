//go:build linux

package netnstest

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func own(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNamespaceIsNewAndEntered(t *testing.T) {
	before := own(t)
	a, b := New(t), New(t)
	seen := map[string]bool{before: true}
	for _, ns := range []*NS{a, b} {
		inside := ""
		ns.Do(t, func() { inside = own(t) })
		if seen[inside] {
			t.Errorf("%s is not new", inside)
		}
		seen[inside] = true
		if got := strings.TrimSpace(ns.Run(t, "readlink", "/proc/self/ns/net")); got != inside {
			t.Errorf("a command is in %s, not in %s", got, inside)
		}
		f, err := os.Open(ns.Path)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if after := own(t); after != before {
		t.Errorf("the test is in %s now", after)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	mounts := func() string {
		b, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	New(t) // the poller's own files stay open from the first on
	filesBefore, mountsBefore := files(), mounts()
	t.Run("inner", func(t *testing.T) {
		a, b := New(t), New(t)
		Veth(t, a, "x0", b, "y0")
		a.Packet(t, "x0")
		if mounts() != mountsBefore {
			t.Error("something is mounted")
		}
	})
	if after := files(); after != filesBefore {
		t.Errorf("%d open files, before %d", after, filesBefore)
	}
}

func TestVethJoinsTwoNamespaces(t *testing.T) {
	a, b := New(t), New(t)
	Veth(t, a, "x0", b, "y0")
	a.Addr(t, "x0", "192.0.2.1/24")
	b.Addr(t, "y0", "192.0.2.2/24")
	b.Addr(t, "lo", "198.51.100.1/32")
	a.Route(t, "198.51.100.0/24", "192.0.2.2", "x0")
	a.Route(t, "203.0.113.0/24", "", "x0")
	a.IP(t, "route add 10.0.0.0/8 via 192.0.2.2", "-6 addr add fd00::1/64 dev x0 nodad", "link set x0 mtu 1400")
	for command, want := range map[string][]string{
		"ip route":            {"198.51.100.0/24 via 192.0.2.2 dev x0", "203.0.113.0/24 dev x0 scope link", "10.0.0.0/8 via 192.0.2.2"},
		"ip addr show x0":     {"192.0.2.1/24", "fd00::1/64", "mtu 1400"},
		"ip -6 route":         {"fd00::/64 dev x0"},
		"ip addr show lo":     {"127.0.0.1/8", "LOOPBACK,UP"},
		"ip link show dev x0": {"x0@if"},
	} {
		words := strings.Fields(command)
		got := a.Run(t, words[0], words[1:]...)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", command, w, got)
			}
		}
	}

	if a.Index(t, "x0") == 0 || a.Index(t, "none") != 0 {
		t.Error("links have wrong numbers")
	}
	a.Delete(t, "x0")
	if b.Index(t, "y0") != 0 {
		t.Error("the other end is still there")
	}
}

func TestPacketsComeInOrder(t *testing.T) {
	a, b := New(t), New(t)
	Veth(t, a, "x0", b, "y0")
	from, to := a.Packet(t, "x0"), b.Packet(t, "y0")
	frame := func(n byte) []byte { return append(make([]byte, 12), 0x88, 0xb5, n) }
	ours := func(b []byte) bool { return len(b) == 15 && b[12] == 0x88 }
	for n := range byte(10) {
		from.Send(t, frame(n))
	}
	for n := range byte(10) {
		if got := to.Next(t, time.Second, ours); got == nil || got[14] != n {
			t.Fatalf("frame %d is %x", n, got)
		}
	}
	if got := to.Next(t, time.Millisecond, ours); got != nil {
		t.Errorf("one frame too many: %x", got)
	}

	b.Down(t, "y0")
	if strings.Contains(b.Run(t, "ip", "link", "show", "y0"), "state UP") {
		t.Error("y0 is still up")
	}
	b.Up(t, "y0")
}
