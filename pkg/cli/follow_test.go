package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/serve"
)

// untold is sent to when a log says that a guest could not be told.
type untold chan struct{}

func (s untold) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("is not told to the guest")) {
		select {
		case s <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// TestFollowingGoesOn when its socket has failed, and when what a guest is to be told could
// not be read, without another change of the network.
func TestFollowingGoesOn(t *testing.T) {
	node, pod := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, pod, "eth0", node, "veth0")
	pod.Addr(t, "eth0", "10.244.1.7/24")
	pod.Route(t, "0.0.0.0/0", "10.244.1.1", "eth0")
	c := config.Default()
	c.NetNS, c.StateDir, c.ResolvConf = pod.Path, t.TempDir(), "/dev/null"
	failed := make(untold, 1)
	a, err := NewAgent(c, slog.New(slog.NewTextHandler(failed, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := a.load("eth0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &service{name: "eth0", netns: r.Snapshot.NetNS, ctx: ctx, told: r.Lease, server: serve.New(serve.Options{Lease: r.Lease, Log: a.log})}
	w, err := a.kernel.Watch()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); a.followPod(ctx, w, []*service{s}) }()
	defer func() { cancel(); <-done }()
	told := func(mtu int) {
		t.Helper()
		for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			s.telling.Lock()
			is := s.told.MTU
			s.telling.Unlock()
			if is == mtu {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the guest is told of an MTU of %d, want %d", is, mtu)
			}
		}
	}
	pod.IP(t, "link set eth0 mtu 1400")
	told(1400)

	path := a.dir.Path("eth0")
	aside := filepath.Join(t.TempDir(), "state")
	text, err := os.ReadFile(path)
	if err == nil {
		err = errors.Join(os.WriteFile(aside, text, 0o600), os.WriteFile(path, []byte("{"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	pod.IP(t, "link set eth0 mtu 1300")
	<-failed
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	told(1300)
}

// TestWhatCannotBeReadIsAsItWas: a guest that runs does not lose its nameservers, and of that
// they may be old one is warned once.
func TestWhatCannotBeReadIsAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	warned := 0
	var files lastRead
	read := func() (string, error) {
		text, err := files.read(path, maxResolvConf, func(error) { warned++ })
		return string(text), err
	}
	if _, err := read(); err == nil || warned != 0 {
		t.Errorf("what never was there: %v, warned %d times", err, warned)
	}
	for i, text := range []string{"nameserver 10.96.0.10\n", "nameserver 10.96.0.11\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		is, err := read()
		got := []string{is}
		if err = errors.Join(err, os.Remove(path), os.Mkdir(path, 0o700)); err != nil { // to read one is an error
			t.Fatal(err)
		}
		for range 2 {
			is, err := read()
			if err != nil {
				t.Error(err)
			}
			got = append(got, is)
		}
		if !slices.Equal(got, []string{text, text, text}) || warned != i+1 {
			t.Errorf("it was read as %q, and warned of %d times", got, warned)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
