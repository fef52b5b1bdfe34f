package dhcp4

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/lease"
)

// message is a reply in the making: what may go into it, in which order, and how
// much of each option there is room for.
type message struct {
	lease   lease.Lease
	req     *Request
	typ     dhcpv4.MessageType
	own     netip.Addr
	prefix  netip.Prefix // the address and the mask that is handed out
	gateway netip.Addr   // of option 3; not set where there is none
	warning string

	routes     []lease.Route // of option 121, in order
	essential  []bool        // of routes: those that go last
	essentials int           // how many they are
	search     searchList

	codes []uint8 // in the order of sending; message type first

	// full and kept are an option's size in items: domains, addresses, routes;
	// 1 for an option that cannot be cut. An option with kept 0 is left out.
	full, kept [256]int

	// inHeader marks the options that nobody asked for and whose text stands in
	// the sname or file field, unless options overload that field.
	inHeader [256]bool
}

func newMessage(l lease.Lease, req *Request, typ dhcpv4.MessageType) *message {
	m := &message{lease: l, req: req, typ: typ}
	m.prefix, _ = l.IPv4()
	m.own = m.prefix.Addr()
	if typ != dhcpv4.MessageTypeNak {
		m.chooseGateway()
		m.choosePrefix()
		m.routes = clientRoutes(l, m.prefix)
		m.essential, m.essentials = essentialRoutes(m.routes)
		m.search = encodeSearch(l.Search, false)
		if len(m.search.data) > longestOption {
			// A list that fits one option is sent plain: there are clients
			// that follow no pointers. A longer one asks more of them anyway.
			m.search = encodeSearch(l.Search, true)
		}
	}
	m.chooseCodes()
	return m
}

// chooseGateway settles option 3. Where all is on the link, a client that does not
// take classless routes is told so by its own address: it then asks on the link
// for whatever it sends to.
func (m *message) chooseGateway() {
	m.gateway = gatewayOf(m.lease)
	if m.gateway.IsValid() || m.takesClassless() || !allOnLink(m.lease) {
		return
	}
	m.gateway = m.own
	m.warning = fmt.Sprintf("the guest does not ask for classless routes (option 121): it gets its own address %s as gateway, for its default route has none", m.own)
}

// choosePrefix settles the mask. A client that does not take classless routes
// reaches a gateway outside its prefix only if the mask is wide enough.
func (m *message) choosePrefix() {
	if !m.gateway.IsValid() || m.prefix.Contains(m.gateway) || m.takesClassless() {
		return
	}
	wide := reaching(m.prefix, m.gateway)
	m.warning = fmt.Sprintf("the guest does not ask for classless routes (option 121): it gets %s as %s, so that it reaches its gateway %s",
		m.prefix, wide, m.gateway)
	m.prefix = wide
}

func (m *message) takesClassless() bool {
	return len(m.req.Params) == 0 || m.asks(optRoutes) || m.asks(optRoutesWindows)
}

func (m *message) asks(code uint8) bool { return slices.Contains(m.req.Params, code) }

// chooseCodes puts the options in order: the message type first, where every
// parser looks for it; then as the client asks (RFC 2131 §4.3.1); then what is
// sent in any case.
func (m *message) chooseCodes() {
	m.add(optMessageType)
	if m.typ == dhcpv4.MessageTypeNak { // RFC 2131 §4.3.1, table 3
		m.add(optServerID, optMessage, optClientID)
		return
	}
	if len(m.req.Params) > 0 {
		m.add(m.req.Params...)
	} else {
		m.add(everything...)
		for code := uint8(optPrivateFirst); code <= optPrivateLast; code++ {
			if code != optRoutesWindows {
				m.add(code)
			}
		}
	}
	m.add(optLeaseTime, optServerID, optMask)
	if needClassless(m.routes) && !m.asks(optRoutesWindows) {
		m.add(optRoutes)
	}
	m.add(optRouter, optClientID, optRapidCommit)
	m.addHeaderNames()
}

// addHeaderNames takes in the names that PXE looks for in the header: as options
// only where their field is too short or is overloaded.
func (m *message) addHeaderNames() {
	for _, name := range []struct {
		code  uint8
		text  string
		field int
	}{{optTFTPServer, m.lease.TFTPServer, snameLen}, {optBootFile, m.lease.BootFile, fileLen}} {
		if m.full[name.code] == 0 {
			m.inHeader[name.code] = name.text != "" && len(name.text) < name.field
			m.add(name.code)
		}
	}
}

// add takes options in, each once, and only if there is something to send: but
// for rapid commit, no option has length zero.
func (m *message) add(codes ...uint8) {
	for _, code := range codes {
		if m.full[code] > 0 {
			continue
		}
		if n := m.items(code); n > 0 {
			m.full[code], m.kept[code] = n, n
			m.codes = append(m.codes, code)
		}
	}
}

// routesCode is the option by which this client takes its routes.
func (m *message) routesCode() uint8 {
	if m.full[optRoutes] > 0 {
		return optRoutes
	}
	return optRoutesWindows
}

// dropped puts into words what has been left out or cut.
func (m *message) dropped(how overload) []string {
	var out []string
	for _, code := range m.codes {
		full, kept := m.full[code], m.kept[code]
		switch {
		case kept == full, m.inHeader[code] && !how.hides(code):
		case kept == 0:
			out = append(out, optionText(code))
		default:
			out = append(out, fmt.Sprintf("%s: %d of %d", optionText(code), full-kept, full))
		}
	}
	return out
}
