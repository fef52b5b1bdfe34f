package dhcp6

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/podwire/podwire/pkg/lease"
)

// Answer is what a request is answered with, or why it is not.
type Answer struct {
	Type    dhcpv6.MessageType // ADVERTISE, REPLY
	Payload []byte             // the whole message, for a UDP datagram from port 547 to port 546 of the request's source
	Status  string             // of the message as a whole, such as NotOnLink; empty where it has none
	Dropped []string           // options left out or cut for want of room, such as "24 (domain search)"
	Warning string             // what a person should know about this answer, or nothing
	Reason  string             // where there is no answer: one of the Reason constants; decline and release also with one
}

// Why a request gets no answer, and the two that mean more than their answer
// says. They are few and fixed, to be the names of counters.
const (
	ReasonRelayed      = "relayed"            // a relay's message: it did not come from the tap
	ReasonOtherType    = "other-type"         // no message for a server, such as an ADVERTISE
	ReasonNoIPv6       = "no-ipv6"            // the lease has no IPv6 address, or the server none to answer from
	ReasonNoClientID   = "no-client-id"       // RFC 8415 §16
	ReasonNoServerID   = "no-server-id"       // the same
	ReasonHasServerID  = "unwanted-server-id" // the same: a message for every server names one
	ReasonOtherServer  = "other-server"       // the guest speaks to another server
	ReasonHasIA        = "unwanted-ia"        // RFC 8415 §16.12: an INFORMATION-REQUEST for addresses
	ReasonNotMulticast = "not-multicast"      // RFC 8415 §16: a message for every server was sent to one
	ReasonNoAddress    = "no-address"         // a CONFIRM that names no address
	ReasonDecline      = "decline"            // the guest found its address taken: to be logged loudly
	ReasonRelease      = "release"            // the guest gives its addresses back
)

// allServers is All_DHCP_Relay_Agents_and_Servers (RFC 8415 §7.1).
var allServers = netip.MustParseAddr("ff02::1:2")

// Reply answers a request that was sent to dst with what the lease says. ok is
// false where silence is the answer, and then Reason says why. It is pure: the
// same lease and request give the same answer.
//
// Whose message it is, nothing in it says: that the frame comes from the lease's
// MAC is for the caller to see to.
func Reply(l lease.Lease, req *Request, dst netip.Addr) (answer Answer, ok bool) {
	if reason := refuse(l, req, dst); reason != "" {
		return Answer{Reason: reason}, false
	}
	m := newMessage(l, req)
	if dst != allServers {
		// RFC 8415 §18.4. RFC 9915 knows no such status any more, nor clients that
		// send what could bring it upon them; those of before understand it.
		m.setStatus(iana.StatusUseMulticast, "send to "+allServers.String())
		return m.finish(), true
	}
	switch req.Type {
	case dhcpv6.MessageTypeConfirm:
		m.confirm()
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		m.giveUp()
	case dhcpv6.MessageTypeInformationRequest:
		m.configure()
	default:
		m.bind()
		m.configure()
		m.refuseOthers()
	}
	return m.finish(), true
}

// refuse says why a message is not to be answered (RFC 8415 §16).
func refuse(l lease.Lease, req *Request, dst netip.Addr) string {
	informs := req.Type == dhcpv6.MessageTypeInformationRequest
	switch {
	case req.Type == dhcpv6.MessageTypeRelayForward || req.Type == dhcpv6.MessageTypeRelayReply:
		return ReasonRelayed
	case !fromClient(req.Type):
		return ReasonOtherType
	case len(l.AddrsOf(false)) == 0 || !l.Server.LinkLocal.IsValid():
		return ReasonNoIPv6
	case req.ClientID == nil && !informs:
		return ReasonNoClientID
	case req.ServerID == nil && toOneServer(req.Type):
		return ReasonNoServerID
	case req.ServerID != nil && !toOneServer(req.Type) && !informs:
		return ReasonHasServerID
	case req.ServerID != nil && !bytes.Equal(req.ServerID, serverDUID(l.Server.MAC)):
		return ReasonOtherServer
	case informs && len(req.IAs) > 0:
		return ReasonHasIA
	case dst != allServers && !toOneServer(req.Type):
		return ReasonNotMulticast
	case req.Type == dhcpv6.MessageTypeConfirm && !slices.ContainsFunc(req.IAs, IA.named):
		return ReasonNoAddress // RFC 8415 §18.3.3
	}
	return ""
}

// toOneServer reports whether such a message names the server that it is for.
func toOneServer(t dhcpv6.MessageType) bool {
	switch t {
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return true
	default:
		return false
	}
}

// named reports whether the client names addresses in ia.
func (ia IA) named() bool { return len(ia.Addrs) > 0 }

// confirm answers a client that asks whether it may keep its addresses (RFC 8415
// §18.3.3). What is appropriate to this link is what the lease has and no more:
// in the same prefix there are other pods. A guest that was restored from a
// snapshot in another pod must not keep the address of the first.
func (m *message) confirm() {
	for _, ia := range m.req.IAs {
		for _, a := range ia.Addrs {
			if !m.isOwn(a) {
				m.setStatus(iana.StatusNotOnLink, fmt.Sprintf("%s is not this machine's address", a))
				return
			}
		}
	}
	m.setStatus(iana.StatusSuccess, "")
}

// giveUp answers a RELEASE or a DECLINE (RFC 8415 §18.3.7 and §18.3.8). Neither
// changes anything: there is no other address to give, and nobody else to give
// this one to.
func (m *message) giveUp() {
	m.setStatus(iana.StatusSuccess, "")
	m.reason = ReasonRelease
	if m.req.Type == dhcpv6.MessageTypeDecline {
		m.reason = ReasonDecline
	}
	for _, ia := range m.req.IAs {
		i := slices.IndexFunc(ia.Addrs, m.isOwn)
		switch {
		case ia.Kind != IANA || i < 0:
			m.putIA(ia, status(iana.StatusNoBinding, "there is no such binding"))
		case m.reason == ReasonDecline:
			m.warning = fmt.Sprintf("the guest declined its address %s: somebody else answers for it", ia.Addrs[i])
		}
	}
}
