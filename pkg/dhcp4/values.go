package dhcp4

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	infinite   = math.MaxUint32 // RFC 2132 §9.2, RFC 2131 §3.3
	leastMTU   = 68             // RFC 2132 §5.1
	mostMTU    = math.MaxUint16 // the option has 16 bits; a loopback's MTU has one more
	defaultMTU = 1500           // of a lease that does not say
)

// items returns how many items an option has to send: none for what the lease
// does not have or this kind of reply does not carry.
func (m *message) items(code uint8) int {
	switch code {
	case optDNS:
		return len(m.lease.DNSOf(true))
	case optNTP:
		return len(ipv4Of(m.lease.NTP))
	case optSearch:
		return len(m.search.ends)
	case optRoutes:
		return len(m.routes)
	case optRoutesWindows:
		if m.asks(optRoutes) { // then it says the same as 121, or nothing
			return min(1, len(m.routes))
		}
		return len(m.routes)
	case optRapidCommit:
		if m.typ == dhcpv4.MessageTypeAck && m.req.Type == dhcpv4.MessageTypeDiscover {
			return 1
		}
		return 0
	default:
		return min(1, len(m.value(code)))
	}
}

// value returns what an option says, with as many items as are kept of it.
func (m *message) value(code uint8) []byte {
	n := m.kept[code]
	switch code {
	case optMessageType:
		return []byte{byte(m.typ)}
	case optServerID:
		return m.lease.Server.ID.AsSlice()
	case optLeaseTime, optRenewal, optRebinding:
		return m.times(code)
	case optMask:
		return binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-m.prefix.Bits()))
	case optBroadcast:
		if m.prefix.Bits() >= 31 { // RFC 3021: such a prefix has none
			return nil
		}
		return broadcastOf(m.prefix).AsSlice()
	case optRouter:
		return m.gateway.AsSlice()
	case optMTU:
		return binary.BigEndian.AppendUint16(nil, uint16(min(max(mtuOf(m.lease.MTU), leastMTU), mostMTU)))
	case optDNS:
		return addrBytes(m.lease.DNSOf(true)[:n])
	case optNTP:
		return addrBytes(ipv4Of(m.lease.NTP)[:n])
	case optSearch:
		return m.search.data[:m.search.ends[n-1]]
	case optRoutes:
		return m.routeBytes(n)
	case optRoutesWindows:
		if m.asks(optRoutes) {
			n = m.kept[optRoutes]
		}
		if n == 0 {
			return nil
		}
		return m.routeBytes(n)
	case optClientID: // RFC 6842 §3
		return m.req.ClientID
	default:
		return m.text(code)
	}
}

// text returns the options that are text. RFC 2132 ends none of them with a NUL.
func (m *message) text(code uint8) []byte {
	switch {
	case code == optHostname && isName(m.lease.Hostname):
		return []byte(m.lease.Hostname)
	case code == optDomain && isName(m.lease.Domain):
		return []byte(m.lease.Domain)
	case code == optTFTPServer:
		return []byte(m.lease.TFTPServer)
	case code == optBootFile:
		return []byte(m.lease.BootFile)
	case code == optMessage && m.typ == dhcpv4.MessageTypeNak:
		return []byte(m.req.refusal(m.own))
	case code >= optPrivateFirst && code <= optPrivateLast:
		return []byte(m.lease.Options[code])
	}
	return nil
}

// times returns the lease time, T1 or T2 in seconds. INFORM gets none of them
// (RFC 2131 §4.3.5); an infinite lease is not renewed.
func (m *message) times(code uint8) []byte {
	if m.req.Type == dhcpv4.MessageTypeInform {
		return nil
	}
	if m.lease.Time <= 0 {
		if code != optLeaseTime {
			return nil
		}
		return binary.BigEndian.AppendUint32(nil, infinite)
	}
	seconds := min(max(int64(m.lease.Time/time.Second), 1), infinite-1)
	switch code { // RFC 2131 §4.4.5: half, and seven eighths
	case optRenewal:
		seconds = max(seconds/2, 1)
	case optRebinding:
		seconds = max(seconds*7/8, 1)
	}
	return binary.BigEndian.AppendUint32(nil, uint32(seconds))
}

// routeBytes encodes n of the routes: the essential ones, wherever they stand,
// and of the others the first.
func (m *message) routeBytes(n int) []byte {
	others := n - m.essentials
	b := make([]byte, 0, 9*n)
	for i, r := range m.routes {
		if !m.essential[i] {
			if others <= 0 {
				continue
			}
			others--
		}
		b = appendRoute(b, r)
	}
	return b
}

func mtuOf(mtu int) int {
	if mtu <= 0 {
		return defaultMTU
	}
	return mtu
}

func ipv4Of(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			out = append(out, a)
		}
	}
	return out
}

func addrBytes(addrs []netip.Addr) []byte {
	b := make([]byte, 0, 4*len(addrs))
	for _, a := range addrs {
		b = append(b, a.AsSlice()...)
	}
	return b
}
