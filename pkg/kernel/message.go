//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// message is a netlink message without its first header: a fixed part, then
// attributes, each of which begins on a multiple of four octets.
type message struct {
	b []byte
}

// newMessage begins a message with the fixed part of its kind.
func newMessage(fixed []byte) *message { return &message{b: fixed} }

func (m *message) bytes() []byte { return m.b }

// attr adds an attribute.
func (m *message) attr(kind uint16, data []byte) *message {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(unix.SizeofRtAttr+len(data)))
	m.b = binary.NativeEndian.AppendUint16(m.b, kind)
	m.b = append(m.b, data...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
	return m
}

func (m *message) u8(kind uint16, v uint8) *message { return m.attr(kind, []byte{v}) }

func (m *message) u16(kind, v uint16) *message {
	return m.attr(kind, binary.NativeEndian.AppendUint16(nil, v))
}

func (m *message) u32(kind uint16, v uint32) *message {
	return m.attr(kind, binary.NativeEndian.AppendUint32(nil, v))
}

func (m *message) str(kind uint16, s string) *message { return m.attr(kind, append([]byte(s), 0)) }

// addr adds an address in network order; nothing where it is not set.
func (m *message) addr(kind uint16, a netip.Addr) *message {
	if !a.IsValid() {
		return m
	}
	return m.attr(kind, a.AsSlice())
}

// carried adds attributes as they were read.
func (m *message) carried(attrs []netstate.Attr) *message {
	for _, a := range attrs {
		m.attr(a.Type, a.Data)
	}
	return m
}

// nest adds an attribute that is made of attributes.
func (m *message) nest(kind uint16, fill func(*message)) *message {
	inner := &message{}
	fill(inner)
	return m.attr(kind|unix.NLA_F_NESTED, inner.b)
}

// attribute is one attribute of a message that was read.
type attribute struct {
	kind uint16 // without the flags that only describe the encoding
	data []byte
}

// attributes reads what follows the fixed part of a message. Octets that are no
// attribute end it: a kernel sends none.
func attributes(b []byte) []attribute {
	var out []attribute
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			break
		}
		out = append(out, attribute{
			kind: binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER),
			data: b[unix.SizeofRtAttr:size],
		})
		b = b[min((size+3)&^3, len(b)):]
	}
	return out
}

// split divides a message into its fixed part and its attributes.
func split(msg []byte, fixed int) ([]byte, []attribute, error) {
	if len(msg) < fixed {
		return nil, nil, fmt.Errorf("netlink message of %d octets where %d are the least", len(msg), fixed)
	}
	return msg[:fixed], attributes(msg[fixed:]), nil
}

func (a attribute) u8() uint8 {
	if len(a.data) < 1 {
		return 0
	}
	return a.data[0]
}

func (a attribute) u16() uint16 {
	if len(a.data) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(a.data)
}

func (a attribute) u32() uint32 {
	if len(a.data) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(a.data)
}

// text is the string up to its terminating zero.
func (a attribute) text() string { return unix.ByteSliceToString(a.data) }

// addr is an IP address, or the zero value for anything else. An IPv4 address is
// never in its IPv6 form.
func (a attribute) addr() netip.Addr {
	ip, _ := netip.AddrFromSlice(a.data)
	return ip.Unmap()
}

// mac is an Ethernet address, or the zero value.
func (a attribute) mac() netstate.MAC {
	if len(a.data) != len(netstate.MAC{}) {
		return netstate.MAC{}
	}
	return netstate.MAC(a.data)
}

// carry keeps the attribute as it is.
func (a attribute) carry() netstate.Attr {
	return netstate.Attr{Type: a.kind, Data: append([]byte(nil), a.data...)}
}

// parseAll parses the messages of a dump, of which parse may leave some out.
func parseAll[T any](what string, msgs [][]byte, parse func([]byte) (T, bool, error)) ([]T, error) {
	var out []T
	for _, msg := range msgs {
		v, ok, err := parse(msg)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", what, err)
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}
