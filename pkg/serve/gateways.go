package serve

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/neighbor"
)

// askEvery bounds how often a gateway is asked for its MAC.
const askEvery = time.Second

// gateways keeps the stand-ins of a lease true. A guest asks for a stand-in's MAC
// and gets what the gateway last said; but gateways change their MACs (a bridge of
// the node does when its ports change), so each of the guest's questions is
// handed on to the gateway itself, in the guest's name.
type gateways struct {
	port line

	mu    sync.Mutex
	asked time.Time
}

func hasStandIns(l lease.Lease) bool {
	return slices.ContainsFunc(l.Neighbors, func(n lease.Neighbor) bool { return n.StandsFor.IsValid() })
}

// watchGateways hears on the pod interface what gateways say, until ctx ends.
func (s *Server) watchGateways(ctx context.Context) {
	open := func() (io.ReadWriteCloser, error) { return s.opts.OpenPort(ctx, *s.lease.Load()) }
	conn, err := open()
	if err != nil {
		s.opts.Log.Warn("the pod interface cannot be listened to: a gateway whose MAC changes is noticed late", "err", err)
		conn = openAgain(ctx, open)
	}
	for conn != nil {
		s.gateways.port.use(conn)
		s.hearGateways(ctx, conn)
		conn = openAgain(ctx, open)
	}
}

// hearGateways returns when the connection fails or ctx ends.
func (s *Server) hearGateways(ctx context.Context, conn io.ReadWriteCloser) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	buf := make([]byte, maxFrame)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		l := s.lease.Load()
		changed, standIns := neighbor.Heard(*l, buf[:n])
		if len(standIns) == 0 || !s.lease.CompareAndSwap(l, &changed) {
			continue // nothing new, or a new lease came meanwhile: it is asked again
		}
		for _, standIn := range standIns {
			s.stats.count("gateway-moved")
			s.opts.Log.Info("a gateway has another MAC", "addr", standIn.StandsFor.String(), "mac", standIn.MAC.String())
			_ = s.tap.send(neighbor.Announce(changed, standIn)) // or else the guest asks
		}
	}
}

// askGateway has the gateway behind a stand-in asked, where that is due.
func (s *Server) askGateway(l lease.Lease, request []byte) {
	standIn, ok := neighbor.AskedStandIn(l, request)
	if !ok {
		return
	}
	g := &s.gateways
	g.mu.Lock()
	due := time.Since(g.asked) >= askEvery
	if due {
		g.asked = time.Now()
	}
	g.mu.Unlock()
	if due && g.port.send(neighbor.Solicit(l, standIn.StandsFor)) == nil {
		s.stats.count("gateway-asked")
	}
}
