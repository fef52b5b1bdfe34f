package serve

import (
	"context"
	"time"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
)

// A guest may flood the server with what it answers. Two things bound what that
// costs. The reader takes breaks, in which the kernel drops what does not fit into
// the socket's buffer: one look at many frames costs far less than many looks. And of
// each kind of question only so many a second are answered, so that a flood of one
// leaves room for the others. No memory grows with either, and no timer runs for them
// while the guest is quiet.

// rate is how often something may happen: so many a second, and so many at once
// after a pause.
type rate struct{ second, burst float64 }

// bucket is a token bucket, filled by the clock whenever somebody takes from it.
type bucket struct {
	rate
	left float64
	last time.Time
}

// take takes a token, if there is one.
func (b *bucket) take(now time.Time) bool {
	if b.last.IsZero() {
		b.left = b.burst
	} else {
		b.left = min(b.burst, b.left+b.second*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// kind is a kind of question that is answered at a rate of its own.
type kind string

const (
	kindDHCP4    kind = "DHCPv4"
	kindDHCP6    kind = "DHCPv6"
	kindRS       kind = "router solicitation"
	kindNeighbor kind = "ARP and ND"
	kindDNS      kind = "DNS"
	kindStranger kind = "other MAC" // whatever comes from a MAC that is not the guest's
)

// answerRates are far beyond what a guest does that means well. The busiest is one
// that starts anew again and again: its firmware, a boot loader, an initramfs and
// its system each ask for an address, so that ten starts a second would make
// some eighty DHCP messages. DNS is work of the guest's own: a cloud's resolvers stop
// at as much for a whole interface.
var answerRates = map[kind]rate{
	kindDHCP4:    {100, 200},
	kindDHCP6:    {100, 200},
	kindRS:       {50, 100},
	kindNeighbor: {200, 400},
	kindDNS:      {1000, 2000},
	kindStranger: {100, 200},
}

// limits are the buckets of one guest's questions, of the reader alone.
type limits map[kind]*bucket

func newLimits() limits {
	l := limits{}
	for k, r := range answerRates {
		l[k] = &bucket{rate: r}
	}
	return l
}

// How the reader is paced: so many frames one by one, and beyond that so many in
// a look, with a break between looks. Its most is 12,800 frames a second. A look is short:
// to wait for single frames is what costs.
var (
	guestPace   = rate{1500, 1500}
	gatewayPace = rate{100, 200}
)

const (
	breakTime = 5 * time.Millisecond
	lookTime  = 300 * time.Microsecond
	lookMost  = 64
)

// pace paces one reader.
type pace struct {
	bucket
	look   time.Time // until when frames are free
	free   int       // how many
	paused func()    // told of each break
}

func newPace(r rate, paused func()) *pace { return &pace{bucket: bucket{rate: r}, paused: paused} }

// next waits until a frame may be read. It reports whether ctx is still there.
func (p *pace) next(ctx context.Context) bool {
	now := time.Now()
	ok := p.take(now) // a look, too, uses up what else would be read one by one
	if p.free > 0 && now.Before(p.look) {
		p.free--
		return true
	}
	p.free = 0
	if ok {
		return true
	}
	p.paused()
	if !survive.Wait(ctx, breakTime) {
		return false
	}
	p.look, p.free = time.Now().Add(lookTime), lookMost
	return true
}

// paused notes a break of a reader.
func (s *Server) paused() {
	s.stats.count("paused")
	if s.stats.mayWarn("paused") {
		s.opts.Log.Warn("more comes in than is worth reading at once: frames are read in breaks, and some will be lost")
	}
}

// kindOf tells kinds apart by headers alone; what answers them looks closer.
func kindOf(l lease.Lease, request []byte) kind {
	if frame.Source(request) != l.MAC {
		return kindStranger
	}
	switch frame.EtherType(request) {
	case frame.EtherTypeARP:
		return kindNeighbor
	case frame.EtherTypeIPv4:
		if udp, err := frame.ParseUDP4(request); err == nil && udp.Dst.Port() == portDHCPServer {
			return kindDHCP4
		}
	case frame.EtherTypeIPv6:
		if udp, err := frame.ParseUDP6(request); err == nil && udp.Dst.Port() == portDHCP6Server {
			return kindDHCP6
		}
		if m, err := frame.ParseICMP6(request); err == nil && len(m.Payload) > 0 {
			if m.Payload[0] == frame.RouterSolicitation {
				return kindRS
			}
			return kindNeighbor
		}
	}
	return kindDNS
}

// allows reports whether a question is answered now.
func (s *Server) allows(l lease.Lease, request []byte) bool {
	k := kindOf(l, request)
	if s.limits[k].take(time.Now()) {
		return true
	}
	s.stats.count("limited")
	if s.stats.mayWarn("limited") {
		s.opts.Log.Warn("the guest asks too often: some questions get no answer", "kind", string(k))
	}
	return false
}
