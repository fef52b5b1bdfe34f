package wire

import "encoding/binary"

// Offsets and values of the headers, by RFC 894, RFC 791, RFC 768, RFC 2131.
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
)

// messageTypes are the values of option 53 (RFC 2132 §9.6).
var messageTypes = map[byte]string{
	1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK", 7: "RELEASE", 8: "INFORM",
}

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
		return "ipv6"
	case etherIPv4:
		if dhcp := dhcpOf(payload); dhcp != nil {
			return messageType(dhcp)
		}
		return "ipv4"
	}
	return "other"
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
		if name, ok := messageTypes[options[2]]; ok && options[0] == optionType && options[1] == 1 {
			return name
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
