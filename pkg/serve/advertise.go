package serve

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/ra"
)

// When routers speak without being asked (RFC 4861 §6.2.1, §10).
const (
	initialAdvertisements = 3
	initialInterval       = 16 * time.Second
	leastInterval         = 200 * time.Second // MinRtrAdvInterval
	mostInterval          = 600 * time.Second // MaxRtrAdvInterval
)

var (
	allNodes = netip.IPv6LinkLocalAllNodes()
	allMAC   = frame.MulticastMAC(allNodes)
)

// advertise has the routers speak from time to time, until ctx ends.
func (s *Server) advertise(ctx context.Context) {
	for sent := 0; ; sent++ {
		l := *s.lease.Load()
		s.sendAdvertisements(l, ra.Advertise(l))
		pause := initialInterval
		if sent+1 >= initialAdvertisements || len(l.Routers) == 0 {
			pause = leastInterval + rand.N(mostInterval-leastInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// sendAdvertisements sends to whoever listens, which before the VM starts is
// nobody: what cannot be sent then, the guest asks for when it comes up.
func (s *Server) sendAdvertisements(l lease.Lease, all []ra.Advertisement) {
	for _, a := range all {
		if s.tap.send(advertisement(l, a, allMAC, allNodes)) == nil {
			s.stats.count("ra")
		}
	}
}

func advertisement(l lease.Lease, a ra.Advertisement, mac netstate.MAC, dst netip.Addr) []byte {
	return frame.AppendICMP6(nil, frame.ICMP6{SrcMAC: l.Server.MAC, DstMAC: mac, Src: a.Src, Dst: dst, Payload: a.Payload})
}

// leastBetween is how long routers keep silent after they spoke to all
// (MIN_DELAY_BETWEEN_RAS of RFC 4861 §10).
const leastBetween = 3 * time.Second

// respondProbe has the routers speak to a guest that comes up. It asks for them
// only when its own address is settled, a second or two later.
func (s *Server) respondProbe(l lease.Lease, request []byte) ([][]byte, bool) {
	if !ra.CameUp(l, request) {
		return nil, false
	}
	if now := time.Now(); now.Sub(s.spoke) >= leastBetween {
		s.spoke = now
		s.sendAdvertisements(l, ra.Advertise(l))
	}
	return nil, true
}

// respondRS answers at once. RFC 4861 §6.2.6 lets a router wait for up to half a
// second, so that not all of a link speak at a time; on this one there is nobody
// else.
func (s *Server) respondRS(l lease.Lease, request []byte) ([][]byte, bool) {
	src, ok := ra.Solicited(l, request)
	if !ok {
		return nil, false
	}
	dst, mac := src, l.MAC
	if src.IsUnspecified() {
		dst, mac = allNodes, allMAC
	}
	var replies [][]byte
	for _, a := range ra.Advertise(l) {
		replies = append(replies, advertisement(l, a, mac, dst))
	}
	s.stats.advertised(len(replies) > 0)
	return replies, true
}
