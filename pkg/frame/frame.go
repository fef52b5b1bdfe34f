// Package frame reads and writes the few kinds of Ethernet frame that podwire
// exchanges with its guest over the tap: UDP in IPv4 and IPv6, ICMPv6, ARP, and
// IP packets whole.
//
// It is no network stack: one frame in, one value out, and the reverse. It keeps
// no state, reassembles no fragments, follows no IPv6 extension headers (DHCPv6
// and Neighbor Discovery have none), resolves no addresses, knows no VLAN tags
// and opens no sockets. No input makes it panic.
package frame

import (
	"encoding/binary"
	"errors"
	"net/netip"

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

// MulticastMAC returns the Ethernet address of an IPv6 multicast group (RFC 2464
// §7), and nothing for what is none.
func MulticastMAC(group netip.Addr) netstate.MAC {
	if !group.Is6() || !group.IsMulticast() {
		return netstate.MAC{}
	}
	a := group.As16()
	return netstate.MAC{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// ethernetLen is the length of an Ethernet header without a VLAN tag.
const ethernetLen = 14

var (
	errShortEthernet = errors.New("reading Ethernet header: frame too short")
	errNotIPv4       = errors.New("reading Ethernet header: not IPv4")
	errNotARP        = errors.New("reading Ethernet header: not ARP")
	errNotIPv6       = errors.New("reading Ethernet header: not IPv6")
	errNotIP         = errors.New("reading Ethernet header: neither IPv4 nor IPv6")
)

// EtherType returns what kind of packet the frame carries, for a receive loop to
// branch on, or 0 (which is no ethertype) where the frame is too short to say.
func EtherType(frame []byte) uint16 {
	if len(frame) < ethernetLen {
		return 0
	}
	return binary.BigEndian.Uint16(frame[12:])
}

// Source returns the MAC that the frame says it comes from, or zero where it is too
// short to say.
func Source(frame []byte) netstate.MAC {
	if len(frame) < ethernetLen {
		return netstate.MAC{}
	}
	return netstate.MAC(frame[6:12])
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
