package serve

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/podwire/podwire/pkg/lease"
)

// brittle is a link that can always be attached to. A Read fails at once, but on a good
// link, which carries a frame first.
type brittle struct {
	good     bool
	read     bool
	attached atomic.Int32
}

func (b *brittle) Read(p []byte) (int, error) {
	if b.read = b.good && !b.read; b.read {
		return copy(p, "a frame"), nil
	}
	return 0, errors.New("network is down")
}

func (b *brittle) Write(p []byte) (int, error) { return len(p), nil }

func (b *brittle) Close() error { return nil }

func (b *brittle) Reattach(context.Context, lease.Lease) error {
	b.attached.Add(1)
	return nil
}

// TestALinkThatFailsAgainAndAgainIsNoBurden: it is attached to about once a second and
// not two hundred times, and the log has a line a minute.
func TestALinkThatFailsAgainAndAgainIsNoBurden(t *testing.T) {
	const minutes = 60
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		b := &brittle{}
		s := New(Options{
			Tap: "tap-eth0", Lease: exampleLease(), Log: slog.New(slog.NewTextHandler(&log, nil)),
			Open: func(context.Context, lease.Lease) (Conn, error) { return b, nil },
		})
		ctx, cancel := context.WithTimeout(t.Context(), minutes*time.Minute)
		defer cancel()
		if err := s.Run(ctx, func() {}); err != nil {
			t.Fatal(err)
		}
		if n := b.attached.Load(); n < minutes*59 || n > minutes*60+10 {
			t.Errorf("attached %d times in an hour", n)
		}
		failed, back := strings.Count(log.String(), "the link failed"), strings.Count(log.String(), "attached to the link again")
		if want := int(logRate.burst) + minutes; failed < minutes || failed > want || back != failed {
			t.Errorf("the log has %d and %d lines, want %d", failed, back, want)
		}
	})
}

// TestALinkThatWasGoodIsAttachedToAtOnce, however often it failed before.
func TestALinkThatWasGoodIsAttachedToAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &brittle{good: true}
		s := New(Options{
			Lease: exampleLease(), Log: slog.New(slog.DiscardHandler),
			Open: func(context.Context, lease.Lease) (Conn, error) { return b, nil },
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Run(ctx, func() {}); err != nil {
			t.Fatal(err)
		}
		if n := b.attached.Load(); n < 90 {
			t.Errorf("attached %d times in a second", n)
		}
	})
}
