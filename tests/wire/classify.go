package wire

import "encoding/binary"

// Offsets and values of the headers, by RFC 894, RFC 791, RFC 768, RFC 2131, and
// by RFC 8200, RFC 4443, RFC 8415 for IPv6.
const (
	etherHeader = 14
	etherIPv4   = 0x0800
	etherARP    = 0x0806
	etherIPv6   = 0x86dd
	protocolUDP = 17
	udpHeader   = 8
	serverPort  = 67
	clientPort  = 68
	optionsAt   = 240 // after the magic cookie
	optionType  = 53
	optionPad   = 0
	optionEnd   = 255

	ipv6Header     = 40
	protocolICMPv6 = 58
	server6Port    = 547
	client6Port    = 546
)

// messageTypes are the values of option 53 (RFC 2132 §9.6).
var messageTypes = map[byte]string{
	1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK", 7: "RELEASE", 8: "INFORM",
}

// message6Types are the types of DHCPv6 messages (RFC 8415 §7.3). Those that DHCPv4
// has too end in 6.
var message6Types = map[byte]string{
	1: "SOLICIT", 2: "ADVERTISE", 3: "REQUEST6", 4: "CONFIRM", 5: "RENEW", 6: "REBIND", 7: "REPLY", 8: "RELEASE6",
	9: "DECLINE6", 10: "RECONFIGURE", 11: "INFORMATION-REQUEST", 12: "RELAY-FORW", 13: "RELAY-REPL",
}

// neighborTypes are the types of neighbour discovery (RFC 4861 §4).
var neighborTypes = map[byte]string{133: "RS", 134: "RA", 135: "NS", 136: "NA", 137: "REDIRECT"}

// classify returns the kind of a frame.
func classify(frame []byte) string {
	if len(frame) < etherHeader {
		return "other"
	}
	payload := frame[etherHeader:]
	switch binary.BigEndian.Uint16(frame[etherHeader-2:]) {
	case etherARP:
		return "arp"
	case etherIPv6:
		return classify6(payload)
	case etherIPv4:
		if dhcp := dhcpOf(payload); dhcp != nil {
			return messageType(dhcp)
		}
		return "ipv4"
	}
	return "other"
}

// classify6 returns the kind of an IPv6 packet. One with extension headers, as
// those about multicast listeners have, is just IPv6.
func classify6(packet []byte) string {
	if len(packet) > ipv6Header {
		rest := packet[ipv6Header:]
		switch packet[6] {
		case protocolICMPv6:
			if name, ok := neighborTypes[rest[0]]; ok {
				return name
			}
		case protocolUDP:
			if name, ok := message6Types[dhcp6Type(rest)]; ok {
				return name
			}
		}
	}
	return "ipv6"
}

// dhcp6Type returns the type of the DHCPv6 message in a UDP datagram, or 0.
func dhcp6Type(udp []byte) byte {
	if len(udp) <= udpHeader {
		return 0
	}
	switch binary.BigEndian.Uint16(udp[2:]) {
	case server6Port, client6Port:
		return udp[udpHeader]
	}
	return 0
}

// ipv6 reports whether a kind is one of IPv6's.
func ipv6(kind string) bool {
	for _, names := range []map[byte]string{message6Types, neighborTypes} {
		for _, name := range names {
			if name == kind {
				return true
			}
		}
	}
	return kind == "ipv6"
}

// dhcpOf returns the DHCP message in an IPv4 packet, or nil.
func dhcpOf(packet []byte) []byte {
	if len(packet) < 20 || packet[9] != protocolUDP {
		return nil
	}
	header := int(packet[0]&0xf) * 4
	if len(packet) < header+udpHeader+optionsAt {
		return nil
	}
	udp := packet[header:]
	from, to := binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	if !(from == clientPort && to == serverPort || from == serverPort && to == clientPort) {
		return nil
	}
	return udp[udpHeader:]
}

// messageType returns the name of a message's type, or "BOOTP" if it has none.
func messageType(dhcp []byte) string {
	for options := dhcp[optionsAt:]; len(options) >= 2 && options[0] != optionEnd; {
		if options[0] == optionPad {
			options = options[1:]
			continue
		}
		end := 2 + int(options[1])
		if end > len(options) {
			break
		}
		if options[0] == optionType && options[1] == 1 {
			if name, ok := messageTypes[options[2]]; ok {
				return name
			}
		}
		options = options[end:]
	}
	return "BOOTP"
}

// Unicast picks the requests of a client that has an address and asks its server
// directly, as RENEWING does and REBINDING does not: Lose takes it.
func Unicast(kind string, frame []byte) bool {
	return kind == "REQUEST" && frame[0]&1 == 0 // the group bit of the destination
}
