// Package neighbor answers a guest's questions for link-layer addresses where
// nobody else would: for podwire's own addresses, which exist on no link of the
// pod's network, for the permanent neighbour entries that the pod was given (the
// AWS VPC CNI sets one for a gateway that no one on the node answers for), and
// for what stands in for the pod's gateways.
//
// It answers ARP and Neighbor Solicitations, and makes and reads the messages by
// which a gateway's MAC is kept true for its stand-in. It keeps nothing itself, and
// is no proxy: what is not in the lease it leaves to the pod's network, by silence.
package neighbor

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Reply answers one frame from the guest's tap with another, or with silence:
// ok is false where request is neither an ARP request nor a Neighbor Solicitation
// as it must be, is not from the guest, or asks for an address that is not
// podwire's to answer for. The reply's ethertype says which of the two it is.
func Reply(l lease.Lease, request []byte) (reply []byte, ok bool) {
	if frame.EtherType(request) == frame.EtherTypeIPv6 {
		return advertise(l, request)
	}
	ask, err := frame.ParseARP(request)
	if err != nil || ask.Op != frame.ARPRequest || ask.SrcMAC != l.MAC {
		return nil, false
	}
	mac, ok := answerFor(l, ask.TargetIP)
	if !ok {
		return nil, false
	}
	// Sender and target change places (RFC 826); the target address of the
	// answer to a probe is the probe's 0.0.0.0.
	return frame.AppendARP(make([]byte, 0, 64), frame.ARP{
		SrcMAC: mac, DstMAC: ask.SrcMAC, Op: frame.ARPReply,
		SenderMAC: mac, SenderIP: ask.TargetIP,
		TargetMAC: ask.SenderMAC, TargetIP: ask.SenderIP,
	}), true
}

// answerFor returns the MAC that addr is answered with.
func answerFor(l lease.Lease, addr netip.Addr) (netstate.MAC, bool) {
	// The guest probes for its own addresses before it uses them (RFC 5227
	// §2.1.1, RFC 4862 §5.4): any answer would tell it that they are taken. It
	// makes the link-local one by itself.
	for _, own := range l.Addrs {
		if own.Addr() == addr {
			return netstate.MAC{}, false
		}
	}
	if addr == l.MAC.LinkLocal() {
		return netstate.MAC{}, false
	}
	if addr == l.Server.ID || addr == l.Server.LinkLocal || slices.Contains(l.Server.DNS, addr) {
		return l.Server.MAC, l.Server.MAC.IsUnicast()
	}
	for _, n := range l.Neighbors {
		if n.Addr == addr && n.MAC.IsUnicast() {
			return n.MAC, true
		}
	}
	return netstate.MAC{}, false
}
