package frame

import (
	"bytes"
	"errors"
	"math/big"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// remainder is the ones' complement sum by another way: 2¹⁶ is 1 modulo 65535,
// so the sum of 16-bit words is the remainder of all octets as one number. It is
// 0 where the checksum within is right.
func remainder(b ...[]byte) int64 {
	all := bytes.Join(b, nil)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	n := new(big.Int).SetBytes(all)
	return n.Mod(n, big.NewInt(0xffff)).Int64()
}

// segmentRemainder is that of what a packet carries, with its pseudo header.
func segmentRemainder(t *testing.T, packet []byte) int64 {
	t.Helper()
	addrs, segment, protocol := packet[12:20], packet[20:], packet[9]
	if packet[0]>>4 == 6 {
		addrs, segment, protocol = packet[8:40], packet[40:], packet[6]
	}
	n := len(segment)
	return remainder(addrs, []byte{0, protocol, byte(n >> 8), byte(n)}, segment)
}

// tcp4 and tcp6 are SYNs to port 53 with an unfinished checksum, as virtio leaves
// it: that of the pseudo header alone.
const (
	tcp4 = `4500 0028 0001 4000 4006 22d9 0af40107 0af40108
		c000 0035 00000001 00000000 5002 ffff 1811 0000`
	tcp6 = `6000 0000 0014 06 40 fd000000000000000000000000000007 fd000000000000000000000000000008
		c000 0035 00000001 00000000 5002 ffff fa2a 0000`
)

func TestFinishChecksumFinishes(t *testing.T) {
	odd := unhex(t, tcp6)
	odd[5]++
	odd = append(odd, 'x')
	short := unhex(t, solicitHi)[14:] // a datagram that ends before its packet
	short[45] = 9
	packets := map[string][]byte{
		"TCP in IPv4": unhex(t, tcp4), "TCP in IPv6": unhex(t, tcp6), "TCP of odd length": odd,
		"UDP in IPv4": unhex(t, broadcastHi)[14:], "UDP in IPv6": unhex(t, solicitHi)[14:],
	}
	for name, packet := range packets {
		t.Run(name, func(t *testing.T) {
			at := map[byte]int{protocolTCP: tcpChecksumAt, protocolUDP: udpChecksumAt}
			protocol, _, segment := transportOf(packet)
			segment[at[protocol]] ^= 0x55
			if segmentRemainder(t, packet) == 0 {
				t.Fatal("there is nothing to finish")
			}
			before := bytes.Clone(packet)
			FinishChecksum(packet)
			if got := segmentRemainder(t, packet); got != 0 {
				t.Errorf("the receiver's sum is %#x", got)
			}
			differ := 0
			for i := range packet {
				if packet[i] != before[i] {
					differ++
				}
			}
			if differ == 0 || differ > 2 {
				t.Errorf("%d octets changed", differ)
			}
		})
	}
	FinishChecksum(short)
	if got := remainder(short[8:40], []byte{0, 17, 0, 9}, short[40:49]); got != 0 {
		t.Errorf("a datagram that ends before its packet: the receiver's sum is %#x", got)
	}
}

func TestFinishChecksumKeepsWhatIsRight(t *testing.T) {
	for _, golden := range []string{broadcastHi, solicitHi} {
		packet := unhex(t, golden)[14:]
		FinishChecksum(packet)
		if diff := cmp.Diff(unhex(t, golden)[14:], packet); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestFinishChecksumLeavesAlone(t *testing.T) {
	fragment := unhex(t, tcp4)
	fragment[6], fragment[10], fragment[11] = 0x20, 0, 0 // more fragments
	c := ^fold(sum(0, fragment[:20]))
	fragment[10], fragment[11] = byte(c>>8), byte(c)
	with := func(packet string, at int, v byte) []byte {
		b := unhex(t, packet)
		b[at] = v
		return b
	}
	tests := map[string][]byte{
		"nothing":                  nil,
		"half a header":            unhex(t, tcp6)[:30],
		"a first fragment":         fragment,
		"an IPv6 fragment":         with(tcp6, 6, 44),
		"ICMPv6":                   unhex(t, solicitation)[14:],
		"another version":          with(tcp6, 0, 0x50),
		"a header checksum broken": with(tcp4, 11, 0),
		"half a TCP header":        with(tcp6, 5, 19),
		"UDP without its header":   with(tcp6, 6, 17)[:40],
		"a length beyond the end":  with(tcp6, 5, 21),
	}
	for name, packet := range tests {
		t.Run(name, func(t *testing.T) {
			before := bytes.Clone(packet)
			FinishChecksum(packet)
			if diff := cmp.Diff(before, packet); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPacketReadsAndWritesTheSameOctets(t *testing.T) {
	tests := []struct {
		name, frame string
		src, dst    string
	}{
		{"IPv4", broadcastHi, "0.0.0.0", "255.255.255.255"},
		{"IPv6", solicitHi, "fe80::1", "ff02::1:2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			golden := unhex(t, tt.frame)
			got, err := ParsePacket(append(bytes.Clone(golden), 0, 0, 0))
			if err != nil {
				t.Fatal(err)
			}
			want := Packet{
				SrcMAC: guest, DstMAC: [6]byte(golden[:6]),
				Src: netip.MustParseAddr(tt.src), Dst: netip.MustParseAddr(tt.dst), Data: golden[14:],
			}
			if diff := cmp.Diff(want, got, byValue); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(golden, AppendPacket(nil, got)); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParsePacketTakesFragments(t *testing.T) {
	for _, b := range [][]byte{
		withHeader(t, map[int]byte{20: 0x20}), withHeader(t, map[int]byte{21: 1}),
		changed(t, solicitHi, map[int]byte{20: 44}),
	} {
		if _, err := ParsePacket(b); err != nil {
			t.Error(err)
		}
	}
}

func TestParsePacketRefuses(t *testing.T) {
	checksum := unhex(t, broadcastHi)
	checksum[25] ^= 1
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, errShortEthernet},
		{"ARP", unhex(t, whoHas), errNotIP},
		{"half an IPv4 header", unhex(t, broadcastHi)[:30], errShortIPv4},
		{"half an IPv6 header", unhex(t, solicitHi)[:30], errShortIPv6},
		{"a wrong header checksum", checksum, errIPv4Checksum},
		{"a payload length beyond the frame", changed(t, solicitHi, map[int]byte{19: 12}), errPayloadLen},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParsePacket(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAppendPacketLeavesOutWhatIsNoPacket(t *testing.T) {
	for _, data := range [][]byte{nil, {0}, {0x50, 1, 2}} {
		if got := AppendPacket([]byte("kept"), Packet{Data: data}); string(got) != "kept" {
			t.Errorf("% x: got %d octets", data, len(got))
		}
	}
}

// FuzzFinishChecksum holds for any packet: no panic, and a frame that podwire
// can read is the same after it but for its checksum, which is then right.
func FuzzFinishChecksum(f *testing.F) {
	f.Add(unhex(f, tcp4))
	f.Add(unhex(f, tcp6))
	f.Add(unhex(f, broadcastHi)[14:])
	f.Add(unhex(f, solicitHi)[14:])
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := bytes.Clone(packet)
		FinishChecksum(packet)
		differ := 0
		for i := range packet {
			if packet[i] != before[i] {
				differ++
			}
		}
		if differ > 2 {
			t.Errorf("%d octets changed", differ)
		}
		again := bytes.Clone(packet)
		FinishChecksum(again)
		if !bytes.Equal(packet, again) {
			t.Error("a finished checksum is finished otherwise")
		}
		protocol, addrs, segment := transportOf(packet)
		if protocol != protocolTCP || len(segment) < tcpLen {
			return
		}
		n := len(segment)
		if remainder(addrs, []byte{0, protocolTCP, byte(n >> 8), byte(n)}, segment) != 0 {
			t.Error("the receiver's sum is wrong")
		}
	})
}
