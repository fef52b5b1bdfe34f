package frame

import (
	"net/netip"

	"github.com/podwire/podwire/pkg/netstate"
)

// Packet is an IP packet of either family in an Ethernet frame, fragments
// included: for passing on what is not podwire's to read.
type Packet struct {
	SrcMAC, DstMAC netstate.MAC
	Src, Dst       netip.Addr // as in Data, for the reader: AppendPacket does not look at them
	Data           []byte     // the whole packet, from its IP header on
}

// ParsePacket reads a frame that came from a guest. Data is a part of b, not a
// copy, and ends where the packet does. Its transport's checksum may be
// unfinished: see FinishChecksum.
func ParsePacket(b []byte) (Packet, error) {
	kind := EtherType(b)
	dst, src, packet, err := payloadOf(b, kind, errNotIP)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{SrcMAC: src, DstMAC: dst}
	var header, payload []byte
	switch kind {
	case EtherTypeIPv4:
		if header, payload, err = checkIPv4(packet); err != nil {
			return Packet{}, err
		}
		p.Src, p.Dst = netip.AddrFrom4([4]byte(header[12:])), netip.AddrFrom4([4]byte(header[16:]))
	case EtherTypeIPv6:
		if header, payload, err = splitIPv6(packet); err != nil {
			return Packet{}, err
		}
		p.Src, p.Dst = netip.AddrFrom16([16]byte(header[8:])), netip.AddrFrom16([16]byte(header[24:]))
	default:
		return Packet{}, errNotIP
	}
	n := len(header) + len(payload)
	p.Data = packet[:n:n]
	return p, nil
}

// AppendPacket appends the frame to dst. Data that is no IP packet is left out:
// dst comes back as it was.
func AppendPacket(dst []byte, p Packet) []byte {
	switch versionOf(p.Data) {
	case 4:
		dst = appendEthernet(dst, p.DstMAC, p.SrcMAC, EtherTypeIPv4)
	case 6:
		dst = appendEthernet(dst, p.DstMAC, p.SrcMAC, EtherTypeIPv6)
	default:
		return dst
	}
	return append(dst, p.Data...)
}
