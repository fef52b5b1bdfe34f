package neighbor

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

const (
	targetAt  = 8  // RFC 4861 §4.3: behind type, code, checksum and four reserved octets
	targetEnd = 24 // where the options of a solicitation start

	// RFC 4861 §4.4.
	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20

	optTargetLinkAddr = 2 // RFC 4861 §4.6.1
)

// solicitedNode is the prefix of the groups to which questions go (RFC 4291 §2.7.1).
var solicitedNode = netip.MustParsePrefix("ff02::1:ff00:0/104")

// advertise answers a Neighbor Solicitation.
func advertise(l lease.Lease, request []byte) (reply []byte, ok bool) {
	ask, err := frame.ParseICMP6(request)
	if err != nil || ask.SrcMAC != l.MAC {
		return nil, false
	}
	target, ok := targetOf(ask)
	if !ok {
		return nil, false
	}
	mac, ok := answerFor(l, target)
	if !ok {
		return nil, false
	}
	answer := frame.ICMP6{SrcMAC: mac, DstMAC: ask.SrcMAC, Src: target, Dst: ask.Src}
	flags := byte(flagOverride)
	if ask.Src.IsUnspecified() {
		// A probe's sender has no address yet to send to (RFC 4861 §7.2.4).
		answer.Dst = netip.IPv6LinkLocalAllNodes()
		answer.DstMAC = frame.MulticastMAC(answer.Dst)
	} else {
		flags |= flagSolicited
	}
	if isRouter(l, target) {
		flags |= flagRouter
	}
	answer.Payload = advertisement(flags, target, mac)
	return frame.AppendICMP6(make([]byte, 0, 96), answer), true
}

// targetOf returns whom a solicitation asks for, if it is valid (RFC 4861 §7.1.1).
func targetOf(ask frame.ICMP6) (netip.Addr, bool) {
	if !ask.IsSolicitation(frame.NeighborSolicitation, targetEnd) {
		return netip.Addr{}, false
	}
	if ask.Src.IsUnspecified() && !solicitedNode.Contains(ask.Dst) {
		return netip.Addr{}, false
	}
	target := netip.AddrFrom16([16]byte(ask.Payload[targetAt:targetEnd]))
	return target, !target.IsMulticast()
}

// isRouter reports whether addr is one that the guest has for a router: if an
// answer for it does not say so, the guest drops its routes (RFC 4861 §7.2.5).
func isRouter(l lease.Lease, addr netip.Addr) bool {
	return slices.ContainsFunc(l.Routers, func(r lease.Router) bool {
		return r.Addr == addr || slices.Contains(r.Gateways, addr)
	})
}

// advertisement is the message (RFC 4861 §4.4), its checksum left to frame.
func advertisement(flags byte, target netip.Addr, mac netstate.MAC) []byte {
	addr := target.As16()
	b := make([]byte, 0, 32)
	b = append(b, frame.NeighborAdvertisement, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, addr[:]...)
	b = append(b, optTargetLinkAddr, 1)
	return append(b, mac[:]...)
}
