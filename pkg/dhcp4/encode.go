package dhcp4

import (
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// The layout of a message (RFC 2131 §2, figure 1).
const (
	snameAt   = 44
	fileAt    = 108
	cookieAt  = 236
	optionsAt = 240

	snameLen = fileAt - snameAt
	fileLen  = cookieAt - fileAt

	leastMessage  = 300    // RFC 1542 §2.1: shorter ones are dropped by some
	headersLen    = 20 + 8 // IPv4 and UDP, which option 57 and the MTU count
	longestOption = 255    // RFC 3396: what is longer is sent in pieces
	mostDatagram  = 1<<16 - 1
)

var cookie = [4]byte{99, 130, 83, 99} // RFC 1497

// overload says which fields carry options instead of names: the value of option
// 52 (RFC 2132 §9.3).
type overload uint8

const (
	overloadNone  overload = 0
	overloadFile  overload = 1
	overloadSname overload = 2
	overloadBoth  overload = 3
)

func (o overload) hasFile() bool  { return o&overloadFile != 0 }
func (o overload) hasSname() bool { return o&overloadSname != 0 }

// hides reports whether an option's text cannot stand in its field.
func (o overload) hides(code uint8) bool {
	return code == optBootFile && o.hasFile() || code == optTFTPServer && o.hasSname()
}

// overloads are tried in this order: the file field is what PXE looks at.
var overloads = []overload{overloadNone, overloadSname, overloadFile, overloadBoth}

// area is a part of the message that options are written to.
type area struct {
	data []byte
	max  int // without the end option
}

// write puts the kept options into as many areas as how allows, or reports that
// they do not fit. An option that one piece holds is never torn apart, for not
// every client puts pieces together again; it goes where there is room first.
func (m *message) write(how overload, room int) (areas [3]area, ok bool) {
	areas[0] = area{data: make([]byte, 0, min(room, 512)), max: room - 1}
	if how != overloadNone {
		areas[0].max -= 3
	}
	if how.hasFile() {
		areas[1].max = fileLen - 1
	}
	if how.hasSname() {
		areas[2].max = snameLen - 1
	}
	// Without what is never left out there is no lease: it stays in the options
	// field, so that also a client that knows nothing of option 52 finds it.
	for _, code := range never {
		areas[0].max -= m.size(code)
	}
	for i, code := range m.codes {
		if slices.Contains(never, code) {
			areas[0].max += m.size(code)
		}
		if m.kept[code] == 0 || m.inHeader[code] && !how.hides(code) {
			continue
		}
		v := m.value(code)
		if len(v) == 0 && code != optRapidCommit { // RFC 4039 §4: that one has no value
			continue
		}
		if !put(&areas, code, v) {
			return areas, false
		}
		if i == 0 && how != overloadNone { // early, so that a reader is warned
			areas[0].data = append(areas[0].data, optOverload, 1, byte(how))
		}
	}
	return areas, true
}

// size returns what an option that one piece holds takes up.
func (m *message) size(code uint8) int {
	if m.kept[code] == 0 {
		return 0
	}
	return 2 + len(m.value(code))
}

func put(areas *[3]area, code uint8, v []byte) bool {
	if len(v) > longestOption {
		return putPieces(areas, code, v)
	}
	for i := range areas {
		a := &areas[i]
		if len(a.data)+2+len(v) <= a.max {
			a.data = append(append(a.data, code, byte(len(v))), v...)
			return true
		}
	}
	return false
}

// encode returns the whole message and what had to be left out of it.
func (m *message) encode() (payload []byte, dropped []string) {
	room := m.room()
	how, areas := m.fit(room)
	b := m.header(make([]byte, optionsAt, optionsAt+room), how)
	b = append(append(b, areas[0].data...), optEnd)
	if how.hasFile() {
		copy(b[fileAt:cookieAt], append(areas[1].data, optEnd))
	}
	if how.hasSname() {
		copy(b[snameAt:fileAt], append(areas[2].data, optEnd))
	}
	for len(b) < leastMessage {
		b = append(b, optPad)
	}
	return b, m.dropped(how)
}

// room returns how many octets of options the client and the link can take: what
// option 57 says is the size of the IP datagram, as 576 is in RFC 2131 §2. No link
// is taken to carry less than the least message: on such a one there is no DHCP.
func (m *message) room() int {
	size := min(max(m.req.MaxSize, leastMaxSize), mtuOf(m.lease.MTU), mostDatagram) - headersLen
	return max(size, leastMessage) - optionsAt
}

// header fills in the fixed fields (RFC 2131 §4.3.1, table 3).
func (m *message) header(b []byte, how overload) []byte {
	b[0], b[1], b[2] = bootReply, hardwareEther, 6
	copy(b[4:8], m.req.XID[:])
	b[10], b[11] = byte(m.req.Flags>>8), byte(m.req.Flags)
	copy(b[28:34], m.req.CHAddr[:])
	copy(b[cookieAt:], cookie[:])
	if m.typ == dhcpv4.MessageTypeNak {
		return b
	}
	if m.req.CIAddr.IsValid() && m.typ == dhcpv4.MessageTypeAck && m.req.Type != dhcpv4.MessageTypeDiscover {
		copy(b[12:16], m.req.CIAddr.AsSlice())
	}
	if m.req.Type != dhcpv4.MessageTypeInform {
		copy(b[16:20], m.own.AsSlice())
	}
	if next, err := netip.ParseAddr(m.lease.TFTPServer); err == nil && next.Is4() {
		copy(b[20:24], next.AsSlice())
	}
	// A name that does not leave room for its NUL is in an option instead.
	if !how.hasSname() && len(m.lease.TFTPServer) < snameLen {
		copy(b[snameAt:fileAt], m.lease.TFTPServer)
	}
	if !how.hasFile() && len(m.lease.BootFile) < fileLen {
		copy(b[fileAt:cookieAt], m.lease.BootFile)
	}
	return b
}
