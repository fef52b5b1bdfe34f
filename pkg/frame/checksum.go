package frame

import "encoding/binary"

const (
	protocolTCP   = 6
	protocolUDP   = 17
	protocolICMP6 = 58 // RFC 4443 §1

	tcpLen        = 20 // a header without options (RFC 9293 §3.1)
	tcpChecksumAt = 16
	udpChecksumAt = 6
)

// FinishChecksum sets the TCP or UDP checksum of a whole IPv4 or IPv6 packet. A
// guest's virtio may leave it to the device, which a packet socket on the tap
// stands before; whoever takes the packet further wants it finished.
//
// It leaves alone what it cannot be sure of: fragments, other protocols, IPv6
// packets with extension headers, and whatever is malformed.
func FinishChecksum(packet []byte) {
	protocol, addrs, segment := transportOf(packet)
	switch protocol {
	case protocolTCP:
		if len(segment) < tcpLen {
			return
		}
		put(segment, tcpChecksumAt, 0)
		put(segment, tcpChecksumAt, checksum(protocolTCP, addrs, segment))
	case protocolUDP:
		_, datagram, err := splitUDP(segment)
		if err != nil {
			return
		}
		put(datagram, udpChecksumAt, 0)
		put(datagram, udpChecksumAt, udpChecksum(addrs, datagram))
	}
}

func put(b []byte, at int, v uint16) { binary.BigEndian.PutUint16(b[at:], v) }

// transportOf finds what an IP packet carries. addrs are both addresses, as the
// pseudo header has them; the protocol is 0 where there is nothing to be found.
func transportOf(packet []byte) (protocol byte, addrs, segment []byte) {
	switch versionOf(packet) {
	case 4:
		if header, payload, err := splitIPv4(packet); err == nil {
			return header[9], header[12:20], payload
		}
	case 6:
		if header, payload, err := splitIPv6(packet); err == nil {
			return header[6], header[8:40], payload
		}
	}
	return 0, nil, nil
}

// versionOf returns the version of an IP packet, 0 for no packet at all.
func versionOf(packet []byte) byte {
	if len(packet) == 0 {
		return 0
	}
	return packet[0] >> 4
}

// checksum covers the pseudo header and the segment, whose own checksum field is
// zero. The pseudo headers of IPv4 (RFC 768) and IPv6 (RFC 8200 §8.1) differ in
// their order and in zeros, and a sum knows of neither.
func checksum(protocol byte, addrs, segment []byte) uint16 {
	s := sum(0, addrs) + uint32(protocol) + uint32(len(segment))
	return ^fold(sum(s, segment))
}

// udpChecksum is the same for UDP. RFC 768: a sum of zero is sent as all ones,
// since zero says that there is none.
func udpChecksum(addrs, datagram []byte) uint16 {
	if c := checksum(protocolUDP, addrs, datagram); c != 0 {
		return c
	}
	return 0xffff
}

// sum adds b to a ones' complement sum that fold has yet to finish (RFC 1071).
// 64 KiB of all ones stay below 2³², so that it cannot overflow.
func sum(s uint32, b []byte) uint32 {
	for len(b) >= 2 {
		s += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
