package dnsforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// maxPacket is the longest IP packet without a jumbo payload option: an IPv6 header
// and what its 16-bit length can say (RFC 8200 §3).
const maxPacket = 40 + 65535

// port is the only one that the guest reaches, and is answered from.
const port = 53

// ErrDropped is returned for a frame of the guest that is not for the relay.
var ErrDropped = errors.New("the frame is dropped")

// Pump carries packets between the guest's tap and the tunnel device behind
// which the relay listens, as the kernel sees it, at Lease.Server.DNS. Through it the guest
// reaches port 53 there and nothing else of the pod, whatever else listens. In the
// tunnel the guest has its stand-ins for addresses.
type Pump struct {
	tunnel        io.ReadWriteCloser
	guest, server netstate.MAC
	addrs         []netip.Addr           // of the relay
	peers         atomic.Pointer[[]Peer] // the guest's

	// Panicked says who is told of a panic over a packet, which is lost; nil for nobody.
	Panicked func(packet []byte) survive.Report
}

// NewPump returns a pump between the guest of a lease and a tunnel that has the
// lease's DNS addresses, and by which the kernel reaches the peers' stand-ins: a Read and a
// Write take one IP packet without a header before it. A lease with other addresses of the
// relay takes another pump.
func NewPump(tunnel io.ReadWriteCloser, l lease.Lease, peers []Peer) *Pump {
	p := &Pump{tunnel: tunnel, guest: l.MAC, server: l.Server.MAC, addrs: slices.Clone(l.Server.DNS)}
	p.SetPeers(peers)
	return p
}

// SetPeers changes by which addresses the guest asks, from its next packet on. The
// stand-ins must be some of those that the tunnel was made for.
func (p *Pump) SetPeers(peers []Peer) {
	peers = slices.Clone(peers)
	p.peers.Store(&peers)
}

// peer returns the peer that is told by one of its addresses.
func (p *Pump) peer(is func(Peer) bool) (Peer, bool) {
	peers := *p.peers.Load()
	i := slices.IndexFunc(peers, is)
	if i < 0 {
		return Peer{}, false
	}
	return peers[i], peers[i].Guest.IsValid()
}

// FromGuest sends an Ethernet frame's packet into the tunnel, once its source is the
// stand-in and its checksum is finished, both of which is done in place. It may be called
// from anywhere. The error is ErrDropped where the frame is not the guest's or not for
// the relay: the guest could else reach what listens in the pod, or have answers sent to
// others. Any other error is the tunnel's.
func (p *Pump) FromGuest(b []byte) error {
	packet, err := frame.ParsePacket(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDropped, err)
	}
	peer, ok := p.peer(func(o Peer) bool { return o.Guest == packet.Src })
	if packet.SrcMAC != p.guest || !ok || !slices.Contains(p.addrs, packet.Dst) {
		return fmt.Errorf("%w: from %s %s to %s", ErrDropped, packet.SrcMAC, packet.Src, packet.Dst)
	}
	// A question fits into one packet. Those in fragments could not be looked at.
	s, ok := readSegment(packet.Data)
	if !ok || s.fragment || s.dst != port {
		return fmt.Errorf("%w: not for port %d", ErrDropped, port)
	}
	s.setSource(packet.Data, peer.StandIn)
	frame.FinishChecksum(packet.Data)
	if _, err := p.tunnel.Write(packet.Data); err != nil {
		return fmt.Errorf("writing to the tunnel: %w", err)
	}
	return nil
}

// Run hands to toGuest, as frames, the packets that the kernel sends out of the
// tunnel from the relay to the guest, until ctx ends, and then returns nil. It
// returns the tunnel's error, or toGuest's, which must keep one that passes (a full queue)
// to itself. In any case it has closed the tunnel. toGuest must not keep the frame.
func (p *Pump) Run(ctx context.Context, toGuest func(frame []byte) error) error {
	stop := survive.AfterFunc(ctx, p.panicked(nil), func() { _ = p.tunnel.Close() })
	defer func() {
		if stop() {
			_ = p.tunnel.Close()
		}
	}()
	buf, out := make([]byte, maxPacket), make([]byte, 0, maxPacket+64)
	for {
		n, err := p.tunnel.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading from the tunnel: %w", err)
		}
		if err := p.toGuest(buf[:n], out, toGuest); err != nil && ctx.Err() == nil {
			return fmt.Errorf("sending a DNS answer to the guest: %w", err)
		}
	}
}

// toGuest sends a packet of the tunnel's to the guest, as a frame in buf where it fits.
func (p *Pump) toGuest(packet, buf []byte, send func(frame []byte) error) error {
	defer survive.Panic(p.panicked(packet))
	if !p.address(packet) {
		return nil
	}
	return send(frame.AppendPacket(buf, frame.Packet{SrcMAC: p.server, DstMAC: p.guest, Data: packet}))
}

func (p *Pump) panicked(packet []byte) survive.Report {
	if p.Panicked == nil {
		return func(any, []byte) {}
	}
	return p.Panicked(packet)
}

// address gives a packet of the relay's the guest's own address, in place, or
// reports that it is none. The kernel sends other things out of a tunnel, such as multicast
// listener reports.
func (p *Pump) address(packet []byte) bool {
	s, ok := readSegment(packet)
	if !ok || s.ports && s.src != port || !slices.Contains(p.addrs, s.from) {
		return false
	}
	peer, ok := p.peer(func(o Peer) bool { return o.StandIn == s.to })
	if !ok {
		return false
	}
	s.setDestination(packet, peer.Guest)
	return true
}
