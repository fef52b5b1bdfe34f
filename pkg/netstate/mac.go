package netstate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// MAC is a 48-bit Ethernet address. Unlike net.HardwareAddr it is comparable
// and is written to JSON in the usual colon form.
type MAC [6]byte

// ErrMAC is returned by ParseMAC for a text that is no 48-bit Ethernet address.
var ErrMAC = errors.New("not a 48-bit MAC address such as 0a:58:0a:f4:01:07")

// ParseMAC reads any form that net.ParseMAC takes, as long as it has six octets.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return MAC{}, ErrMAC
	}
	return MAC(hw), nil
}

// String returns the colon form, or nothing for the zero value.
func (m MAC) String() string {
	if m.IsZero() {
		return ""
	}
	return net.HardwareAddr(m[:]).String()
}

// IsZero reports whether m is unset.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsUnicast reports whether m can be the address of one interface: its group
// bit is clear (IEEE 802) and it is not zero.
func (m MAC) IsUnicast() bool { return m[0]&1 == 0 && !m.IsZero() }

// HardwareAddr returns m in the standard library's form.
func (m MAC) HardwareAddr() net.HardwareAddr { return net.HardwareAddr(m[:]) }

// Derive returns a locally administered unicast address that depends on m and
// purpose alone, so that the same pod gets the same addresses at every run and
// two pods on one segment do not share one.
func (m MAC) Derive(purpose string) MAC {
	sum := sha256.Sum256(append(m[:], purpose...))
	out := MAC(sum[:6])
	out[0] = 0x02
	if out == m {
		out[5] ^= 1
	}
	return out
}

// LinkLocal returns the IPv6 link-local address that a host makes of m by itself
// (modified EUI-64, RFC 4291 appendix A).
func (m MAC) LinkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; nothing is the zero value.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	mac, err := ParseMAC(string(b))
	if err != nil {
		return fmt.Errorf("%q: %w", b, err)
	}
	*m = mac
	return nil
}
