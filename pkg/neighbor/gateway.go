package neighbor

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

const optSourceLinkAddr = 1 // RFC 4861 §4.6.1

// AskedStandIn returns the stand-in that the guest asks for by a frame, if it does.
// Reply is silent for one whose gateway has not said its MAC yet.
func AskedStandIn(l lease.Lease, request []byte) (lease.Neighbor, bool) {
	target, ok := askedFor(l.MAC, request)
	i := slices.IndexFunc(l.Neighbors, func(n lease.Neighbor) bool { return n.Addr == target && n.StandsFor.IsValid() })
	if !ok || i < 0 {
		return lease.Neighbor{}, false
	}
	return l.Neighbors[i], true
}

func askedFor(guest netstate.MAC, request []byte) (netip.Addr, bool) {
	if frame.EtherType(request) == frame.EtherTypeARP {
		ask, err := frame.ParseARP(request)
		return ask.TargetIP, err == nil && ask.Op == frame.ARPRequest && ask.SrcMAC == guest
	}
	ask, err := frame.ParseICMP6(request)
	if err != nil || ask.SrcMAC != guest {
		return netip.Addr{}, false
	}
	return targetOf(ask)
}

// Solicit asks the pod's network for a gateway's MAC, in the guest's name: from the
// link-local address that its MAC makes, which the network knows the pod by. The
// answer reaches the guest too, which did not ask and passes over it.
func Solicit(l lease.Lease, gateway netip.Addr) []byte {
	target := gateway.As16()
	group := solicitedNode.Addr().As16()
	copy(group[13:], target[13:])
	dst := netip.AddrFrom16(group)
	b := make([]byte, 0, 32)
	b = append(b, frame.NeighborSolicitation, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, target[:]...)
	b = append(b, optSourceLinkAddr, 1)
	b = append(b, l.MAC[:]...)
	return frame.AppendICMP6(nil, frame.ICMP6{
		SrcMAC: l.MAC, DstMAC: frame.MulticastMAC(dst), Src: l.MAC.LinkLocal(), Dst: dst, Payload: b,
	})
}

// Heard looks at a Neighbor Advertisement from the pod's network. Where a gateway
// says another MAC than its stand-ins are answered with, changed is the lease
// with the new one, and standIns are those that it is about.
func Heard(l lease.Lease, advertisement []byte) (changed lease.Lease, standIns []lease.Neighbor) {
	says, err := frame.ParseICMP6(advertisement)
	if err != nil {
		return l, nil
	}
	gateway, mac, ok := saidBy(says)
	if !ok {
		return l, nil
	}
	l.Neighbors = slices.Clone(l.Neighbors)
	for i, n := range l.Neighbors {
		if n.StandsFor == gateway && n.MAC != mac {
			l.Neighbors[i].MAC = mac
			standIns = append(standIns, l.Neighbors[i])
		}
	}
	return l, standIns
}

// saidBy reads an advertisement that is valid (RFC 4861 §7.1.2) and means to
// replace what was known (§7.2.5).
func saidBy(says frame.ICMP6) (addr netip.Addr, mac netstate.MAC, ok bool) {
	p := says.Payload
	if says.HopLimit != 255 || len(p) < targetEnd || p[0] != frame.NeighborAdvertisement || p[1] != 0 {
		return addr, mac, false
	}
	solicited := p[4]&flagSolicited != 0
	if solicited && says.Dst.IsMulticast() || p[4]&flagOverride == 0 {
		return addr, mac, false
	}
	addr = netip.AddrFrom16([16]byte(p[targetAt:targetEnd]))
	for options := p[targetEnd:]; len(options) >= 8; {
		size := int(options[1]) * 8
		if size == 0 || size > len(options) {
			return addr, mac, false
		}
		if options[0] == optTargetLinkAddr && size == 8 {
			mac = netstate.MAC(options[2:8])
		}
		options = options[size:]
	}
	return addr, mac, mac.IsUnicast()
}

// Announce tells the guest a stand-in's MAC without being asked: a Neighbor
// Advertisement to all (RFC 4861 §7.2.6), or an ARP announcement (RFC 5227 §3).
func Announce(l lease.Lease, n lease.Neighbor) []byte {
	if n.Addr.Is4() {
		return frame.AppendARP(nil, frame.ARP{
			SrcMAC: n.MAC, DstMAC: frame.Broadcast, Op: frame.ARPRequest,
			SenderMAC: n.MAC, SenderIP: n.Addr, TargetIP: n.Addr,
		})
	}
	flags := byte(flagOverride)
	if isRouter(l, n.Addr) {
		flags |= flagRouter
	}
	all := netip.IPv6LinkLocalAllNodes()
	return frame.AppendICMP6(nil, frame.ICMP6{
		SrcMAC: n.MAC, DstMAC: frame.MulticastMAC(all), Src: n.Addr, Dst: all, Payload: advertisement(flags, n.Addr, n.MAC),
	})
}
