//go:build linux

package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var (
	guestMAC  = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	broadcast = netstate.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

	podIP     = netip.MustParseAddr("10.244.1.7")
	gatewayIP = netip.MustParseAddr("10.244.1.1")
	anyIP     = netip.IPv4Unspecified()
)

func ether(kind uint16, payload []byte) []byte {
	return slices.Concat(broadcast[:], guestMAC[:], binary.BigEndian.AppendUint16(nil, kind), payload)
}

// ipv4 is an IPv4 packet with two ports. Options lengthen its header; fragment is
// the header's field of that name, with its flags.
func ipv4(protocol byte, src, dst uint16, options int, fragment uint16) []byte {
	header := make([]byte, 20+options)
	header[0] = 0x40 | byte(len(header)/4)
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(datagram(0, 0))))
	binary.BigEndian.PutUint16(header[6:], fragment)
	header[8], header[9] = 64, protocol
	copy(header[16:], broadcast[:4])
	for i := range options {
		header[20+i] = 1 // no operation
	}
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum+sum>>16))
	return append(header, datagram(src, dst)...)
}

// udp is a datagram in an IPv4 packet.
func udp(src, dst uint16, options int, fragment uint16) []byte {
	return ipv4(17, src, dst, options, fragment)
}

// datagram is a UDP datagram of four octets, without a checksum.
func datagram(src, dst uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	return append(b, 0, 12, 0, 0, 'd', 'a', 't', 'a')
}

// ipv6 is a datagram in an IPv6 packet.
func ipv6(src, dst uint16) []byte {
	header := make([]byte, 40)
	header[0], header[5], header[6], header[7] = 0x60, byte(len(datagram(0, 0))), 17, 64
	header[8], header[24], header[25] = 0xfd, 0xff, 0x02
	header[23], header[39] = 7, 1
	return append(header, datagram(src, dst)...)
}

func arp(op byte, sender, target netip.Addr) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, op},
		guestMAC[:], sender.AsSlice(), make([]byte, 6), target.AsSlice())
}

// edit changes octets of a copy.
func edit(b []byte, at int, with ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], with)
	return b
}

// What the filters of a pod look for, all at once.
var podMatches = []plan.Match{
	{Kind: plan.MatchDHCPClient},
	{Kind: plan.MatchDHCPServer},
	{Kind: plan.MatchARPWhoHas, Addr: gatewayIP},
	{Kind: plan.MatchARPProbe, Addr: podIP},
}

// frames are the table that every filter must agree on.
var frames = []struct {
	name  string
	frame []byte
	match bool
	// malformed frames are dropped by some stacks before any filter.
	malformed bool
}{
	{name: "DHCP request", frame: ether(0x0800, udp(68, 67, 0, 0)), match: true},
	{name: "DHCP request, header with options", frame: ether(0x0800, udp(68, 67, 40, 0)), match: true},
	{name: "DHCP request from any port", frame: ether(0x0800, udp(1234, 67, 0, 0)), match: true},
	{name: "DHCP request, may not be fragmented", frame: ether(0x0800, udp(68, 67, 0, 0x4000)), match: true},
	{name: "DHCP request, first fragment", frame: ether(0x0800, udp(68, 67, 0, 0x2000)), match: true},
	{name: "later fragment", frame: ether(0x0800, udp(68, 67, 0, 0x2010))},
	{name: "DHCP answer", frame: ether(0x0800, udp(67, 68, 0, 0)), match: true},
	{name: "DHCP answer, header with options", frame: ether(0x0800, udp(67, 68, 8, 0)), match: true},
	{name: "to the client's port from elsewhere", frame: ether(0x0800, udp(53, 68, 0, 0))},
	{name: "from the server's port to elsewhere", frame: ether(0x0800, udp(67, 6800, 0, 0))},
	{name: "DNS", frame: ether(0x0800, udp(5353, 53, 0, 0))},
	{name: "TCP to the same port", frame: ether(0x0800, ipv4(6, 68, 67, 0, 0))},
	{name: "header longer than the frame", frame: edit(ether(0x0800, udp(68, 67, 0, 0)), 14, 0x4f), malformed: true},
	{name: "IPv6", frame: ether(0x86dd, ipv6(68, 67))},
	{name: "an IPv4 that is none", frame: ether(0x0802, udp(68, 67, 0, 0))},
	{name: "who has the gateway", frame: ether(0x0806, arp(1, podIP, gatewayIP)), match: true},
	{name: "who has the gateway, probing", frame: ether(0x0806, arp(1, anyIP, gatewayIP)), match: true},
	{name: "who has the pod, probing", frame: ether(0x0806, arp(1, anyIP, podIP)), match: true},
	{name: "who has the pod, from another", frame: ether(0x0806, arp(1, gatewayIP, podIP))},
	{name: "announcement", frame: ether(0x0806, arp(1, podIP, podIP))},
	{name: "who has another", frame: ether(0x0806, arp(1, podIP, netip.MustParseAddr("10.244.1.9")))},
	{name: "ARP answer", frame: ether(0x0806, arp(2, anyIP, podIP))},
	{name: "ARP of another hardware", frame: edit(ether(0x0806, arp(1, podIP, gatewayIP)), 15, 6)},
	{name: "ARP of another protocol", frame: edit(ether(0x0806, arp(1, podIP, gatewayIP)), 16, 9)},
	{name: "ARP cut short", frame: ether(0x0806, arp(1, podIP, gatewayIP))[:40], malformed: true},
	{name: "next to nothing", frame: ether(0x0800, nil), malformed: true},
	{name: "DHCP request of a VLAN", frame: vlan(ether(0x0800, udp(68, 67, 0, 0)))},
	{name: "ARP request of a VLAN", frame: vlan(ether(0x0806, arp(1, podIP, gatewayIP)))},
}

// vlan tags a frame with VLAN 5.
func vlan(frame []byte) []byte {
	return slices.Insert(slices.Clone(frame), 12, 0x81, 0, 0, 5)
}
