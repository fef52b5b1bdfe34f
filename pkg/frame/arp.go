package frame

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/podwire/podwire/pkg/netstate"
)

// Operations of ARP (RFC 826).
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is an ARP packet for IPv4 in an Ethernet frame (RFC 826).
type ARP struct {
	SrcMAC, DstMAC       netstate.MAC // of the frame
	Op                   uint16       // ARPRequest, ARPReply
	SenderMAC, TargetMAC netstate.MAC
	SenderIP, TargetIP   netip.Addr // IPv4; a probe's sender is 0.0.0.0 (RFC 5227 §1.1)
}

const (
	arpLen           = 28 // with Ethernet and IPv4 addresses
	hardwareEthernet = 1  // RFC 826, ar$hrd
)

var (
	errShortARP = errors.New("reading ARP packet: too short")
	errARPKind  = errors.New("reading ARP packet: not for IPv4 over Ethernet")
)

// ParseARP reads a frame with an ARP packet, of any operation. Padding behind it
// is passed over.
func ParseARP(b []byte) (ARP, error) {
	dst, src, p, err := payloadOf(b, EtherTypeARP, errNotARP)
	if err != nil {
		return ARP{}, err
	}
	if len(p) < arpLen {
		return ARP{}, errShortARP
	}
	if binary.BigEndian.Uint16(p) != hardwareEthernet || binary.BigEndian.Uint16(p[2:]) != EtherTypeIPv4 ||
		p[4] != 6 || p[5] != 4 {
		return ARP{}, errARPKind
	}
	return ARP{
		SrcMAC: src, DstMAC: dst,
		Op:        binary.BigEndian.Uint16(p[6:]),
		SenderMAC: netstate.MAC(p[8:14]), SenderIP: netip.AddrFrom4([4]byte(p[14:18])),
		TargetMAC: netstate.MAC(p[18:24]), TargetIP: netip.AddrFrom4([4]byte(p[24:28])),
	}, nil
}

// AppendARP appends the frame to dst: 42 octets, since a tap needs no padding to
// Ethernet's least length. With an address that is not IPv4, dst comes back as
// it was.
func AppendARP(dst []byte, a ARP) []byte {
	sender, target := a.SenderIP.Unmap(), a.TargetIP.Unmap()
	if !sender.Is4() || !target.Is4() {
		return dst
	}
	sender4, target4 := sender.As4(), target.As4()
	b := appendEthernet(dst, a.DstMAC, a.SrcMAC, EtherTypeARP)
	b = binary.BigEndian.AppendUint16(b, hardwareEthernet)
	b = binary.BigEndian.AppendUint16(b, EtherTypeIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.Op)
	b = append(b, a.SenderMAC[:]...)
	b = append(b, sender4[:]...)
	b = append(b, a.TargetMAC[:]...)
	return append(b, target4[:]...)
}
