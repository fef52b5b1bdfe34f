package serve

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podwire/podwire/pkg/lease"
)

// buffer is a log that several may write at a time.
type buffer struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.log.String()
}

// brokenTap panics as often as it is told, in each of what a tap does.
type brokenTap struct {
	*tap
	read, write, attach atomic.Int32
}

func due(n *atomic.Int32) bool { return n.Add(-1) >= 0 }

func (t *brokenTap) Read(b []byte) (int, error) {
	if due(&t.read) {
		panic("read")
	}
	return t.tap.Read(b)
}

func (t *brokenTap) Write(b []byte) (int, error) {
	if due(&t.write) {
		panic("write")
	}
	return t.tap.Write(b)
}

func (t *brokenTap) Reattach(ctx context.Context, l lease.Lease) error {
	if due(&t.attach) {
		panic("attach")
	}
	return t.tap.Reattach(ctx, l)
}

// brokenDNS panics the first times that it runs, and over each frame of the guest.
type brokenDNS struct {
	runs atomic.Int32
	ran  chan struct{}
}

func (d *brokenDNS) FromGuest([]byte) error { panic("from the guest") }

func (d *brokenDNS) Run(ctx context.Context, _ func([]byte) error) error {
	if d.runs.Add(1) <= 2 {
		panic("run")
	}
	close(d.ran)
	<-ctx.Done()
	return nil
}

// TestNothingThatPanicsEndsTheServer: whichever part it is, the guest's next message is
// answered, and it is counted.
func TestNothingThatPanicsEndsTheServer(t *testing.T) {
	var log buffer
	tp := &brokenTap{tap: newTap()}
	tp.read.Store(2)
	tp.attach.Store(1)
	dns := &brokenDNS{ran: make(chan struct{})}
	l := lease6()
	l.Server.DNS = append(l.Server.DNS, l.Server.ID)
	s := New(Options{
		Tap: "tap-eth0", Lease: l, Log: slog.New(slog.NewTextHandler(&log, nil)), DNS: dns,
		Open: func(context.Context, lease.Lease) (Conn, error) { return tp, nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	<-ready
	routers(t, tp.tap, everyone)
	select {
	case <-dns.ran: // at the third time
	case <-time.After(10 * time.Second):
		t.Fatal("what panicked is not run again")
	}
	answered := func(what string) {
		t.Helper()
		tp.in <- discover(t, guest)
		if _, msg := reply(t, tp.tap); msg == nil {
			t.Errorf("after %s: no answer", what)
		}
	}
	answered("reading")
	tp.in <- questions(t)[kindDNS]
	answered("DNS")
	tp.write.Store(1)
	tp.in <- discover(t, guest)
	answered("writing")
	tp.fail <- errors.New("no link")
	answered("attaching")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := s.Status().Counts["panic"]; n != 2+2+1+1+1 {
		t.Errorf("%d panics are counted:\n%s", n, log.String())
	}
	if n := strings.Count(log.String(), "panicked and goes on"); n != 7 {
		t.Errorf("%d panics are logged:\n%s", n, log.String())
	}
}

// TestPanicsDoNotFillTheLog: a guest that knows how to cause one may do it at will.
func TestPanicsDoNotFillTheLog(t *testing.T) {
	var log buffer
	s := New(Options{Lease: exampleLease(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 1000 {
		s.panicked(make([]byte, maxFrame))("boom", nil)
	}
	if n := s.Status().Counts["panic"]; n != 1000 {
		t.Errorf("%d are counted", n)
	}
	if n := strings.Count(log.String(), "boom"); n != int(logRate.burst) || len(log.String()) > n*(2*loggedFrame+300) {
		t.Errorf("%d are logged, in %d octets", n, len(log.String()))
	}
}
