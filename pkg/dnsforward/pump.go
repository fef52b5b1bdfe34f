package dnsforward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// maxPacket is the longest IP packet without a jumbo payload option: an IPv6 header
// and what its 16-bit length can say (RFC 8200 §3).
const maxPacket = 40 + 65535

// port is the only one that the guest reaches, and is answered from.
const port = 53

// What a transport header stands behind, from IANA's registry of protocol numbers.
const (
	protocolTCP      = 6
	protocolUDP      = 17
	protocolFragment = 44
)

// ErrDropped is returned for a frame of the guest that is not for the relay.
var ErrDropped = errors.New("the frame is dropped")

// Pump carries packets between the guest's tap and the tunnel device behind
// which the relay listens, as the kernel sees it, at Lease.Server.DNS. Through it the guest
// reaches port 53 there and nothing else of the pod, whatever else listens.
type Pump struct {
	tunnel        io.ReadWriteCloser
	guest, server netstate.MAC
	addrs         []netip.Addr // of the relay
	peers         []netip.Addr // of the guest
}

// NewPump returns a pump between the guest of a lease and a tunnel that has the
// lease's DNS addresses: a Read and a Write take one IP packet without a header
// before it. A lease with other addresses takes another pump.
func NewPump(tunnel io.ReadWriteCloser, l lease.Lease) *Pump {
	p := &Pump{tunnel: tunnel, guest: l.MAC, server: l.Server.MAC, addrs: slices.Clone(l.Server.DNS)}
	for _, prefix := range l.Addrs {
		p.peers = append(p.peers, prefix.Addr())
	}
	return p
}

// FromGuest sends an Ethernet frame's packet into the tunnel, once its checksum is
// finished, which is done in place. It may be called from anywhere. The error is ErrDropped
// where the frame is not the guest's or not for the relay: the guest could else
// reach what listens in the pod, or have answers sent to others. Any other
// error is the tunnel's.
func (p *Pump) FromGuest(b []byte) error {
	packet, err := frame.ParsePacket(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDropped, err)
	}
	if packet.SrcMAC != p.guest || !slices.Contains(p.peers, packet.Src) || !slices.Contains(p.addrs, packet.Dst) {
		return fmt.Errorf("%w: from %s %s to %s", ErrDropped, packet.SrcMAC, packet.Src, packet.Dst)
	}
	// A question fits into one packet. Those in fragments could not be looked at.
	if s, ok := readSegment(packet.Data); !ok || s.fragment || s.dst != port {
		return fmt.Errorf("%w: not for port %d", ErrDropped, port)
	}
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
	stop := context.AfterFunc(ctx, func() { _ = p.tunnel.Close() })
	defer func() {
		if stop() {
			_ = p.tunnel.Close()
		}
	}()
	buf, out := make([]byte, maxPacket), make([]byte, 0, 2048)
	for {
		n, err := p.tunnel.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading from the tunnel: %w", err)
		}
		if !p.isAnswer(buf[:n]) {
			continue
		}
		out = frame.AppendPacket(out[:0], frame.Packet{SrcMAC: p.server, DstMAC: p.guest, Data: buf[:n]})
		if err := toGuest(out); err != nil && ctx.Err() == nil {
			return fmt.Errorf("sending a DNS answer to the guest: %w", err)
		}
	}
}

// isAnswer reports whether a packet is the relay's to the guest. The kernel sends
// other things out of a tunnel, such as multicast listener reports.
func (p *Pump) isAnswer(packet []byte) bool {
	s, ok := readSegment(packet)
	if !ok || !slices.Contains(p.addrs, s.from) || !slices.Contains(p.peers, s.to) {
		return false
	}
	return !s.ports || s.src == port
}

// segment is what the pump must know of a packet of TCP or UDP.
type segment struct {
	from, to netip.Addr
	src, dst uint16
	fragment bool // a part of a packet
	ports    bool // src and dst are there: not in a later fragment
}

// readSegment reads a whole packet. It takes no IPv4 options, which may send it elsewhere
// (RFC 791 §3.1, source routes), and no IPv6 extension header but a fragment's.
func readSegment(p []byte) (s segment, ok bool) {
	var (
		protocol byte
		rest     []byte
	)
	switch {
	case len(p) >= 20 && p[0] == 4<<4|5:
		s.from, s.to = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
		at := binary.BigEndian.Uint16(p[6:])
		s.fragment, s.ports = at&0x3fff != 0, at&0x1fff == 0
		protocol, rest = p[9], p[20:]
	case len(p) >= 40 && p[0]>>4 == 6:
		s.from, s.to = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
		protocol, rest, s.ports = p[6], p[40:], true
		if protocol == protocolFragment && len(rest) >= 8 { // RFC 8200 §4.5
			s.fragment, s.ports = true, binary.BigEndian.Uint16(rest[2:])&0xfff8 == 0
			protocol, rest = rest[0], rest[8:]
		}
	default:
		return segment{}, false
	}
	if protocol != protocolTCP && protocol != protocolUDP {
		return segment{}, false
	}
	if !s.ports {
		return s, true
	}
	if len(rest) < 4 {
		return segment{}, false
	}
	s.src, s.dst = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	return s, true
}
