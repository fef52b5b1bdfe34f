// Package frame reads and writes the few kinds of Ethernet frame that podwire
// exchanges with its guest over the tap: UDP in IPv4, and ARP.
//
// It is no network stack: one frame in, one value out, and the reverse. It keeps
// no state, reassembles no fragments, resolves no addresses, knows no VLAN tags
// and opens no sockets. No input makes it panic. UDP in IPv6 and ICMPv6 will
// stand beside UDP4 here when the IPv6 servers come.
package frame

import (
	"encoding/binary"
	"errors"

	"github.com/podwire/podwire/pkg/netstate"
)

// Ethertypes, from IANA's registry of IEEE 802 numbers.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeIPv6 = 0x86dd
)

// Broadcast is the Ethernet address of every station.
var Broadcast = netstate.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ethernetLen is the length of an Ethernet header without a VLAN tag.
const ethernetLen = 14

var (
	errShortEthernet = errors.New("reading Ethernet header: frame too short")
	errNotIPv4       = errors.New("reading Ethernet header: not IPv4")
	errNotARP        = errors.New("reading Ethernet header: not ARP")
)

// EtherType returns what kind of packet the frame carries, for a receive loop to
// branch on, or 0 (which is no ethertype) where the frame is too short to say.
func EtherType(frame []byte) uint16 {
	if len(frame) < ethernetLen {
		return 0
	}
	return binary.BigEndian.Uint16(frame[12:])
}

// payloadOf takes the Ethernet header off a frame of the wanted kind.
func payloadOf(frame []byte, etherType uint16, wrong error) (dst, src netstate.MAC, payload []byte, err error) {
	if len(frame) < ethernetLen {
		return dst, src, nil, errShortEthernet
	}
	if EtherType(frame) != etherType {
		return dst, src, nil, wrong
	}
	return netstate.MAC(frame[0:6]), netstate.MAC(frame[6:12]), frame[ethernetLen:], nil
}

func appendEthernet(b []byte, dst, src netstate.MAC, etherType uint16) []byte {
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}
