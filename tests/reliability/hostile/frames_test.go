package hostile

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/podwire/podwire/tests/wire"
)

// Types of ICMPv6's neighbour discovery, and of DHCP's messages.
const (
	typeRS, typeNS                      = 133, 135
	typeDiscover, typeRequest           = 1, 3
	typeSolicit                         = 1
	clientID6, elapsed6, iaNA6, request = 1, 8, 3, 6
)

// maker makes the frames of one flood.
type maker struct {
	name string
	make func() []byte
}

func (h *hostile) makers() []maker {
	kinds := []maker{
		{"DISCOVER", h.discover},
		{"REQUEST", func() []byte {
			return h.dhcp(wire.DHCP(h.mac, rand.Uint32(), typeRequest, h.GuestAddr()))
		}},
		{"DISCOVER of other MACs", func() []byte {
			mac := randomMAC()
			return wire.UDP(mac, nobody4, everybody4, wire.DHCP(mac, rand.Uint32(), typeDiscover, netip.Addr{}))
		}},
		{"router solicitation", func() []byte {
			return wire.ICMPv6(h.mac, h.own6, routers6, []byte{typeRS, 0, 0, 0, 0, 0, 0, 0})
		}},
		{"neighbor solicitation", h.solicitation},
		{"ARP", func() []byte { return wire.ARPRequest(h.mac, h.GuestAddr(), serverID) }},
		{"DHCPv6 SOLICIT", h.solicit},
		{"noise to the DHCP ports", h.noise},
	}
	return append(kinds, maker{"all of them mixed", func() []byte { return kinds[rand.N(len(kinds))].make() }})
}

func (h *hostile) dhcp(message []byte) []byte {
	return wire.UDP(h.mac, nobody4, everybody4, message)
}

func (h *hostile) discover() []byte {
	return h.dhcp(wire.DHCP(h.mac, rand.Uint32(), typeDiscover, netip.Addr{}, 55, 9, 1, 3, 6, 12, 15, 26, 42, 119, 121))
}

// solicitation asks for the MAC of the router.
func (h *hostile) solicitation() []byte {
	target := h.router.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], target[13:])
	message := append([]byte{typeNS, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	return wire.ICMPv6(h.mac, h.own6, netip.AddrFrom16(group), append(append(message, 1, 1), h.mac...))
}

func (h *hostile) solicit() []byte {
	duid := append([]byte{0, 3, 0, 1}, h.mac...)
	b := binary.BigEndian.AppendUint32(nil, typeSolicit<<24|rand.Uint32()>>8)
	b = append(b, 0, clientID6, 0, byte(len(duid)))
	b = append(b, duid...)
	b = append(b, 0, elapsed6, 0, 2, 0, 0, 0, request, 0, 4, 0, 23, 0, 24)
	b = append(b, 0, iaNA6, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	return h.dhcp6(b)
}

func (h *hostile) dhcp6(message []byte) []byte {
	return wire.UDP(h.mac, netip.AddrPortFrom(h.own6, 546), servers6, message)
}

// question asks podwire's DNS for a name that nobody has asked for yet.
func (h *hostile) question() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(rand.Uint32()))
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8)
	for range 8 {
		b = append(b, 'a'+byte(rand.N(26)))
	}
	b = append(b, 0, 0, 1, 0, 1)
	return wire.UDP(h.mac, netip.AddrPortFrom(h.GuestAddr(), 1024+uint16(rand.N(60000))), netip.AddrPortFrom(serverID, 53), b)
}

// noise is what no client sends, to where a server listens; half of it begins as a message
// of the protocol does.
func (h *hostile) noise() []byte {
	payload := make([]byte, rand.N(1200))
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	if rand.N(2) == 0 {
		if rand.N(2) == 0 {
			copy(payload, wire.DHCP(h.mac, rand.Uint32(), byte(rand.N(9)), netip.Addr{})[:min(len(payload), 243)])
		}
		return h.dhcp(payload)
	}
	if len(payload) > 0 && rand.N(2) == 0 {
		payload[0] = byte(rand.N(14))
	}
	return h.dhcp6(payload)
}

func randomMAC() net.HardwareAddr {
	return net.HardwareAddr{2, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())}
}
