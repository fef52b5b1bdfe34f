package wire

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Ethernet makes a frame.
func Ethernet(dst, src net.HardwareAddr, etherType uint16, payload ...byte) []byte {
	b := append(append([]byte{}, dst...), src...)
	return append(binary.BigEndian.AppendUint16(b, etherType), payload...)
}

// Everyone is Ethernet's broadcast address.
var Everyone = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// UDP makes a frame with a UDP datagram, to the MAC of its group or to everyone.
func UDP(src net.HardwareAddr, from, to netip.AddrPort, payload []byte) []byte {
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	if to.Addr().Is4() {
		return Ethernet(Everyone, src, 0x0800, ipv4(from.Addr(), to.Addr(), 17, udp)...)
	}
	return Ethernet(groupMAC(to.Addr()), src, 0x86dd, ipv6Packet(from.Addr(), to.Addr(), 17, 6, udp)...)
}

// ICMPv6 makes a frame with a message of neighbour discovery, whose checksum is set.
func ICMPv6(src net.HardwareAddr, from, to netip.Addr, message []byte) []byte {
	return Ethernet(groupMAC(to), src, 0x86dd, ipv6Packet(from, to, 58, 2, message)...)
}

// ARPRequest makes a question for the MAC of an address.
func ARPRequest(src net.HardwareAddr, from, target netip.Addr) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, src...)
	b = append(append(b, from.AsSlice()...), 0, 0, 0, 0, 0, 0)
	return Ethernet(Everyone, src, 0x0806, append(b, target.AsSlice()...)...)
}

func groupMAC(to netip.Addr) net.HardwareAddr {
	if !to.IsMulticast() {
		return Everyone
	}
	a := to.As16()
	return append(net.HardwareAddr{0x33, 0x33}, a[12:]...)
}

func ipv4(from, to netip.Addr, protocol byte, payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], ^sum(b))
	return append(b, payload...) // a UDP checksum of zero is none
}

// ipv6Packet makes a packet, and sets the checksum at an offset of its payload.
func ipv6Packet(from, to netip.Addr, next byte, at int, payload []byte) []byte {
	addrs := append(from.AsSlice(), to.AsSlice()...)
	pseudo := binary.BigEndian.AppendUint32(append([]byte{}, addrs...), uint32(len(payload)))
	pseudo = append(append(pseudo, 0, 0, 0, next), payload...)
	checked := append([]byte{}, payload...)
	if len(checked) >= at+2 {
		binary.BigEndian.PutUint16(checked[at:], ^sum(pseudo))
	}
	b := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	return append(append(b, addrs...), checked...)
}

func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		if s += uint32(b[i]) << 8; i+1 < len(b) {
			s += uint32(b[i+1])
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// DHCP makes a DHCPv4 message of a client, with options in octets behind its type.
func DHCP(mac net.HardwareAddr, xid uint32, messageType byte, ciaddr netip.Addr, options ...byte) []byte {
	b := make([]byte, 240, 300)
	b[0], b[1], b[2] = 1, 1, 6
	binary.BigEndian.PutUint32(b[4:], xid)
	if ciaddr.Is4() {
		copy(b[12:], ciaddr.AsSlice())
	}
	copy(b[28:], mac)
	copy(b[236:], []byte{99, 130, 83, 99})
	b = append(append(b, 53, 1, messageType), options...)
	return append(b, 255)
}

// DHCPAnswer returns the type of a DHCPv4 server's message in a frame, its transaction
// and the address that it gives.
func DHCPAnswer(frame []byte) (messageType byte, xid uint32, addr netip.Addr, ok bool) {
	const headers = 14 + 20 + 8
	if len(frame) < headers+243 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[23] != 17 || binary.BigEndian.Uint16(frame[34:]) != 67 {
		return 0, 0, addr, false
	}
	p := frame[headers:]
	for options := p[240:]; len(options) > 2 && options[0] != 255; {
		if options[0] == 53 {
			return options[2], binary.BigEndian.Uint32(p[4:]), netip.AddrFrom4([4]byte(p[16:20])), true
		}
		if int(options[1])+2 > len(options) {
			break
		}
		options = options[2+int(options[1]):]
	}
	return 0, 0, addr, false
}
