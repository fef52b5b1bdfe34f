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
	serverMAC = netstate.MAC{0x02, 'p', 'w', 0x4b, 0xfe, 0x01}
	broadcast = netstate.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

	podIP     = netip.MustParseAddr("10.244.1.7")
	gatewayIP = netip.MustParseAddr("10.244.1.1")
	anyIP     = netip.IPv4Unspecified()
	dnsIP     = netip.MustParseAddr("169.254.75.53")

	podIP6     = netip.MustParseAddr("fd00:10:244:1::7")
	gatewayIP6 = netip.MustParseAddr("fe80::858:aff:fef4:101")
	anyIP6     = netip.IPv6Unspecified()
	dnsIP6     = netip.MustParseAddr("fd00:75::53")
	otherIP6   = netip.MustParseAddr("fd00:10:244:1::9")
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
	return append(summed(header), datagram(src, dst)...)
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

// addressed is an IPv4 packet from and to other addresses.
func addressed(packet []byte, src, dst netip.Addr) []byte {
	return summed(edit(edit(packet, 12, src.AsSlice()...), 16, dst.AsSlice()...))
}

// to4 is an IPv4 packet to another address.
func to4(packet []byte, dst netip.Addr) []byte { return addressed(packet, anyIP, dst) }

// summed is an IPv4 packet with the checksum of its header.
func summed(packet []byte) []byte {
	packet = edit(packet, 10, 0, 0)
	sum := checksum(packet[:4*int(packet[0]&15)])
	return edit(packet, 10, byte(sum>>8), byte(sum))
}

// checksum is that of RFC 1071, of an even number of octets.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum&0xffff + sum>>16
	return ^uint16(sum + sum>>16)
}

// ipv6 is an IPv6 packet.
func ipv6(next byte, src, dst netip.Addr, payload []byte) []byte {
	header := make([]byte, 40)
	header[0], header[6], header[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(header[4:], uint16(len(payload)))
	copy(header[8:], src.AsSlice())
	copy(header[24:], dst.AsSlice())
	return append(header, payload...)
}

// udp6 is a datagram in an IPv6 packet.
func udp6(src, dst uint16) []byte { return ipv6(17, podIP6, otherIP6, datagram(src, dst)) }

// icmp6 is an ICMPv6 message of a type, with what follows its first eight octets
// and no checksum.
func icmp6(kind byte, src netip.Addr, rest ...byte) []byte {
	return ipv6(58, src, otherIP6, append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, rest...))
}

// solicit is a neighbor solicitation.
func solicit(src, target netip.Addr) []byte { return icmp6(135, src, target.AsSlice()...) }

// behind puts an extension header of eight octets behind the IPv6 header.
func behind(packet []byte, kind byte, header [7]byte) []byte {
	next := packet[6]
	packet = slices.Insert(slices.Clone(packet), 40, append([]byte{next}, header[:]...)...)
	packet[5] += 8
	packet[6] = kind
	return packet
}

// behindAll puts extension headers of eight octets before one another, the first one
// first. They say nothing.
func behindAll(packet []byte, kinds ...byte) []byte {
	for _, kind := range slices.Backward(kinds) {
		var header [7]byte
		if kind == 60 || kind == 0 {
			header = [7]byte{1: 1, 2: 4} // an option that fills it up
		}
		packet = behind(packet, kind, header)
	}
	return packet
}

// behindLong puts one extension header there with so many times eight octets more.
func behindLong(packet []byte, kind, more byte) []byte {
	padding := 8 * int(more)
	packet = behind(packet, kind, [7]byte{0: more, 1: 1, 2: byte(padding + 4)})
	packet = slices.Insert(packet, 48, make([]byte, padding)...)
	packet[5] += byte(padding)
	return packet
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
	{Kind: plan.MatchDHCP6Client},
	{Kind: plan.MatchDHCP6Server},
	{Kind: plan.MatchRS},
	{Kind: plan.MatchRA},
	{Kind: plan.MatchNDWhoHas, Addr: gatewayIP6},
	{Kind: plan.MatchNDProbe, Addr: podIP6},
	{Kind: plan.MatchNDSays, Addr: gatewayIP6},
	{Kind: plan.MatchTo, Addr: dnsIP},
	{Kind: plan.MatchTo, Addr: dnsIP6},
	{Kind: plan.MatchFrom, MAC: serverMAC},
}

// frames are the table that every filter must agree on.
var frames = []struct {
	name  string
	frame []byte
	match bool
	// malformed frames are dropped by some stacks before any filter.
	malformed bool
	// tagged frames match once the kernel has taken their tag out.
	tagged bool
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
	{name: "IPv4's ports in IPv6", frame: ether(0x86dd, udp6(68, 67))},
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
	{name: "DHCPv6 request", frame: ether(0x86dd, udp6(546, 547)), match: true},
	{name: "DHCPv6 request from any port", frame: ether(0x86dd, udp6(1234, 547)), match: true},
	{name: "DHCPv6 answer", frame: ether(0x86dd, udp6(547, 546)), match: true},
	{name: "to DHCPv6's client port from elsewhere", frame: ether(0x86dd, udp6(53, 546))},
	{name: "from DHCPv6's server port to elsewhere", frame: ether(0x86dd, udp6(547, 5460))},
	{name: "IPv6's ports in IPv4", frame: ether(0x0800, udp(546, 547, 0, 0))},
	{name: "TCP to DHCPv6's port", frame: ether(0x86dd, edit(udp6(546, 547), 6, 6))},
	{name: "fragmented datagram to DHCPv6's port", frame: ether(0x86dd, behind(udp6(546, 547), 44, [7]byte{2: 1}))},
	{name: "UDP in IPv6 cut short", frame: ether(0x86dd, udp6(546, 547))[:61], malformed: true},
	{name: "router solicitation", frame: ether(0x86dd, icmp6(133, podIP6)), match: true},
	{name: "router solicitation from nobody", frame: ether(0x86dd, icmp6(133, anyIP6)), match: true},
	{name: "router advertisement", frame: ether(0x86dd, icmp6(134, gatewayIP6, make([]byte, 8)...)), match: true},
	{name: "the number of router advertisement in UDP", frame: ether(0x86dd, edit(icmp6(134, gatewayIP6), 6, 17))},
	{name: "redirect", frame: ether(0x86dd, icmp6(137, gatewayIP6, make([]byte, 32)...))},
	{name: "echo request", frame: ether(0x86dd, icmp6(128, podIP6))},
	{name: "router advertisement behind an extension header", frame: ether(0x86dd, behind(icmp6(134, gatewayIP6, make([]byte, 8)...), 0, [7]byte{1: 1, 2: 4})), match: true},
	{name: "router advertisement behind headers of all kinds", frame: ether(0x86dd, behindAll(icmp6(134, gatewayIP6, make([]byte, 8)...), 0, 43, 60, 44, 60)), match: true},
	{name: "router advertisement behind eight headers", frame: ether(0x86dd, behindAll(icmp6(134, gatewayIP6, make([]byte, 8)...), 60, 60, 60, 60, 60, 60, 60, 60)), match: true},
	{name: "router advertisement behind a long header", frame: ether(0x86dd, behindLong(icmp6(134, gatewayIP6, make([]byte, 8)...), 60, 3)), match: true},
	{name: "router advertisement in a first fragment", frame: ether(0x86dd, behind(icmp6(134, gatewayIP6, make([]byte, 8)...), 44, [7]byte{2: 1})), match: true},
	{name: "a later fragment like a router advertisement", frame: ether(0x86dd, behind(icmp6(134, gatewayIP6, make([]byte, 8)...), 44, [7]byte{2: 8}))},
	{name: "authenticated", frame: ether(0x86dd, behind(icmp6(134, gatewayIP6, make([]byte, 8)...), 51, [7]byte{}))},
	{name: "what only its receiver can read", frame: ether(0x86dd, behind(icmp6(134, gatewayIP6, make([]byte, 8)...), 50, [7]byte{}))},
	{name: "echo request behind headers of all kinds", frame: ether(0x86dd, behindAll(icmp6(128, podIP6), 0, 43, 60, 44, 60))},
	{name: "DHCPv6 answer behind extension headers", frame: ether(0x86dd, behindAll(udp6(547, 546), 0, 60)), match: true},
	{name: "DHCPv6 answer in a first fragment", frame: ether(0x86dd, behind(udp6(547, 546), 44, [7]byte{2: 1})), match: true},
	{name: "DNS behind extension headers", frame: ether(0x86dd, behindAll(udp6(53, 5353), 60, 44))},
	{name: "TCP behind extension headers", frame: ether(0x86dd, behindAll(edit(udp6(547, 546), 6, 6), 0, 60))},
	{name: "nothing behind extension headers", frame: ether(0x86dd, behindAll(ipv6(59, podIP6, otherIP6, nil), 60))},
	{name: "multicast report behind an extension header", frame: ether(0x86dd, behind(icmp6(143, podIP6), 0, [7]byte{1: 5, 2: 2}))},
	{name: "solicitation of the IPv6 gateway", frame: ether(0x86dd, solicit(podIP6, gatewayIP6)), match: true},
	{name: "solicitation of the IPv6 gateway, probing", frame: ether(0x86dd, solicit(anyIP6, gatewayIP6)), match: true},
	{name: "solicitation of the pod, probing", frame: ether(0x86dd, solicit(anyIP6, podIP6)), match: true},
	{name: "solicitation of the pod, from another", frame: ether(0x86dd, solicit(gatewayIP6, podIP6))},
	{name: "solicitation of another", frame: ether(0x86dd, solicit(podIP6, otherIP6))},
	{name: "solicitation of another, probing", frame: ether(0x86dd, solicit(anyIP6, otherIP6))},
	{name: "advertisement of the IPv6 gateway", frame: ether(0x86dd, icmp6(136, otherIP6, gatewayIP6.AsSlice()...)), match: true},
	{name: "neighbor advertisement of another", frame: ether(0x86dd, icmp6(136, gatewayIP6, otherIP6.AsSlice()...))},
	{name: "neighbor advertisement cut short", frame: ether(0x86dd, icmp6(136, otherIP6, gatewayIP6.AsSlice()...))[:77], malformed: true},
	{name: "solicitation cut short", frame: ether(0x86dd, solicit(podIP6, gatewayIP6))[:77], malformed: true},
	{name: "ICMPv6 without a type", frame: ether(0x86dd, ipv6(58, podIP6, otherIP6, nil)), malformed: true},
	{name: "IPv6 cut short", frame: ether(0x86dd, icmp6(134, gatewayIP6))[:53], malformed: true},
	{name: "an IPv6 that is none", frame: ether(0x86de, udp6(546, 547))},
	{name: "to the nameserver", frame: ether(0x0800, to4(udp(5353, 53, 0, 0), dnsIP)), match: true},
	{name: "to the nameserver, by TCP", frame: ether(0x0800, to4(ipv4(6, 5353, 53, 0, 0), dnsIP)), match: true},
	{name: "to the nameserver, header with options", frame: ether(0x0800, to4(udp(5353, 53, 8, 0), dnsIP)), match: true},
	{name: "to the nameserver, later fragment", frame: ether(0x0800, to4(udp(0, 0, 0, 0x2010), dnsIP)), match: true},
	{name: "to the nameserver, header alone", frame: ether(0x0800, edit(to4(udp(0, 0, 0, 0), dnsIP), 2, 0, 20))[:34], match: true, malformed: true},
	{name: "to the nameserver's neighbour", frame: ether(0x0800, to4(udp(5353, 53, 0, 0), dnsIP.Next()))},
	{name: "to the IPv6 nameserver", frame: ether(0x86dd, ipv6(17, podIP6, dnsIP6, datagram(5353, 53))), match: true},
	{name: "to the IPv6 nameserver, a fragment", frame: ether(0x86dd, behind(ipv6(17, podIP6, dnsIP6, datagram(0, 0)), 44, [7]byte{1: 1})), match: true},
	{name: "to the IPv6 nameserver, header alone", frame: ether(0x86dd, ipv6(59, podIP6, dnsIP6, nil)), match: true},
	{name: "to the IPv6 nameserver's neighbour", frame: ether(0x86dd, ipv6(17, podIP6, dnsIP6.Next(), datagram(5353, 53)))},
	{name: "from the nameserver", frame: ether(0x86dd, ipv6(17, dnsIP6, podIP6, datagram(53, 5353)))},
	{name: "to the nameserver, IPv6 of a VLAN", frame: vlan(ether(0x86dd, ipv6(17, podIP6, dnsIP6, datagram(5353, 53))))},
	{name: "DHCP answer of no VLAN, tagged", frame: edit(vlan(ether(0x0800, udp(67, 68, 0, 0))), 14, 0xe0, 0), match: true, tagged: true},
	{name: "router advertisement of no VLAN, tagged", frame: edit(vlan(ether(0x86dd, icmp6(134, gatewayIP6, make([]byte, 8)...))), 14, 0, 0), match: true, tagged: true},
	{name: "router advertisement of a VLAN", frame: vlan(ether(0x86dd, icmp6(134, gatewayIP6, make([]byte, 8)...)))},
	{name: "DHCP request of a VLAN", frame: vlan(ether(0x0800, udp(68, 67, 0, 0)))},
	{name: "out of the server's card, IPv4", frame: sourced(ether(0x0800, udp(53, 5353, 0, 0)), serverMAC), match: true},
	{name: "out of the server's card, IPv6", frame: sourced(ether(0x86dd, icmp6(128, podIP6)), serverMAC), match: true},
	{name: "out of the server's card, neither", frame: sourced(marker(77), serverMAC), match: true},
	{name: "out of the server's card, nothing", frame: sourced(ether(0x88b5, nil), serverMAC), match: true, malformed: true},
	{name: "out of a card whose number ends differently", frame: sourced(marker(77), netstate.MAC{0x02, 'p', 'w', 0x4b, 0xfe, 0x02})},
	{name: "out of a card whose number begins differently", frame: sourced(marker(77), netstate.MAC{0x06, 'p', 'w', 0x4b, 0xfe, 0x01})},
	{name: "to the server's card", frame: edit(marker(77), 0, serverMAC[:]...)},
	{name: "out of the server's card, of a VLAN", frame: vlan(sourced(marker(77), serverMAC))},
	{name: "ARP request of a VLAN", frame: vlan(ether(0x0806, arp(1, podIP, gatewayIP)))},
}

// sourced is a frame from another source.
func sourced(frame []byte, mac netstate.MAC) []byte { return edit(frame, offSource, mac[:]...) }

// vlan tags a frame with VLAN 5.
func vlan(frame []byte) []byte {
	return slices.Insert(slices.Clone(frame), 12, 0x81, 0, 0, 5)
}
