package dhcp4

import (
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/lease"
)

// Answer is what a request is answered with, or why it is not.
type Answer struct {
	Type      dhcpv4.MessageType // OFFER, ACK, NAK
	Payload   []byte             // the whole message, for a UDP datagram from Server.ID port 67
	Dst       netip.AddrPort     // port 68 always (RFC 2131 §4.1)
	Broadcast bool               // to every station on the Ethernet, too; else to the lease's MAC
	Dropped   []string           // options left out or cut for want of room, such as "119 (domain search)"
	Warning   string             // what a person should know about this answer, or nothing
	Reason    string             // where there is no answer: one of the Reason constants
}

// Refuses reports whether the answer is a NAK: the client must begin anew.
func (a Answer) Refuses() bool { return a.Type == dhcpv4.MessageTypeNak }

// Why a request gets no answer. They are few and fixed, to be the names of
// counters.
const (
	ReasonNotARequest = "not-a-request" // op is not BOOTREQUEST
	ReasonNotEthernet = "not-ethernet"  // htype or hlen
	ReasonOtherMAC    = "other-mac"     // chaddr is not the lease's
	ReasonRelayed     = "relayed"       // giaddr is set: it did not come from the tap
	ReasonBOOTP       = "bootp"         // no option 53
	ReasonOtherType   = "other-type"    // no message for a server, such as an OFFER
	ReasonNoIPv4      = "no-ipv4"       // the lease has no IPv4 address or no server identifier
	ReasonOtherServer = "other-server"  // the guest chose another server
	ReasonNoAddress   = "no-address"    // a REQUEST that says neither which server nor which address
	ReasonDecline     = "decline"       // the guest found its address taken: to be logged loudly
	ReasonRelease     = "release"       // the guest gives its address back
)

const clientPort = 68 // RFC 2131 §4.1

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Reply answers a request with what the lease says. ok is false where silence is
// the answer, and then Reason says why. It is pure: the same lease and request
// give the same answer.
func Reply(l lease.Lease, req *Request) (answer Answer, ok bool) {
	if reason := refuse(l, req); reason != "" {
		return Answer{Reason: reason}, false
	}
	own, _ := l.IPv4()
	typ, reason := decide(req, own.Addr(), l.Server.ID)
	if reason != "" {
		return Answer{Reason: reason}, false
	}
	m := newMessage(l, req, typ)
	answer = Answer{Type: typ, Warning: m.warning}
	answer.Payload, answer.Dropped = m.encode()
	answer.Dst, answer.Broadcast = destination(req, typ, own.Addr())
	return answer, true
}

// refuse says why a message is none for this server, whatever it asks.
func refuse(l lease.Lease, req *Request) string {
	_, hasIPv4 := l.IPv4()
	switch {
	case req.Op != bootRequest:
		return ReasonNotARequest
	case req.HType != hardwareEther || req.HLen != 6:
		return ReasonNotEthernet
	case req.CHAddr != l.MAC:
		return ReasonOtherMAC
	case req.GIAddr.IsValid():
		return ReasonRelayed
	case req.Type == dhcpv4.MessageTypeNone:
		return ReasonBOOTP
	case !hasIPv4 || !l.Server.ID.Is4():
		return ReasonNoIPv4
	}
	return ""
}

// decide says which message answers a request, or why none does.
func decide(req *Request, own, server netip.Addr) (typ dhcpv4.MessageType, reason string) {
	switch req.Type {
	case dhcpv4.MessageTypeDiscover:
		if req.RapidCommit { // RFC 4039 §3.1
			return dhcpv4.MessageTypeAck, ""
		}
		return dhcpv4.MessageTypeOffer, ""
	case dhcpv4.MessageTypeRequest:
		return decideRequest(req, own, server)
	case dhcpv4.MessageTypeInform:
		return dhcpv4.MessageTypeAck, ""
	case dhcpv4.MessageTypeDecline:
		return 0, ReasonDecline
	case dhcpv4.MessageTypeRelease:
		return 0, ReasonRelease
	default:
		return 0, ReasonOtherType
	}
}

// decideRequest tells the four kinds of REQUEST apart (RFC 2131 §4.3.2). Unlike a
// server of many clients, this one knows of every address whether it is right.
func decideRequest(req *Request, own, server netip.Addr) (typ dhcpv4.MessageType, reason string) {
	if req.ServerID.IsValid() && req.ServerID != server {
		return 0, ReasonOtherServer
	}
	switch asked := req.asksFor(); {
	case asked == own:
		return dhcpv4.MessageTypeAck, ""
	case asked.IsValid():
		return dhcpv4.MessageTypeNak, ""
	case req.ServerID.IsValid():
		// It chose this server and so, though it must name it, this address.
		return dhcpv4.MessageTypeAck, ""
	default:
		return 0, ReasonNoAddress
	}
}

// asksFor returns the address that a REQUEST is about: option 50 where it
// selects a server or reboots, ciaddr where it renews (RFC 2131 §4.3.2).
func (r *Request) asksFor() netip.Addr {
	first, second := r.CIAddr, r.RequestedIP
	if r.ServerID.IsValid() {
		first, second = second, first
	}
	if first.IsValid() {
		return first
	}
	return second
}

// refusal is the text of a NAK (option 56), for whoever reads the guest's log.
func (r *Request) refusal(own netip.Addr) string {
	return fmt.Sprintf("%s is not this machine's address, which is %s", r.asksFor(), own)
}

// destination is where an answer goes (RFC 2131 §4.1), there being no relay. An
// INFORM without the ciaddr that it must have is answered to everyone.
func destination(req *Request, typ dhcpv4.MessageType, own netip.Addr) (dst netip.AddrPort, broadcast bool) {
	addr := own
	switch {
	case typ == dhcpv4.MessageTypeNak:
		addr = broadcastAddr
	case req.CIAddr.IsValid():
		addr = req.CIAddr
	case req.Flags&flagBroadcast != 0, req.Type == dhcpv4.MessageTypeInform:
		addr = broadcastAddr
	}
	return netip.AddrPortFrom(addr, clientPort), addr == broadcastAddr
}
