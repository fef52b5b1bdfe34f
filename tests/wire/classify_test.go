package wire

import (
	"bytes"
	"testing"
)

// udp returns an Ethernet frame to a MAC with an IPv4 packet with a UDP datagram.
func udp(group byte, from, to byte, payload []byte) []byte {
	frame := append(make([]byte, 12), 8, 0)
	frame[0] = group
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, protocolUDP
	return bytes.Join([][]byte{frame, ip, {0, from, 0, to, 0, 0, 0, 0}, payload}, nil)
}

// message returns a DHCP message with options.
func message(options ...byte) []byte { return append(make([]byte, optionsAt), options...) }

func TestFramesAreCountedByKind(t *testing.T) {
	for name, test := range map[string]struct {
		frame []byte
		want  string
	}{
		"discover":                    {udp(1, 68, 67, message(53, 1, 1, 255)), "DISCOVER"},
		"nak behind other options":    {udp(1, 67, 68, message(0, 0, 54, 4, 1, 2, 3, 4, 53, 1, 6, 255)), "NAK"},
		"no message type":             {udp(1, 68, 67, message(255)), "BOOTP"},
		"option cut off":              {udp(1, 68, 67, message(54, 4, 1)), "BOOTP"},
		"DNS":                         {udp(0, 68, 53, message(53, 1, 1, 255)), "ipv4"},
		"too short for DHCP":          {udp(1, 68, 67, nil), "ipv4"},
		"ARP":                         {append(make([]byte, 12), 8, 6), "arp"},
		"IPv6":                        {append(make([]byte, 12), 0x86, 0xdd), "ipv6"},
		"no header":                   {make([]byte, 13), "other"},
		"IPv4 header that is cut off": {append(make([]byte, 12), 8, 0, 0x45), "ipv4"},
	} {
		if got := classify(test.frame); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestUnicastIsARequestToOneStation(t *testing.T) {
	request := message(53, 1, 3, 255)
	if !Unicast("REQUEST", udp(0, 68, 67, request)) {
		t.Error("a RENEW is not picked")
	}
	if Unicast("REQUEST", udp(0xff, 68, 67, request)) {
		t.Error("a REBIND is picked")
	}
}
