package dnsforward

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/podwire/podwire/pkg/frame"
)

// cut is a packet in fragments of n octets each, a multiple of 8.
func cut(packet []byte, n int) [][]byte {
	if packet[0]>>4 == 6 {
		return cut6(packet, n)
	}
	var out [][]byte
	for at := 20; at < len(packet); at += n {
		end, more := min(at+n, len(packet)), byte(0)
		if end < len(packet) {
			more = 0x20
		}
		out = append(out, edit(slices.Concat(make([]byte, 14), packet[:20], packet[at:end]), func(ip []byte) {
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
			binary.BigEndian.PutUint16(ip[6:], uint16((at-20)/8))
			ip[6] |= more
		})[14:])
	}
	return out
}

func cut6(packet []byte, n int) [][]byte {
	var out [][]byte
	for at := 40; at < len(packet); at += n {
		end, more := min(at+n, len(packet)), uint16(0)
		if end < len(packet) {
			more = 1
		}
		part := later6(slices.Concat(make([]byte, 14), packet[:40], packet[at:end]), uint16(at-40)|more)
		binary.BigEndian.PutUint16(part[4:], uint16(len(part)-40))
		out = append(out, part)
	}
	return out
}

// TestAnAnswerInFragmentsIsWholeForTheGuest: its checksum is in the first.
func TestAnAnswerInFragmentsIsWholeForTheGuest(t *testing.T) {
	long := bytes.Repeat([]byte("an answer"), 300)
	for _, a := range [][3]netip.Addr{{dns4, standIn4, guest4}, {dns6, standIn6, guest6}} {
		t.Run(a[0].String(), func(t *testing.T) {
			answer := func(to netip.Addr) []byte { return datagramOf(guestMAC, a[0], to, 53, 40000, long)[14:] }
			got, want := cut(answer(a[1]), 1240), cut(answer(a[2]), 1240)
			if len(got) != 3 {
				t.Fatalf("%d fragments", len(got))
			}
			p := newPump(newTunnel())
			for i, fragment := range got {
				if !p.address(fragment) {
					t.Fatalf("fragment %d is taken for none of an answer", i)
				}
				if !bytes.Equal(fragment, want[i]) {
					t.Errorf("fragment %d = %x, want %x", i, fragment, want[i])
				}
			}
		})
	}
}

// TestAChecksumOfZeroIsSaidOtherwise: over UDP zero says that there is none.
func TestAChecksumOfZeroIsSaidOtherwise(t *testing.T) {
	for _, a := range [][3]netip.Addr{{dns4, standIn4, guest4}, {dns6, standIn6, guest6}} {
		t.Run(a[0].String(), func(t *testing.T) {
			sumAt, payload := ipLen(a[0])+6, make([]byte, 2)
			toGuest := datagramOf(guestMAC, a[0], a[2], 53, 40000, payload)[14:]
			copy(payload, toGuest[sumAt:]) // with its complement, the sum is all ones
			want := datagramOf(guestMAC, a[0], a[2], 53, 40000, payload)[14:]
			if got := want[sumAt : sumAt+2]; !bytes.Equal(got, []byte{0xff, 0xff}) {
				t.Fatalf("the checksum of the test's packet is %x", got)
			}
			got := datagramOf(guestMAC, a[0], a[1], 53, 40000, payload)[14:]
			if !newPump(newTunnel()).address(got) || !bytes.Equal(got, want) {
				t.Errorf("to the guest %x, want %x", got, want)
			}
		})
	}
}

// FuzzReplace holds for any payload: what is made of a packet is what its sender
// would have made for that address.
func FuzzReplace(f *testing.F) {
	f.Add([]byte("a question"), uint16(40000), true, true)
	f.Add([]byte{}, uint16(0), false, false)
	f.Add([]byte{0xff}, uint16(0xffff), false, true)
	f.Fuzz(func(t *testing.T, payload []byte, port uint16, udp, ipv4 bool) {
		a := [4]netip.Addr{dns6, standIn6, guest6, other6}
		if ipv4 {
			a = [4]netip.Addr{dns4, standIn4, guest4, other4}
		}
		make := func(from, to netip.Addr) []byte {
			b := datagramOf(guestMAC, from, to, 53, port, payload)
			if !udp {
				b = segmentOf(guestMAC, from, to, 53, port)
				b = finished(edit(append(b, payload...), func(ip []byte) { setLength(ip) }))
			}
			return b[14:]
		}
		if len(payload) > 1400 {
			return
		}
		got := make(a[0], a[1])
		s, ok := readSegment(got)
		if !ok {
			t.Fatalf("%x is not read", got)
		}
		s.setDestination(got, a[2])
		if want := make(a[0], a[2]); !bytes.Equal(got, want) {
			t.Errorf("another destination: %x, want %x", got, want)
		}
		s.setSource(got, a[3])
		if want := make(a[3], a[2]); !bytes.Equal(got, want) {
			t.Errorf("another source: %x, want %x", got, want)
		}
	})
}

// setLength has an IP header say how long the packet is.
func setLength(ip []byte) {
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
	}
}

// FuzzPump holds for any frame: no panic, and what enters the tunnel is for port 53
// of the relay and from the guest's stand-in. What leaves it differs in the address and
// in checksums from what the kernel sent, and back again it is the same.
func FuzzPump(f *testing.F) {
	for _, a := range [][3]netip.Addr{{guest4, dns4, standIn4}, {guest6, dns6, standIn6}} {
		f.Add(datagram(guestMAC, a[0], a[1], 40000, 53))
		f.Add(segmentOf(guestMAC, a[0], a[1], 40000, 53))
		f.Add(datagram(guestMAC, a[1], a[2], 53, 40000))
		f.Add(segmentOf(guestMAC, a[1], a[2], 53, 40000))
		for _, fragment := range cut(datagram(guestMAC, a[1], a[2], 53, 40000)[14:], 8) {
			f.Add(header14(guestMAC, fragment))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tun := newTunnel()
		p := newPump(tun)
		if len(b) > 14 {
			fuzzAddress(t, p, b[14:])
		}
		if err := p.FromGuest(slices.Clone(b)); err != nil {
			if !errors.Is(err, ErrDropped) || len(tun.in) > 0 {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		packet := tun.in[0]
		s, ok := readSegment(packet)
		if !ok || s.dst != 53 || s.from != standIn4 && s.from != standIn6 || s.to != dns4 && s.to != dns6 {
			t.Errorf("%x entered the tunnel", packet)
		}
		whole, err := frame.ParsePacket(header14(guestMAC, packet))
		if err != nil || !bytes.Equal(whole.Data, packet) {
			t.Errorf("%x entered the tunnel: %v", packet, err)
		}
	})
}

func fuzzAddress(t *testing.T, p *Pump, packet []byte) {
	got := slices.Clone(packet)
	was, _ := readSegment(packet)
	if !p.address(got) {
		if !bytes.Equal(got, packet) {
			t.Errorf("%x is no answer, and became %x", packet, got)
		}
		return
	}
	now, ok := readSegment(got)
	if !ok || now.from != was.from || now.to != guest4 && now.to != guest6 {
		t.Errorf("%x became %x", packet, got)
	}
	now.setDestination(got, was.to)
	var sums []int
	if was.ports {
		sums = append(sums, was.sumAt)
	}
	if packet[0]>>4 == 4 {
		sums = append(sums, 10)
	}
	for _, at := range sums { // all ones and zero are one number
		for _, b := range [][]byte{got, packet} {
			if binary.BigEndian.Uint16(b[at:]) == 0xffff {
				copy(b[at:], []byte{0, 0})
			}
		}
	}
	if !bytes.Equal(got, packet) {
		t.Errorf("%x became %x on its way back", packet, got)
	}
}
