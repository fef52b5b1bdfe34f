package serve

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/neighbor"
)

// askEvery bounds how often a gateway is asked for its MAC. A guest that gets no
// answer asks every second (RFC 4861 §10), which is often enough.
const askEvery = time.Second / 2

// gateways keeps the stand-ins of a lease true. A guest asks for a stand-in's MAC
// and gets what the gateway last said, or nothing as long as it has said nothing.
// Gateways change their MACs (a bridge of the node does when its ports change), so
// each of the guest's questions is handed on to the gateway itself, in the guest's
// name.
type gateways struct {
	port line

	mu    sync.Mutex
	asked map[netip.Addr]time.Time // by gateway of the lease
}

// withHeard is a lease with what gateways have said since it was made.
func withHeard(l, old lease.Lease) lease.Lease {
	l.Neighbors = slices.Clone(l.Neighbors)
	for i, n := range l.Neighbors {
		for _, was := range old.Neighbors {
			if n.StandsFor.IsValid() && n.Addr == was.Addr && n.StandsFor == was.StandsFor && was.MAC.IsUnicast() {
				l.Neighbors[i].MAC = was.MAC
			}
		}
	}
	return l
}

// openPort opens the pod interface, where gateways are asked, now or with a later lease.
// Without it the guest is served all the same.
func (s *Server) openPort(ctx context.Context) {
	if s.opts.OpenPort == nil {
		return
	}
	conn, err := s.opts.OpenPort(ctx, *s.lease.Load())
	if err != nil {
		s.opts.Log.Warn("the pod interface cannot be listened to: a gateway whose MAC changes is not noticed", "err", err)
		return
	}
	s.gateways.port.use(conn)
}

// watchGateways hears on the pod interface what gateways say, until ctx ends.
func (s *Server) watchGateways(ctx context.Context) {
	// What the lease says of their MACs may be old, or nothing.
	for _, n := range s.lease.Load().Neighbors {
		if n.StandsFor.IsValid() {
			s.solicit(*s.lease.Load(), n)
		}
	}
	s.hear(ctx, "the pod's", &s.gateways.port, newPace(gatewayPace, s.paused), s.hearGateway)
}

// askSilent asks the gateways of a new lease that have not said their MACs yet.
func (s *Server) askSilent(l lease.Lease) {
	for _, n := range l.Neighbors {
		if n.StandsFor.IsValid() && !n.MAC.IsUnicast() {
			s.solicit(l, n)
		}
	}
}

// hearGateway takes what a gateway says of itself.
func (s *Server) hearGateway(advertisement []byte) {
	l := s.lease.Load()
	changed, standIns := neighbor.Heard(*l, advertisement)
	if len(standIns) == 0 || !s.lease.CompareAndSwap(l, &changed) {
		return // nothing new, or a new lease came meanwhile: it is asked again
	}
	for _, standIn := range standIns {
		s.stats.count("gateway-moved")
		if s.stats.mayLog("gateway-moved") {
			s.opts.Log.Info("a gateway has another MAC", "addr", standIn.StandsFor.String(), "mac", standIn.MAC.String())
		}
		_ = s.tap.send(neighbor.Announce(changed, standIn)) // or else the guest asks
	}
}

// askGateway has the gateway asked behind a stand-in that the guest asks for. It
// reports whether the frame asks for one.
func (s *Server) askGateway(l lease.Lease, request []byte) bool {
	standIn, ok := neighbor.AskedStandIn(l, request)
	if ok {
		s.solicit(l, standIn)
	}
	return ok
}

// solicit asks the gateway behind a stand-in for its MAC, unless it has just been
// asked.
func (s *Server) solicit(l lease.Lease, standIn lease.Neighbor) {
	g := &s.gateways
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.asked[standIn.StandsFor]) < askEvery || g.port.send(neighbor.Solicit(l, standIn.StandsFor)) != nil {
		return
	}
	if g.asked == nil {
		g.asked = map[netip.Addr]time.Time{}
	}
	g.asked[standIn.StandsFor] = time.Now()
	s.stats.count("gateway-asked")
}
