package wire

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// udp returns an Ethernet frame to a MAC with an IPv4 packet with a UDP datagram.
func udp(group byte, from, to byte, payload []byte) []byte {
	frame := append(make([]byte, 12), 8, 0)
	frame[0] = group
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, protocolUDP
	return bytes.Join([][]byte{frame, ip, {0, from, 0, to, 0, 0, 0, 0}, payload}, nil)
}

// udp6 returns an Ethernet frame with an IPv6 packet with a UDP datagram.
func udp6(from, to uint16, payload ...byte) []byte {
	return packet6(protocolUDP, append([]byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 0, 0, 0}, payload...)...)
}

// packet6 returns an Ethernet frame with an IPv6 packet.
func packet6(next byte, payload ...byte) []byte {
	frame := append(make([]byte, 12), 0x86, 0xdd)
	ip := make([]byte, ipv6Header)
	ip[0], ip[6] = 0x60, next
	return bytes.Join([][]byte{frame, ip, payload}, nil)
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
		"router solicitation":         {packet6(58, 133, 0), "RS"},
		"neighbour advertisement":     {packet6(58, 136, 0), "NA"},
		"echo request":                {packet6(58, 128, 0), "ipv6"},
		"listener report":             {packet6(0, 58, 0, 5, 2, 0, 0, 1, 0, 143, 0), "ipv6"},
		"solicit":                     {udp6(546, 547, 1), "SOLICIT"},
		"request of DHCPv6":           {udp6(546, 547, 3), "REQUEST6"},
		"reply":                       {udp6(547, 546, 7), "REPLY"},
		"no such message of DHCPv6":   {udp6(546, 547, 99), "ipv6"},
		"empty datagram for DHCPv6":   {udp6(546, 547), "ipv6"},
		"DNS over IPv6":               {udp6(546, 53, 1), "ipv6"},
		"IPv6 header alone":           {packet6(58), "ipv6"},
		"no header":                   {make([]byte, 13), "other"},
		"IPv4 header that is cut off": {append(make([]byte, 12), 8, 0, 0x45), "ipv4"},
	} {
		if got := classify(test.frame); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestCountsAreByFamily(t *testing.T) {
	w := &Wire{counts: map[string]int{}, sent: map[string]int{}, first: map[string]time.Time{}}
	for _, frame := range [][]byte{
		udp(1, 68, 67, message(53, 1, 1, 255)), packet6(58, 133), packet6(58, 134), udp6(546, 547, 1), packet6(58, 128),
	} {
		w.count(frame, true)
	}
	if diff := cmp.Diff(map[string]int{"DISCOVER": 1, "ipv6": 4}, w.Counts()); diff != "" {
		t.Errorf("Counts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"RS": 1, "RA": 1, "SOLICIT": 1}, w.Counts6()); diff != "" {
		t.Errorf("Counts6 (-want +got):\n%s", diff)
	}
	w.count(packet6(58, 133), false)
	if got := w.Sent()["RS"]; got != 1 {
		t.Errorf("the guest sent %d RS, want 1: the other is somebody else's", got)
	}
	if _, ok := w.First("RA"); !ok {
		t.Error("the first RA was not noted")
	}
	if _, ok := w.First("REPLY"); ok {
		t.Error("a first REPLY was noted, and none crossed")
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
