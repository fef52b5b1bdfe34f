package serve

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/netstate"
)

func TestABucketGivesItsBurstAndThenItsRate(t *testing.T) {
	b, now := bucket{rate: rate{10, 3}}, time.Now()
	given := func(n int) (ok int) {
		for range n {
			if b.take(now) {
				ok++
			}
		}
		return ok
	}
	if n := given(10); n != 3 {
		t.Errorf("at once: %d", n)
	}
	now = now.Add(100 * time.Millisecond)
	if n := given(10); n != 1 {
		t.Errorf("after a tenth of a second: %d", n)
	}
	now = now.Add(time.Hour)
	if n := given(10); n != 3 {
		t.Errorf("after an hour: %d", n)
	}
}

// questions are one of each kind that the guest of lease6 may ask.
func questions(t *testing.T) map[kind][]byte {
	t.Helper()
	l := lease6()
	servers := netip.MustParseAddr("ff02::1:2")
	return map[kind][]byte{
		kindDHCP4: discover(t, guest),
		kindDHCP6: frame.AppendUDP6(nil, frame.UDP6{
			SrcMAC: guest, DstMAC: frame.MulticastMAC(servers), Payload: []byte{1, 2, 3, 4},
			Src: netip.AddrPortFrom(guestLL, 546), Dst: netip.AddrPortFrom(servers, 547),
		}),
		kindRS: solicitation(guestLL),
		kindNeighbor: frame.AppendARP(nil, frame.ARP{
			SrcMAC: guest, DstMAC: frame.Broadcast, Op: frame.ARPRequest, SenderMAC: guest,
			SenderIP: l.Addrs[0].Addr(), TargetIP: l.Server.ID,
		}),
		kindDNS: frame.AppendUDP4(nil, frame.UDP4{
			SrcMAC: guest, DstMAC: l.Server.MAC,
			Src: netip.MustParseAddrPort("10.244.1.7:5000"), Dst: netip.AddrPortFrom(l.Server.ID, 53),
		}),
		kindStranger: discover(t, netstate.MAC{2, 2, 2, 2, 2, 2}),
	}
}

func TestKindsAreToldApart(t *testing.T) {
	asked := questions(t)
	for want, request := range asked {
		if got := kindOf(lease6(), request); got != want {
			t.Errorf("%s is taken for %s", want, got)
		}
		for cut := range request {
			kindOf(lease6(), request[:cut])
		}
	}
	if len(asked) != len(answerRates) {
		t.Errorf("%d kinds are tried, %d have a rate", len(asked), len(answerRates))
	}
	if got := kindOf(lease6(), whoHas(standIn)); got != kindNeighbor {
		t.Errorf("a neighbor solicitation is taken for %s", got)
	}
}

// TestAFloodOfOneKindLeavesRoomForTheOthers, and is warned of once a minute.
func TestAFloodOfOneKindLeavesRoomForTheOthers(t *testing.T) {
	for flooding, flood := range questions(t) {
		t.Run(string(flooding), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				s := New(Options{Lease: lease6(), Log: slog.New(slog.NewTextHandler(&log, nil))})
				const seconds, tick, each = 3, 10 * time.Millisecond, 167 // a million a minute
				sent, answered := 0, 0
				for start := time.Now(); time.Since(start) < seconds*time.Second; time.Sleep(tick) {
					for range each {
						sent++
						if s.allows(lease6(), flood) {
							answered++
						}
					}
				}
				r := answerRates[flooding]
				if most := r.burst + seconds*r.second; float64(answered) > most+1 || float64(answered) < most-1-r.second*tick.Seconds() {
					t.Errorf("%d were answered, want %.0f", answered, most)
				}
				if n := s.Status().Counts["limited"]; n != uint64(sent-answered) {
					t.Errorf("%d counted, %d were not answered", n, sent-answered)
				}
				if n := strings.Count(log.String(), "asks too often"); n != 1 {
					t.Errorf("warned %d times in seconds", n)
				}
				for kind, request := range questions(t) {
					if kind != flooding && !s.allows(lease6(), request) {
						t.Errorf("%s gets no answer", kind)
					}
				}
			})
		})
	}
}

// TestAGuestThatStartsAgainAndAgainIsNeverLimited: ten starts a second for a minute,
// each of which asks as firmware, a boot loader, an initramfs and a system do.
func TestAGuestThatStartsAgainAndAgainIsNeverLimited(t *testing.T) {
	perStart := map[kind]int{kindDHCP4: 8, kindDHCP6: 4, kindRS: 3, kindNeighbor: 12, kindDNS: 40}
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Lease: lease6(), Log: slog.New(slog.DiscardHandler)})
		asked := questions(t)
		for range 600 {
			for kind, n := range perStart {
				for range n {
					if !s.allows(lease6(), asked[kind]) {
						t.Fatalf("%s was limited", kind)
					}
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestAReaderTakesBreaksOnlyWhenMuchComesIn: at a million frames a minute it looks two
// hundred times a second, and below its pace it never waits.
func TestAReaderTakesBreaksOnlyWhenMuchComesIn(t *testing.T) {
	for _, c := range []struct {
		name         string
		second       int
		least, most  int // breaks in a second, once the burst is used up
		pace         rate
		keepsPending bool
	}{
		{name: "busy", second: 1000, pace: guestPace},
		{name: "a flood", second: 1_000_000 / 60, least: 150, most: 201, pace: guestPace, keepsPending: true},
		{name: "more than can be read", second: 100_000, least: 150, most: 201, pace: guestPace, keepsPending: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				breaks, read := 0, 0
				p := newPace(c.pace, func() { breaks++ })
				start := time.Now()
				counted := start.Add(2 * time.Second)
				for time.Since(start) < 3*time.Second {
					if time.Now().Before(counted) {
						breaks = 0
					}
					if !p.next(t.Context()) {
						t.Fatal("ended")
					}
					// The frame is there already, or the reader waits for it.
					if at := start.Add(time.Duration(read) * time.Second / time.Duration(c.second)); at.After(time.Now()) {
						time.Sleep(time.Until(at))
					}
					read++
				}
				if breaks < c.least || breaks > c.most {
					t.Errorf("%d breaks in the last second, want %d to %d", breaks, c.least, c.most)
				}
				if behind := 3*c.second-read > c.second/100+1; behind != c.keepsPending {
					t.Errorf("%d of %d frames were read", read, 3*c.second)
				}
			})
		})
	}
}

func BenchmarkAnswer(b *testing.B) {
	for name, request := range questions(&testing.T{}) {
		b.Run(string(name), func(b *testing.B) {
			s := New(Options{Lease: lease6(), Log: slog.New(slog.DiscardHandler)})
			for _, bucket := range s.limits {
				bucket.rate = rate{1e12, 1e12}
			}
			b.ReportAllocs()
			for b.Loop() {
				s.answer(request)
			}
		})
	}
}

func BenchmarkLimited(b *testing.B) {
	l := lease6()
	for name, request := range questions(&testing.T{}) {
		b.Run(string(name), func(b *testing.B) {
			s := New(Options{Lease: l, Log: slog.New(slog.DiscardHandler)})
			for _, bucket := range s.limits {
				bucket.rate = rate{}
			}
			b.ReportAllocs()
			for b.Loop() {
				s.answer(request)
			}
		})
	}
}
