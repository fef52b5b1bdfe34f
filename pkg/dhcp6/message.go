package dhcp6

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

const (
	headersLen   = 40 + 8 // IPv6 and UDP, which the MTU counts
	leastMTU     = 1280   // RFC 8200 §5
	defaultMTU   = 1500   // of a lease that does not say
	mostDatagram = math.MaxUint16 - 8
)

// message is a reply in the making. What is put into it first is the more
// important: what does not fit any more is left out.
type message struct {
	lease lease.Lease
	req   *Request
	own   []netip.Addr // the lease's IPv6 addresses, in order

	typ     dhcpv6.MessageType
	options []byte
	room    int // of options, in octets
	dropped []string

	status, reason, warning string
}

// newMessage begins a REPLY with who speaks to whom (RFC 8415 §18.3).
func newMessage(l lease.Lease, req *Request) *message {
	m := &message{lease: l, req: req, typ: dhcpv6.MessageTypeReply, room: room(l.MTU) - headerLen}
	for _, p := range l.AddrsOf(false) {
		m.own = append(m.own, p.Addr())
	}
	if req.ClientID != nil {
		m.put(optClientID, req.ClientID)
	}
	m.put(optServerID, serverDUID(l.Server.MAC))
	return m
}

// room returns how many octets a message may have: frames are not fragmented.
func room(mtu int) int {
	if mtu <= 0 {
		mtu = defaultMTU
	}
	return min(max(mtu, leastMTU)-headersLen, mostDatagram)
}

// serverDUID is a DUID-LL of Ethernet (RFC 8415 §11.4), for it must not change
// when the server is started again.
func serverDUID(mac netstate.MAC) []byte { return append([]byte{0, 3, 0, 1}, mac[:]...) }

// setStatus adds the status of the message as a whole.
func (m *message) setStatus(code iana.StatusCode, text string) {
	m.status = code.String()
	m.options = append(m.options, status(code, text)...)
}

// status encodes a status (RFC 8415 §21.13) with a text for whoever reads the
// guest's log.
func status(code iana.StatusCode, text string) []byte {
	return option(optStatus, append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...))
}

func option(code uint16, value []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, code)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
}

// put adds an option that is a head and a list, or as much of the list as there
// is room for. Without the first of the list there is no use in it.
func (m *message) put(code uint16, head []byte, items ...[]byte) {
	value, kept := slices.Clone(head), 0
	for _, item := range items {
		if len(m.options)+optionHead+len(value)+len(item) > m.room {
			break
		}
		value = append(value, item...)
		kept++
	}
	fits := len(m.options)+optionHead+len(value) <= m.room && (kept > 0 || len(items) == 0)
	if fits {
		m.options = append(m.options, option(code, value)...)
	}
	if fits && kept == len(items) {
		return
	}
	text := optionText(code)
	if fits {
		text = fmt.Sprintf("%s: %d of %d", text, len(items)-kept, len(items))
	}
	if !slices.Contains(m.dropped, text) {
		m.dropped = append(m.dropped, text)
	}
}

func (m *message) finish() Answer {
	payload := append([]byte{byte(m.typ)}, m.req.XID[:]...)
	return Answer{
		Type: m.typ, Payload: append(payload, m.options...),
		Status: m.status, Dropped: m.dropped, Warning: m.warning, Reason: m.reason,
	}
}
