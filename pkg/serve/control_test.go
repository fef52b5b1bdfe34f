package serve

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// control serves a control socket until the test ends.
func control(t *testing.T, handle func(Op) (*Status, error)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "eth0.sock")
	c, err := Listen(path, slog.New(slog.DiscardHandler), handle)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if _, err := os.Stat(path); err == nil {
			t.Error("the socket is still there")
		}
	})
	return path
}

func TestAskGetsTheStatus(t *testing.T) {
	path := control(t, func(op Op) (*Status, error) {
		if op != OpStatus {
			return nil, errors.New("no such request")
		}
		return &Status{Counts: map[string]uint64{"arp-reply": 3}}, nil
	})
	st, err := Ask(t.Context(), path, OpStatus)
	if err != nil || st.PID != os.Getpid() || st.Counts["arp-reply"] != 3 {
		t.Errorf("status = %+v, %v", st, err)
	}
	if _, err := Ask(t.Context(), path, "dance"); err == nil || err.Error() != "no such request" {
		t.Errorf("err = %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth0.sock")
	if _, err := Ask(t.Context(), path, OpStatus); !errors.Is(err, ErrNotServing) {
		t.Errorf("no socket: err = %v, want ErrNotServing", err)
	}
	stale(t, path)
	if _, err := Ask(t.Context(), path, OpStatus); !errors.Is(err, ErrNotServing) {
		t.Errorf("stale socket: err = %v, want ErrNotServing", err)
	}
}

// stale leaves a socket behind that nobody listens on, as a killed server does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eth0.sock")
	stale(t, path)
	c, err := Listen(path, slog.New(slog.DiscardHandler), func(Op) (*Status, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	c.Close()

	live := control(t, func(Op) (*Status, error) { return &Status{}, nil })
	if _, err := Listen(live, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "already served by process") {
		t.Errorf("err = %v, want one that names the server", err)
	}
}

func TestNonsenseOnTheSocketIsDropped(t *testing.T) {
	path := control(t, func(Op) (*Status, error) { return &Status{}, nil })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("nonsense got an answer")
	}
	conn.Close()
	if _, err := Ask(t.Context(), path, OpStatus); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestMoreThanMayAskAtATimeAreTurnedAway, and those who say nothing keep nobody out
// for longer than a request may take.
func TestMoreThanMayAskAtATimeAreTurnedAway(t *testing.T) {
	path := control(t, func(Op) (*Status, error) { return &Status{}, nil })
	var silent []net.Conn
	for range mostAsking {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("one more is heard")
	}
	conn.Close()
	for _, conn := range silent {
		conn.Close()
	}
	for _, err := Ask(t.Context(), path, OpStatus); err != nil; _, err = Ask(t.Context(), path, OpStatus) {
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestARequestWithoutEndIsDropped(t *testing.T) {
	path := control(t, func(Op) (*Status, error) { return &Status{}, nil })
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(`{"op":"`)); err != nil {
		t.Fatal(err)
	}
	for written := 0; written < 10*longestRequest; written += 1024 {
		if _, err := conn.Write(bytes.Repeat([]byte("x"), 1024)); err != nil {
			return
		}
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("it got an answer")
	}
}

// TestAPanicOverARequestEndsThatOneAlone holds of what the server does for it, too.
func TestAPanicOverARequestEndsThatOneAlone(t *testing.T) {
	path := control(t, func(op Op) (*Status, error) {
		if op == OpReload {
			panic("boom")
		}
		return &Status{}, nil
	})
	if _, err := Ask(t.Context(), path, OpReload); err == nil {
		t.Error("there was an answer")
	}
	if _, err := Ask(t.Context(), path, OpStatus); err != nil {
		t.Errorf("after it: %v", err)
	}
}
