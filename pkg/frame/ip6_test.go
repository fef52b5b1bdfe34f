package frame

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/netstate"
)

// solicitHi is "hi!" from [fe80::1]:546 to [ff02::1:2]:547, added up by hand, with
// the pseudo header: fe80+0001, ff02+0001+0002, 0011+000b, 0222+0223+000b,
// 6869+2100 = 28b5b, folded 8b5d, inverted 74a2.
const solicitHi = `
	333300010002 0a580af40107 86dd
	6000 0000 000b 11 40 fe800000000000000000000000000001 ff020000000000000000000000010002
	0222 0223 000b 74a2 686921`

// solicitation is a router solicitation from fe80::1 to ff02::2, added up by hand:
// fe80+0001, ff02+0002, 003a+0008, 8500 = 282c7, folded 82c9, inverted 7d36.
const solicitation = `
	333300000002 0a580af40107 86dd
	6000 0000 0008 3a ff fe800000000000000000000000000001 ff020000000000000000000000000002
	85 00 7d36 00000000`

func TestUDP6ReadsAndWritesTheSameOctets(t *testing.T) {
	want := UDP6{
		SrcMAC: guest, DstMAC: MulticastMAC(netip.MustParseAddr("ff02::1:2")),
		Src:     netip.MustParseAddrPort("[fe80::1]:546"),
		Dst:     netip.MustParseAddrPort("[ff02::1:2]:547"),
		Payload: []byte("hi!"),
	}
	golden := unhex(t, solicitHi)
	if diff := cmp.Diff(golden, AppendUDP6(nil, want)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	got, err := ParseUDP6(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestICMP6ReadsAndWritesTheSameOctets(t *testing.T) {
	want := ICMP6{
		SrcMAC: guest, DstMAC: MulticastMAC(netip.IPv6LinkLocalAllRouters()),
		Src: netip.MustParseAddr("fe80::1"), Dst: netip.IPv6LinkLocalAllRouters(),
		HopLimit: 255,
		Payload:  unhex(t, "85 00 7d36 00000000"),
	}
	golden := unhex(t, solicitation)
	got, err := ParseICMP6(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	for _, checksum := range []string{"0000", "7d36", "ffff"} {
		in := want
		in.HopLimit, in.Payload = 0, unhex(t, "85 00"+checksum+"00000000")
		if diff := cmp.Diff(golden, AppendICMP6(nil, in)); diff != "" {
			t.Errorf("written with the checksum at %s (-want +got):\n%s", checksum, diff)
		}
	}
}

// changed returns golden with some octets set.
func changed(t *testing.T, golden string, set map[int]byte) []byte {
	t.Helper()
	b := unhex(t, golden)
	for i, v := range set {
		b[i] = v
	}
	return b
}

func TestParseUDP6Refuses(t *testing.T) {
	golden := unhex(t, solicitHi)
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, errShortEthernet},
		{"IPv4", unhex(t, broadcastHi), errNotIPv6},
		{"an Ethernet header alone", golden[:14], errShortIPv6},
		{"half an IPv6 header", golden[:53], errShortIPv6},
		{"IP version 4", changed(t, solicitHi, map[int]byte{14: 0x45}), errVersion6},
		{"a payload length beyond the frame", changed(t, solicitHi, map[int]byte{19: 12}), errPayloadLen},
		{"the greatest payload length", changed(t, solicitHi, map[int]byte{18: 0xff, 19: 0xff}), errPayloadLen},
		{"TCP", changed(t, solicitHi, map[int]byte{20: 6}), errNotUDP6},
		{"a fragment header", changed(t, solicitHi, map[int]byte{20: 44}), errNotUDP6},
		{"half a UDP header", changed(t, solicitHi, map[int]byte{19: 7}), errShortUDP},
		{"a UDP length below its header's", changed(t, solicitHi, map[int]byte{59: 7}), errUDPLen},
		{"a UDP length beyond the packet", changed(t, solicitHi, map[int]byte{59: 12}), errUDPLen},
		{"a UDP length of 0, as a jumbogram has", changed(t, solicitHi, map[int]byte{59: 0}), errUDPLen},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseUDP6(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseUDP6Accepts(t *testing.T) {
	tests := []struct {
		name  string
		frame []byte
		want  string
	}{
		{"an unfinished checksum", changed(t, solicitHi, map[int]byte{60: 0xba, 61: 0xad}), "hi!"},
		{"padding behind the packet", append(unhex(t, solicitHi), make([]byte, 15)...), "hi!"},
		{"a flow label and a traffic class", changed(t, solicitHi, map[int]byte{14: 0x6a, 15: 0xbc, 17: 0x42}), "hi!"},
		{"a datagram shorter than the packet", changed(t, solicitHi, map[int]byte{59: 10}), "hi"},
		{"an empty datagram", changed(t, solicitHi, map[int]byte{59: 8}), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseUDP6(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Payload) != tt.want {
				t.Errorf("payload %q, want %q", got.Payload, tt.want)
			}
		})
	}
}

func TestParseICMP6Refuses(t *testing.T) {
	golden := unhex(t, solicitation)
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, errShortEthernet},
		{"ARP", unhex(t, whoHas), errNotIPv6},
		{"half an IPv6 header", golden[:50], errShortIPv6},
		{"a message that is cut off", golden[:61], errPayloadLen},
		{"UDP", unhex(t, solicitHi), errNotICMP6},
		{"half an ICMPv6 header", changed(t, solicitation, map[int]byte{19: 3}), errShortICMP6},
		{"a wrong checksum", changed(t, solicitation, map[int]byte{57: 0x37}), errICMP6Checksum},
		{"a changed source", changed(t, solicitation, map[int]byte{37: 2}), errICMP6Checksum},
		{"no checksum", changed(t, solicitation, map[int]byte{56: 0, 57: 0}), errICMP6Checksum},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseICMP6(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestIsSolicitation(t *testing.T) {
	const sourceLinkAddr, unknownOption = "0101 0a580af40107", "0e02 00000000000000000000000000ff"
	addr := netip.MustParseAddr
	tests := []struct {
		name    string
		message string
		hops    uint8
		src     netip.Addr
		want    bool
	}{
		{"the least there is", "85000000 00000000", 255, addr("fe80::1"), true},
		{"from nobody yet", "85000000 00000000", 255, addr("::"), true},
		{"with a link-layer address", "85000000 00000000" + sourceLinkAddr, 255, addr("fe80::1"), true},
		{"with an option that is not known", "85000000 00000000" + unknownOption + sourceLinkAddr, 255, addr("fe80::1"), true},
		{"reserved octets are not looked at", "85000000 ffffffff", 255, addr("fe80::1"), true},
		{"from a global address", "85000000 00000000", 255, addr("fd00::7"), true},
		{"of another type", "87000000 00000000", 255, addr("fe80::1"), false},
		{"with a code", "85010000 00000000", 255, addr("fe80::1"), false},
		{"that was forwarded", "85000000 00000000", 254, addr("fe80::1"), false},
		{"one octet short", "85000000 000000", 255, addr("fe80::1"), false},
		{"an option of length 0", "85000000 00000000 0e00 000000000000", 255, addr("fe80::1"), false},
		{"an option of length 0 behind another", "85000000 00000000" + sourceLinkAddr + "0000", 255, addr("fe80::1"), false},
		{"half an option's header", "85000000 00000000 0e", 255, addr("fe80::1"), false},
		{"an option that is cut off", "85000000 00000000 0e02 000000000000", 255, addr("fe80::1"), false},
		{"from nobody yet, with a link-layer address", "85000000 00000000" + unknownOption + sourceLinkAddr, 255, addr("::"), false},
		{"from a group", "85000000 00000000", 255, addr("ff02::1"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := ICMP6{Src: tt.src, HopLimit: tt.hops, Payload: unhex(t, tt.message)}
			if got := m.IsSolicitation(RouterSolicitation, 8); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestAppendIPv6LeavesOutWhatIsNoPacket(t *testing.T) {
	ok, v4 := netip.MustParseAddrPort("[fe80::1]:547"), netip.MustParseAddrPort("10.0.0.1:547")
	for _, f := range []UDP6{
		{},
		{Src: ok},
		{Dst: ok},
		{Src: v4, Dst: ok},
		{Src: ok, Dst: v4},
		{Src: ok, Dst: ok, Payload: make([]byte, MaxPayload6+1)},
	} {
		if got := AppendUDP6([]byte("kept"), f); string(got) != "kept" {
			t.Errorf("%v to %v, %d octets: got %d octets", f.Src, f.Dst, len(f.Payload), len(got))
		}
	}
	message := make([]byte, 8)
	for _, m := range []ICMP6{
		{Payload: message},
		{Src: ok.Addr(), Payload: message},
		{Src: v4.Addr(), Dst: ok.Addr(), Payload: message},
		{Src: ok.Addr(), Dst: ok.Addr(), Payload: message[:3]},
		{Src: ok.Addr(), Dst: ok.Addr(), Payload: make([]byte, 0x10000)},
	} {
		if got := AppendICMP6([]byte("kept"), m); string(got) != "kept" {
			t.Errorf("%v to %v, %d octets: got %d octets", m.Src, m.Dst, len(m.Payload), len(got))
		}
	}
}

func TestMulticastMAC(t *testing.T) {
	tests := []struct {
		group string
		want  netstate.MAC
	}{
		{"ff02::1", netstate.MAC{0x33, 0x33, 0, 0, 0, 1}},
		{"ff02::1:ff28:9c5a", netstate.MAC{0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a}},
		{"fe80::1", netstate.MAC{}},
		{"224.0.0.1", netstate.MAC{}},
	}
	for _, tt := range tests {
		if got := MulticastMAC(netip.MustParseAddr(tt.group)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.group, got, tt.want)
		}
	}
	if got := MulticastMAC(netip.Addr{}); !got.IsZero() {
		t.Errorf("of nothing: %s", got)
	}
}

func FuzzParseUDP6(f *testing.F) {
	f.Add(unhex(f, solicitHi))
	f.Add(unhex(f, solicitHi)[:60])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseUDP6(b)
		if err != nil {
			return
		}
		out, err := ParseUDP6(AppendUDP6(nil, in))
		if err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
		if diff := cmp.Diff(in, out, byValue, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("changed on the way (-first +second):\n%s", diff)
		}
	})
}

// FuzzParseICMP6 puts a frame together from its parts, too, for no accident makes
// a checksum right.
func FuzzParseICMP6(f *testing.F) {
	golden := unhex(f, solicitation)
	f.Add(golden, golden[22:38], golden[38:54], uint8(255), golden[54:])
	f.Add(golden[:60], golden[22:38], golden[38:54], uint8(0), golden[54:57])
	f.Fuzz(func(t *testing.T, b, src, dst []byte, hops uint8, message []byte) {
		if in, err := ParseICMP6(b); err == nil {
			_ = in.IsSolicitation(NeighborSolicitation, 24)
			if in.HopLimit != 0 {
				again := AppendICMP6(nil, in)
				if !bytes.Equal(again[18:], b[18:len(again)]) && !zeroChecksums(again, b) {
					t.Errorf("read and written again:\n% x, want\n% x", again, b)
				}
			}
		}
		from, _ := netip.AddrFromSlice(src)
		to, _ := netip.AddrFromSlice(dst)
		made := AppendICMP6(nil, ICMP6{Src: from, Dst: to, HopLimit: hops, Payload: message})
		if len(made) == 0 {
			return
		}
		got, err := ParseICMP6(made)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if got.Src != from || got.Dst != to || len(got.Payload) != len(message) {
			t.Errorf("got %v to %v, %d octets", got.Src, got.Dst, len(got.Payload))
		}
		_ = got.IsSolicitation(RouterSolicitation, 8)
	})
}

// zeroChecksums reports whether two frames differ in their ICMPv6 checksum alone,
// which is zero in both of the two ways that ones' complement has.
func zeroChecksums(a, b []byte) bool {
	a, b = bytes.Clone(a), bytes.Clone(b[:len(a)])
	isZero := func(f []byte) bool { return f[56] == f[57] && (f[56] == 0 || f[56] == 0xff) }
	if !isZero(a) || !isZero(b) {
		return false
	}
	a[56], a[57] = b[56], b[57]
	return bytes.Equal(a[18:], b[18:])
}

func BenchmarkICMP6(b *testing.B) {
	m := ICMP6{Src: netip.MustParseAddr("fe80::1"), Dst: netip.MustParseAddr("fe80::2"), Payload: make([]byte, 100)}
	buf := AppendICMP6(nil, m)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendICMP6(buf[:0], m)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseICMP6(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
