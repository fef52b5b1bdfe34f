package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/dnsforward"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

const portDNS = 53

// forwarder answers the DNS questions of one interface's guest, by a passage that is
// opened anew when it fails.
type forwarder struct {
	relay *dnsforward.Relay
	open  func(context.Context) (*passage, error)
	addrs []netip.Addr // of the relay
	log   *slog.Logger

	mu       sync.Mutex
	now      *passage          // one that failed, until there is another
	peers    []dnsforward.Peer // the guest's addresses of this moment
	degraded []string          // what is not relayed, by the last lease
	broken   error             // why there is no other passage yet
}

// passage is how the guest's questions reach the relay. The kernel's own TCP and UDP
// carry them: the guest's packets go into a tunnel device, behind which the relay
// listens on the server's addresses. The device is gone with the process. With every
// binding the guest has other addresses in it than its own, which may be the pod's.
type passage struct {
	*dnsforward.Pump
	tunnel    io.Closer
	udp       []net.PacketConn
	tcp       []net.Listener
	closeOnce sync.Once
}

func (a *Agent) openDNS(ctx context.Context, r record.Record) (*forwarder, error) {
	if err := a.kernel.Require(kernel.NeedNetAdmin, kernel.NeedTun); err != nil {
		return nil, fmt.Errorf("relaying DNS: %w", err)
	}
	log, peers := a.log.With("link", r.Interface.PodInterface), dnsforward.Peers(r.Lease, r.Snapshot)
	f := &forwarder{
		relay: dnsforward.New(dnsforward.Options{
			Upstream: upstream(r.Lease), Dial: a.kernel.DialContext, Guest: standIns(peers), Log: log,
		}),
		open:  func(ctx context.Context) (*passage, error) { return a.openPassage(ctx, r, peers) },
		addrs: r.Lease.Server.DNS, peers: peers, log: log,
	}
	var err error
	if f.now, err = f.open(ctx); err != nil {
		return nil, fmt.Errorf("relaying DNS: %w", err)
	}
	return f, nil
}

func (a *Agent) openPassage(ctx context.Context, r record.Record, peers []dnsforward.Peer) (*passage, error) {
	l, name := r.Lease, plan.TunnelName(r.Interface.PodInterface)
	tunnel, err := a.kernel.OpenTunnel(ctx, name, l.Server.DNS, standIns(peers), l.MTU)
	if err != nil {
		return nil, err
	}
	p := &passage{Pump: dnsforward.NewPump(tunnel, l, peers), tunnel: tunnel}
	if err := p.listen(ctx, a.kernel, l); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func standIns(peers []dnsforward.Peer) []netip.Addr {
	out := make([]netip.Addr, len(peers))
	for i, p := range peers {
		out[i] = p.StandIn
	}
	return out
}

func (p *passage) listen(ctx context.Context, k *kernel.Kernel, l lease.Lease) error {
	for _, addr := range l.Server.DNS {
		at := netip.AddrPortFrom(addr, portDNS).String()
		udp, err := k.ListenPacket(ctx, "udp", at)
		if err != nil {
			return err
		}
		p.udp = append(p.udp, udp)
		tcp, err := k.Listen(ctx, "tcp", at)
		if err != nil {
			return err
		}
		p.tcp = append(p.tcp, tcp)
	}
	return nil
}

// carry relays until ctx ends or the device fails, and closes the passage.
func (p *passage) carry(ctx context.Context, relay *dnsforward.Relay, toGuest func(frame []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.Panicked = relay.Panicked
	var (
		served  error
		running sync.WaitGroup
	)
	survive.Go(&running, relay.Panicked(nil), func() {
		defer cancel()
		served = relay.Serve(ctx, p.udp, p.tcp)
	})
	err := p.Run(ctx, toGuest)
	cancel()
	running.Wait()
	return errors.Join(err, served)
}

// close closes what a passage opened that was not carried on.
func (p *passage) close() {
	p.closeOnce.Do(func() {
		for _, conn := range p.udp {
			_ = conn.Close()
		}
		for _, listener := range p.tcp {
			_ = listener.Close()
		}
		_ = p.tunnel.Close()
	})
}

func upstream(l lease.Lease) []netip.AddrPort {
	out := make([]netip.AddrPort, len(l.Upstream))
	for i, addr := range l.Upstream {
		out[i] = netip.AddrPortFrom(addr, portDNS)
	}
	return out
}

// FromGuest takes a frame of the guest.
func (f *forwarder) FromGuest(frame []byte) error { return f.use(nil).FromGuest(frame) }

// use returns the passage, after putting one in its place where it is not nil.
func (f *forwarder) use(next *passage) *passage {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next != nil {
		f.now, f.broken = next, nil
		next.SetPeers(f.peers)
	}
	return f.now
}

// passagePause is how long to wait before a passage is opened again.
const passagePause = 200 * time.Millisecond

// Run relays until ctx ends, and then closes all that was opened.
func (f *forwarder) Run(ctx context.Context, toGuest func(frame []byte) error) error {
	for {
		err := f.use(nil).carry(ctx, f.relay, toGuest)
		if ctx.Err() != nil {
			return err
		}
		f.log.Warn("the way of the guest's DNS questions failed, opening it again", "err", err)
		if err := f.reopen(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		f.log.Info("the guest's DNS questions are relayed again")
	}
}

// reopen opens a passage again, for as long as it takes. It ends with ctx, or where this
// process may not.
func (f *forwarder) reopen(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(passagePause):
		}
		p, err := f.open(ctx)
		if err == nil {
			f.use(p)
			return nil
		}
		f.fail(err)
		if err := forbidden(err); err != nil {
			return err
		}
	}
}

// close closes what a forwarder opened that did not run.
func (f *forwarder) close() {
	if f != nil {
		f.use(nil).close()
	}
}

// fail notes that there is no passage, for now or for good.
func (f *forwarder) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = cmp.Or(forbidden(err), err)
}

// tell changes whom the guest's questions are relayed to, and by which of its addresses
// it asks. What would take another tunnel is warned of, and made when serve is started anew.
func (f *forwarder) tell(l lease.Lease) {
	if f == nil {
		return
	}
	f.relay.SetUpstream(upstream(l))
	f.mu.Lock()
	defer f.mu.Unlock()
	var without []netip.Addr
	f.peers, without = dnsforward.Readdressed(f.peers, l)
	f.now.SetPeers(f.peers)
	f.degraded = nil
	if !slices.Equal(l.Server.DNS, f.addrs) {
		f.degraded = append(f.degraded, fmt.Sprintf("the guest's DNS is answered at %v, and the guest is told of %v, until \"podwire serve\" is started anew", f.addrs, l.Server.DNS))
	}
	if len(without) > 0 {
		f.degraded = append(f.degraded, fmt.Sprintf("the guest's DNS questions from %v are not relayed until \"podwire serve\" is started anew: it has more addresses than then", without))
	}
	for _, what := range f.degraded {
		f.log.Warn(what)
	}
}

// lacks says what the guest gets less than it is told, in words.
func (f *forwarder) lacks() []string {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	lacks := slices.Clone(f.degraded)
	if f.broken != nil {
		why := f.broken
		if errors.Is(why, errUnrelayed) {
			why = errUnrelayed // and not what else a device would take
		}
		lacks = append(lacks, fmt.Sprintf("the guest's DNS is not relayed: %v", why))
	}
	return lacks
}

// counts are the relay's, to stand beside the server's.
func (f *forwarder) counts() map[string]uint64 {
	if f == nil {
		return nil
	}
	return f.relay.Counts()
}
