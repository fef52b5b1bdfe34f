package dnsforward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var (
	guestMAC, serverMAC = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}, netstate.MAC{2, 0, 0, 0, 0, 1}
	guest4, guest6      = netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("fd00:10:244:1::7")
	dns4, dns6          = netip.MustParseAddr("169.254.75.1"), netip.MustParseAddr("fd75::1")
	other4, other6      = netip.MustParseAddr("10.244.1.8"), netip.MustParseAddr("fd00:10:244:1::8")
)

func pumpLease() lease.Lease {
	return lease.Lease{
		MAC:    guestMAC,
		Addrs:  []netip.Prefix{netip.PrefixFrom(guest4, 24), netip.PrefixFrom(guest6, 64)},
		Server: lease.Server{MAC: serverMAC, DNS: []netip.Addr{dns4, dns6}},
	}
}

// tunnel is a tunnel in memory: out is read, what is written is kept.
type tunnel struct {
	out    chan []byte
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	in   [][]byte
	fail error
}

func newTunnel() *tunnel { return &tunnel{out: make(chan []byte), closed: make(chan struct{})} }

func (t *tunnel) Read(b []byte) (int, error) {
	select {
	case p := <-t.out:
		return copy(b, p), nil
	case <-t.closed:
		return 0, io.ErrClosedPipe
	}
}

func (t *tunnel) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail != nil {
		return 0, t.fail
	}
	t.in = append(t.in, slices.Clone(b))
	return len(b), nil
}

func (t *tunnel) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// datagram is a frame with a finished UDP datagram, of either family.
func datagram(mac netstate.MAC, src, dst netip.Addr, from, to uint16) []byte {
	payload := []byte("a question")
	if src.Is4() {
		return frame.AppendUDP4(nil, frame.UDP4{SrcMAC: mac, DstMAC: serverMAC, Src: netip.AddrPortFrom(src, from), Dst: netip.AddrPortFrom(dst, to), Payload: payload})
	}
	return frame.AppendUDP6(nil, frame.UDP6{SrcMAC: mac, DstMAC: serverMAC, Src: netip.AddrPortFrom(src, from), Dst: netip.AddrPortFrom(dst, to), Payload: payload})
}

// segmentOf is the same for a TCP segment without data, its checksum unfinished.
func segmentOf(mac netstate.MAC, src, dst netip.Addr, from, to uint16) []byte {
	b := datagram(mac, src, dst, from, to)[:14+ipLen(src)]
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, from)
	binary.BigEndian.PutUint16(tcp[2:], to)
	tcp[12], tcp[13] = 5<<4, 2
	b = append(b, tcp...)
	if src.Is4() {
		return edit(b, func(ip []byte) { ip[9] = protocolTCP; binary.BigEndian.PutUint16(ip[2:], 40) })
	}
	return edit(b, func(ip []byte) { ip[6] = protocolTCP; binary.BigEndian.PutUint16(ip[4:], 20) })
}

func ipLen(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 40
}

// edit changes a frame's IP packet, and puts the IPv4 header's checksum right.
func edit(b []byte, change func(ip []byte)) []byte {
	b = slices.Clone(b)
	ip := b[14:]
	change(ip)
	if n := int(ip[0]&0xf) * 4; ip[0]>>4 == 4 && n <= len(ip) {
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^sumOf(ip[:n]))
	}
	return b
}

// sumOf is the ones' complement sum (RFC 1071).
func sumOf(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i]) << 8
		if i+1 < len(b) {
			s += uint32(b[i+1])
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestTheGuestReachesPort53OfTheRelay(t *testing.T) {
	for name, f := range map[string][]byte{
		"UDP over IPv4": datagram(guestMAC, guest4, dns4, 40000, 53), "UDP over IPv6": datagram(guestMAC, guest6, dns6, 40000, 53),
	} {
		t.Run(name, func(t *testing.T) {
			want := slices.Clone(f[14:])
			tun := newTunnel()
			// As virtio leaves it: the checksum is not finished, the frame is padded.
			at := 14 + ipLen(dns4) + 6
			if len(want) > 40 {
				at = 14 + ipLen(dns6) + 6
			}
			f[at], f[at+1] = 0x12, 0x34
			if err := NewPump(tun, pumpLease()).FromGuest(append(f, 0, 0, 0)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]byte{want}, tun.in); diff != "" {
				t.Errorf("into the tunnel (-want +got):\n%s", diff)
			}
		})
	}
	for _, a := range [][2]netip.Addr{{guest4, dns4}, {guest6, dns6}} {
		t.Run("TCP to "+a[1].String(), func(t *testing.T) {
			tun := newTunnel()
			if err := NewPump(tun, pumpLease()).FromGuest(segmentOf(guestMAC, a[0], a[1], 40000, 53)); err != nil {
				t.Fatal(err)
			}
			tcp := tun.in[0][ipLen(a[0]):]
			pseudo := slices.Concat(a[0].AsSlice(), a[1].AsSlice(), []byte{0, protocolTCP, 0, byte(len(tcp))}, tcp)
			if s := sumOf(pseudo); s != 0xffff {
				t.Errorf("the checksum is not finished: the sum is %#x", s)
			}
		})
	}
}

func TestNothingElseOfTheGuestEntersTheTunnel(t *testing.T) {
	good := datagram(guestMAC, guest4, dns4, 40000, 53)
	tests := map[string][]byte{
		"nothing":                nil,
		"ARP":                    frame.AppendARP(nil, frame.ARP{SrcMAC: guestMAC, Op: frame.ARPRequest, SenderIP: guest4, TargetIP: dns4}),
		"another MAC":            datagram(serverMAC, guest4, dns4, 40000, 53),
		"another source":         datagram(guestMAC, other4, dns4, 40000, 53),
		"another IPv6 source":    datagram(guestMAC, other6, dns6, 40000, 53),
		"the relay as source":    datagram(guestMAC, dns4, dns4, 53, 53),
		"another destination":    datagram(guestMAC, guest4, other4, 40000, 53),
		"another port":           datagram(guestMAC, guest4, dns4, 53, 5900),
		"another IPv6 port":      datagram(guestMAC, guest6, dns6, 53, 5900),
		"another TCP port":       segmentOf(guestMAC, guest4, dns4, 53, 16509),
		"ICMP":                   edit(good, func(ip []byte) { ip[9] = 1 }),
		"a first fragment":       edit(good, func(ip []byte) { ip[6] = 0x20 }),
		"a later fragment":       edit(good, func(ip []byte) { ip[7] = 1 }),
		"IPv4 options":           edit(good, func(ip []byte) { ip[0] = 0x46; copy(ip[20:], []byte{131, 3, 4, 0}) }),
		"an IPv6 routing header": edit(datagram(guestMAC, guest6, dns6, 40000, 53), func(ip []byte) { ip[6] = 43 }),
		"an IPv6 fragment":       edit(datagram(guestMAC, guest6, dns6, 40000, 53), func(ip []byte) { ip[6] = 44 }),
		"no transport header":    edit(good, func(ip []byte) { ip[3] = 22 })[:14+22],
		"half an IP header":      good[:14+10],
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			tun := newTunnel()
			if err := NewPump(tun, pumpLease()).FromGuest(f); !errors.Is(err, ErrDropped) {
				t.Errorf("FromGuest = %v, want ErrDropped", err)
			}
			if len(tun.in) != 0 {
				t.Errorf("into the tunnel: %x", tun.in)
			}
		})
	}
}

func TestATunnelThatFailsIsNoDrop(t *testing.T) {
	tun := newTunnel()
	tun.fail = io.ErrShortWrite
	err := NewPump(tun, pumpLease()).FromGuest(datagram(guestMAC, guest4, dns4, 40000, 53))
	if !errors.Is(err, io.ErrShortWrite) || errors.Is(err, ErrDropped) {
		t.Errorf("FromGuest = %v", err)
	}
}

// later is a fragment without the ports, of the frame's packet.
func later6(f []byte, at uint16) []byte {
	ip := slices.Clone(f[14:])
	header := []byte{protocolUDP, 0, 0, 0, 1, 2, 3, 4}
	binary.BigEndian.PutUint16(header[2:], at)
	ip[6] = protocolFragment
	return slices.Concat(ip[:40], header, ip[40:])
}

func TestTheGuestGetsAnswersOnly(t *testing.T) {
	good4, good6 := datagram(guestMAC, dns4, guest4, 53, 40000), datagram(guestMAC, dns6, guest6, 53, 40000)
	tests := []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"an answer", good4[14:], true},
		{"an answer over IPv6", good6[14:], true},
		{"TCP", segmentOf(guestMAC, dns4, guest4, 53, 40000)[14:], true},
		{"TCP over IPv6", segmentOf(guestMAC, dns6, guest6, 53, 40000)[14:], true},
		{"a first fragment", edit(good4, func(ip []byte) { ip[6] = 0x20 })[14:], true},
		{"a later fragment", edit(good4, func(ip []byte) { ip[7] = 9; ip[20] = 0 })[14:], true},
		{"a first fragment over IPv6", later6(good6, 1), true},
		{"a later fragment over IPv6", later6(datagram(guestMAC, dns6, guest6, 1, 1), 8), true},
		{"nothing", nil, false},
		{"another source", datagram(guestMAC, other4, guest4, 53, 40000)[14:], false},
		{"another port", datagram(guestMAC, dns4, guest4, 54, 40000)[14:], false},
		{"another port over IPv6", datagram(guestMAC, dns6, guest6, 54, 40000)[14:], false},
		{"a first fragment from another port", later6(datagram(guestMAC, dns6, guest6, 1, 1), 1), false},
		{"to another", datagram(guestMAC, dns4, other4, 53, 40000)[14:], false},
		{"a multicast listener report", edit(good6, func(ip []byte) { ip[6] = 0 })[14:], false},
		{"ICMP", edit(good4, func(ip []byte) { ip[9] = 1 })[14:], false},
		{"not IP", []byte("\x00\x00not a packet, but long enough for the headers of one"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tun, got := newTunnel(), make(chan []byte, 2)
			done := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				done <- NewPump(tun, pumpLease()).Run(ctx, func(f []byte) error { got <- slices.Clone(f); return nil })
			}()
			mark := good4
			tun.out <- tt.packet
			tun.out <- mark[14:]
			want := [][]byte{header14(guestMAC, mark[14:])}
			if tt.want {
				want = append([][]byte{header14(guestMAC, tt.packet)}, want...)
			}
			for i, w := range want {
				if f := <-got; !bytes.Equal(f, w) {
					t.Errorf("frame %d = %x, want %x", i, f, w)
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
			select {
			case <-tun.closed:
			default:
				t.Error("Run has not closed the tunnel")
			}
		})
	}
}

// header14 puts the Ethernet header before a packet that the guest gets.
func header14(to netstate.MAC, packet []byte) []byte {
	kind := []byte{0x08, 0x00}
	if packet[0]>>4 == 6 {
		kind = []byte{0x86, 0xdd}
	}
	return slices.Concat(to[:], serverMAC[:], kind, packet)
}

func TestRunEndsWithAnError(t *testing.T) {
	t.Run("of the tunnel", func(t *testing.T) {
		tun := newTunnel()
		tun.Close()
		if err := NewPump(tun, pumpLease()).Run(t.Context(), nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Run = %v", err)
		}
	})
	t.Run("of the tap", func(t *testing.T) {
		tun, broken := newTunnel(), errors.New("broken")
		done := make(chan error, 1)
		go func() { done <- NewPump(tun, pumpLease()).Run(t.Context(), func([]byte) error { return broken }) }()
		tun.out <- datagram(guestMAC, dns4, guest4, 53, 40000)[14:]
		select {
		case err := <-done:
			if !errors.Is(err, broken) {
				t.Errorf("Run = %v", err)
			}
		case <-time.After(enough):
			t.Fatal("Run goes on")
		}
	})
}

// FuzzPump holds for any frame: no panic, and what enters the tunnel is for port 53
// of the relay and from the guest.
func FuzzPump(f *testing.F) {
	for _, a := range [][2]netip.Addr{{guest4, dns4}, {guest6, dns6}} {
		f.Add(datagram(guestMAC, a[0], a[1], 40000, 53))
		f.Add(segmentOf(guestMAC, a[0], a[1], 40000, 53))
		f.Add(datagram(guestMAC, a[1], a[0], 53, 40000))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tun := newTunnel()
		p := NewPump(tun, pumpLease())
		if len(b) > 14 {
			_ = p.isAnswer(b[14:])
		}
		err := p.FromGuest(b)
		if err != nil {
			if !errors.Is(err, ErrDropped) || len(tun.in) > 0 {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		packet := tun.in[0]
		n := 20
		if packet[0]>>4 == 6 {
			n = 40
		}
		if binary.BigEndian.Uint16(packet[n+2:]) != 53 {
			t.Errorf("%x entered the tunnel", packet)
		}
	})
}
