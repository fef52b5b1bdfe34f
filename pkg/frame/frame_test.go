package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/netstate"
)

var (
	guest  = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	server = netstate.MAC{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}

	byValue = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})
)

// unhex reads hexadecimal digits with white space in between.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEtherTypeOfAnyFrame(t *testing.T) {
	tests := []struct {
		name  string
		frame string
		want  uint16
	}{
		{"nothing", "", 0},
		{"one octet short of a header", "ffffffffffff 0a580af40107 08", 0},
		{"IPv4", "ffffffffffff 0a580af40107 0800", EtherTypeIPv4},
		{"ARP", "ffffffffffff 0a580af40107 0806 0001", EtherTypeARP},
		{"IPv6", "3333000000fb 0a580af40107 86dd", EtherTypeIPv6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := EtherType(unhex(t, tt.frame)); got != tt.want {
				t.Errorf("got %#04x, want %#04x", got, tt.want)
			}
		})
	}
}

// broadcastHi is "hi!" from 0.0.0.0:68 to 255.255.255.255:67, added up by hand.
// IPv4: 4500+001f+4011+ffff+ffff = 2852e, folded 8530, inverted 7acf. UDP, with
// the pseudo header: ffff+ffff+0011+000b, 0044+0043+000b, 6869+2100 = 28a15,
// folded 8a17, inverted 75e8.
const broadcastHi = `
	ffffffffffff 0a580af40107 0800
	4500 001f 0000 0000 4011 7acf 00000000 ffffffff
	0044 0043 000b 75e8 686921`

func TestUDP4ReadsAndWritesTheSameOctets(t *testing.T) {
	want := UDP4{
		SrcMAC: guest, DstMAC: Broadcast,
		Src:     netip.MustParseAddrPort("0.0.0.0:68"),
		Dst:     netip.MustParseAddrPort("255.255.255.255:67"),
		Payload: []byte("hi!"),
	}
	golden := unhex(t, broadcastHi)
	if diff := cmp.Diff(golden, AppendUDP4(nil, want)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	got, err := ParseUDP4(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// withHeader returns the golden frame with octets of its IPv4 or UDP header set
// and the IPv4 checksum made right again, so that a test fails for one reason.
func withHeader(t *testing.T, set map[int]byte) []byte {
	t.Helper()
	b := unhex(t, broadcastHi)
	for i, v := range set {
		b[i] = v
	}
	n := min(max(int(b[14]&0xf)*4, ipv4Len), len(b)-ethernetLen)
	b[24], b[25] = 0, 0
	c := ^fold(sum(0, b[14:14+n]))
	b[24], b[25] = byte(c>>8), byte(c)
	return b
}

func TestParseUDP4Refuses(t *testing.T) {
	golden := unhex(t, broadcastHi)
	checksum := bytes.Clone(golden)
	checksum[25] ^= 1
	vlan := bytes.Clone(golden)
	vlan[12], vlan[13] = 0x81, 0x00
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, errShortEthernet},
		{"half an Ethernet header", golden[:13], errShortEthernet},
		{"a VLAN tag", vlan, errNotIPv4},
		{"an Ethernet header alone", golden[:14], errShortIPv4},
		{"half an IPv4 header", golden[:33], errShortIPv4},
		{"IP version 6", withHeader(t, map[int]byte{14: 0x65}), errVersion},
		{"a header length below 20", withHeader(t, map[int]byte{14: 0x44}), errHeaderLen},
		{"a header length beyond the frame", withHeader(t, map[int]byte{14: 0x4f}), errHeaderLen},
		{"a total length below the header's", withHeader(t, map[int]byte{17: 19}), errTotalLen},
		{"a total length beyond the frame", withHeader(t, map[int]byte{17: 0x20}), errTotalLen},
		{"a wrong header checksum", checksum, errIPv4Checksum},
		{"more fragments", withHeader(t, map[int]byte{20: 0x20}), errFragment},
		{"a fragment offset", withHeader(t, map[int]byte{21: 1}), errFragment},
		{"TCP", withHeader(t, map[int]byte{23: 6}), errNotUDP},
		{"half a UDP header", withHeader(t, map[int]byte{17: 27}), errShortUDP},
		{"a UDP length below its header's", withHeader(t, map[int]byte{39: 7}), errUDPLen},
		{"a UDP length beyond the packet", withHeader(t, map[int]byte{39: 12}), errUDPLen},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseUDP4(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestParseUDP4Accepts(t *testing.T) {
	golden := unhex(t, broadcastHi)
	unfinished := bytes.Clone(golden)
	unfinished[40], unfinished[41] = 0xba, 0xad
	options := append(bytes.Clone(golden[:34]), 1, 1, 1, 0) // no-operation thrice, end of list
	options = append(options, golden[34:]...)
	options[14], options[17], options[24], options[25] = 0x46, 35, 0, 0
	c := ^fold(sum(0, options[14:38]))
	options[24], options[25] = byte(c>>8), byte(c)

	tests := []struct {
		name  string
		frame []byte
		want  string
	}{
		{"an unfinished UDP checksum", unfinished, "hi!"},
		{"padding behind the packet", append(bytes.Clone(golden), make([]byte, 15)...), "hi!"},
		{"don't fragment", withHeader(t, map[int]byte{20: 0x40}), "hi!"},
		{"IPv4 options", options, "hi!"},
		{"a datagram shorter than the packet", withHeader(t, map[int]byte{39: 10}), "hi"},
		{"an empty datagram", withHeader(t, map[int]byte{39: 8}), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseUDP4(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Payload) != tt.want {
				t.Errorf("payload %q, want %q", got.Payload, tt.want)
			}
		})
	}
}

func TestParsedPayloadCannotGrowIntoTheFrame(t *testing.T) {
	b := append(unhex(t, broadcastHi), 'x')
	got, err := ParseUDP4(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(got.Payload, 'y')
	if b[len(b)-1] != 'x' {
		t.Error("appending to the payload wrote over the frame")
	}
}

// receivedSum is the ones' complement sum that a receiver makes of datagram and
// pseudo header: all ones when the checksum is right.
func receivedSum(frame []byte) uint16 {
	datagram := frame[34:]
	pseudo := append(bytes.Clone(frame[26:34]), 0, protocolUDP, byte(len(datagram)>>8), byte(len(datagram)))
	return fold(sum(sum(0, pseudo), datagram))
}

func TestUDPChecksumIsFinished(t *testing.T) {
	f := UDP4{
		SrcMAC: server, DstMAC: guest,
		Src: netip.MustParseAddrPort("169.254.75.1:67"), Dst: netip.MustParseAddrPort("10.244.1.7:68"),
	}
	for _, n := range []int{0, 1, 2, 299, 300, 1472, MaxPayload4} {
		f.Payload = bytes.Repeat([]byte{0xff}, n)
		b := AppendUDP4(nil, f)
		if got := receivedSum(b); got != 0xffff {
			t.Errorf("%d octets: the receiver's sum is %#04x", n, got)
		}
	}
}

func TestUDPChecksumOfZeroIsSentAsAllOnes(t *testing.T) {
	f := UDP4{
		Src: netip.MustParseAddrPort("10.0.0.1:67"), Dst: netip.MustParseAddrPort("10.0.0.2:68"),
		Payload: []byte{0, 0},
	}
	// Whatever the checksum of the datagram with a payload of zero is, as the
	// payload itself it makes the sum come out at zero.
	b := AppendUDP4(nil, f)
	f.Payload = []byte{b[40], b[41]}
	b = AppendUDP4(nil, f)
	if b[40] != 0xff || b[41] != 0xff {
		t.Errorf("checksum %#02x%02x, want ffff", b[40], b[41])
	}
}

func TestAppendUDP4LeavesOutWhatIsNoDatagram(t *testing.T) {
	ok := netip.MustParseAddrPort("10.0.0.1:67")
	tests := []struct {
		name string
		f    UDP4
	}{
		{"no addresses", UDP4{}},
		{"an IPv6 source", UDP4{Src: netip.MustParseAddrPort("[fd00::1]:67"), Dst: ok}},
		{"no destination", UDP4{Src: ok}},
		{"too long", UDP4{Src: ok, Dst: ok, Payload: make([]byte, MaxPayload4+1)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := AppendUDP4([]byte("kept"), tt.f); string(got) != "kept" {
				t.Errorf("got %d octets", len(got))
			}
		})
	}
}

func TestAppendUDP4TakesMappedAddresses(t *testing.T) {
	f := UDP4{Src: netip.MustParseAddrPort("[::ffff:10.0.0.1]:67"), Dst: netip.MustParseAddrPort("10.0.0.2:68")}
	got, err := ParseUDP4(AppendUDP4(nil, f))
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddrPort("10.0.0.1:67"); got.Src != want {
		t.Errorf("source %v, want %v", got.Src, want)
	}
}

func FuzzParseUDP4(f *testing.F) {
	f.Add(unhex(f, broadcastHi))
	f.Add(unhex(f, broadcastHi)[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseUDP4(b)
		if err != nil {
			return
		}
		out, err := ParseUDP4(AppendUDP4(nil, in))
		if err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
		if diff := cmp.Diff(in, out, byValue, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("changed on the way (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkUDP4(b *testing.B) {
	f := UDP4{
		SrcMAC: server, DstMAC: guest,
		Src: netip.MustParseAddrPort("169.254.75.1:67"), Dst: netip.MustParseAddrPort("10.244.1.7:68"),
		Payload: make([]byte, 300),
	}
	buf := make([]byte, 0, 2048)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = AppendUDP4(buf[:0], f)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseUDP4(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
