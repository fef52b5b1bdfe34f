package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/podwire/podwire/pkg/dnsforward"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

const portDNS = 53

// forwarder answers the DNS questions of one interface's guest. The kernel's own
// TCP and UDP do it: the guest's packets go into a tunnel device, behind which
// a relay listens on the server's addresses. The device is gone with the process.
type forwarder struct {
	*dnsforward.Pump
	tunnel    io.Closer
	relay     *dnsforward.Relay
	udp       []net.PacketConn
	tcp       []net.Listener
	closeOnce sync.Once
}

func (a *Agent) openDNS(ctx context.Context, r record.Record) (*forwarder, error) {
	l, name := r.Lease, plan.TunnelName(r.Interface.PodInterface)
	if err := a.kernel.Require(kernel.NeedNetAdmin, kernel.NeedTun); err != nil {
		return nil, fmt.Errorf("relaying DNS: %w", err)
	}
	var guest []netip.Addr
	for _, p := range l.Addrs {
		guest = append(guest, p.Addr())
	}
	tunnel, err := a.kernel.OpenTunnel(ctx, name, l.Server.DNS, guest, l.MTU)
	if err != nil {
		return nil, fmt.Errorf("relaying DNS: %w", err)
	}
	f := &forwarder{
		Pump: dnsforward.NewPump(tunnel, l), tunnel: tunnel,
		relay: dnsforward.New(dnsforward.Options{
			Upstream: upstream(l), Dial: a.kernel.DialContext, Log: a.log.With("link", r.Interface.PodInterface),
		}),
	}
	if err := f.listen(ctx, a.kernel, l); err != nil {
		f.close()
		return nil, fmt.Errorf("relaying DNS: %w", err)
	}
	return f, nil
}

func (f *forwarder) listen(ctx context.Context, k *kernel.Kernel, l lease.Lease) error {
	for _, addr := range l.Server.DNS {
		at := netip.AddrPortFrom(addr, portDNS).String()
		udp, err := k.ListenPacket(ctx, "udp", at)
		if err != nil {
			return err
		}
		f.udp = append(f.udp, udp)
		tcp, err := k.Listen(ctx, "tcp", at)
		if err != nil {
			return err
		}
		f.tcp = append(f.tcp, tcp)
	}
	return nil
}

func upstream(l lease.Lease) []netip.AddrPort {
	out := make([]netip.AddrPort, len(l.Upstream))
	for i, addr := range l.Upstream {
		out[i] = netip.AddrPortFrom(addr, portDNS)
	}
	return out
}

// Run relays until ctx ends, and then closes all that was opened.
func (f *forwarder) Run(ctx context.Context, toGuest func(frame []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer cancel()
		served <- f.relay.Serve(ctx, f.udp, f.tcp)
	}()
	err := f.Pump.Run(ctx, toGuest)
	cancel()
	return errors.Join(err, <-served)
}

// close closes what a forwarder opened that did not run.
func (f *forwarder) close() {
	if f == nil {
		return
	}
	f.closeOnce.Do(func() {
		for _, conn := range f.udp {
			_ = conn.Close()
		}
		for _, listener := range f.tcp {
			_ = listener.Close()
		}
		_ = f.tunnel.Close()
	})
}

func (f *forwarder) setUpstream(l lease.Lease) {
	if f != nil {
		f.relay.SetUpstream(upstream(l))
	}
}

// counts are the relay's, to stand beside the server's.
func (f *forwarder) counts() map[string]uint64 {
	if f == nil {
		return nil
	}
	return f.relay.Counts()
}
