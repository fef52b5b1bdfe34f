package serve

import (
	"log/slog"
	"testing"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/netstate"
)

// mostReplies is more than any one frame is answered with: an advertisement of each router.
const mostReplies = 8

// FuzzAnswer holds for whatever comes out of a tap: no panic (nothing here survives one, as
// the server does), few replies, each to the guest or to everyone, and none that makes
// the server answer itself.
func FuzzAnswer(f *testing.F) {
	seeds := questions(&testing.T{})
	for _, request := range seeds {
		f.Add(request)
		f.Add(request[:len(request)/2])
	}
	f.Add(whoHas(standIn))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, request []byte) {
		l := lease6()
		s := New(Options{Lease: l, Log: slog.New(slog.DiscardHandler)})
		replies := s.answer(request)
		if len(replies) > mostReplies {
			t.Errorf("%d replies", len(replies))
		}
		for _, reply := range replies {
			if len(reply) < 14 {
				t.Fatalf("a reply of %d octets", len(reply))
			}
			if dst := netstate.MAC(reply[:6]); dst != l.MAC && dst[0]&1 == 0 {
				t.Errorf("a reply to %s", dst)
			}
			if frame.Source(reply) == l.MAC {
				t.Error("a reply in the guest's name")
			}
			if again := s.answer(reply); len(again) > 0 {
				t.Errorf("the server answers itself with % x", again)
			}
		}
		if n := len(s.Status().Counts); n > 4 {
			t.Errorf("one frame makes %d counts: %v", n, s.Status().Counts)
		}
	})
}
