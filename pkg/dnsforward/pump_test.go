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

	// The guest in the tunnel.
	standIn4, standIn6 = netip.MustParseAddr("169.254.75.254"), netip.MustParseAddr("fd75::2")
)

func pumpLease() lease.Lease {
	return lease.Lease{
		MAC:    guestMAC,
		Addrs:  []netip.Prefix{netip.PrefixFrom(guest4, 24), netip.PrefixFrom(guest6, 64)},
		Server: lease.Server{MAC: serverMAC, DNS: []netip.Addr{dns4, dns6}},
	}
}

func newPump(tun io.ReadWriteCloser) *Pump {
	return NewPump(tun, pumpLease(), Peers(pumpLease(), netstate.Snapshot{}))
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
	return datagramOf(mac, src, dst, from, to, []byte("a question"))
}

func datagramOf(mac netstate.MAC, src, dst netip.Addr, from, to uint16, payload []byte) []byte {
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
	for _, a := range [][3]netip.Addr{{guest4, dns4, standIn4}, {guest6, dns6, standIn6}} {
		udp, tcp := datagram(guestMAC, a[0], a[1], 40000, 53), segmentOf(guestMAC, a[0], a[1], 40000, 53)
		sumAt := 14 + ipLen(a[0]) + 6
		tests := map[string]struct{ from, into []byte }{
			"UDP": {udp, datagram(guestMAC, a[2], a[1], 40000, 53)},
			// As virtio leaves it.
			"UDP with an unfinished checksum": {put(udp, sumAt, 0x12, 0x34), datagram(guestMAC, a[2], a[1], 40000, 53)},
			"UDP without a checksum":          {put(udp, sumAt, 0, 0), datagram(guestMAC, a[2], a[1], 40000, 53)},
			"TCP with an unfinished checksum": {tcp, finished(segmentOf(guestMAC, a[2], a[1], 40000, 53))},
			"TCP":                             {finished(tcp), finished(segmentOf(guestMAC, a[2], a[1], 40000, 53))},
			"a frame with padding":            {append(slices.Clone(udp), 0, 0, 0), datagram(guestMAC, a[2], a[1], 40000, 53)},
		}
		for name, tt := range tests {
			t.Run(name+" to "+a[1].String(), func(t *testing.T) {
				tun := newTunnel()
				if err := newPump(tun).FromGuest(tt.from); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([][]byte{tt.into[14:]}, tun.in); diff != "" {
					t.Errorf("into the tunnel (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// put is a copy of b with other octets at a place.
func put(b []byte, at int, octets ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], octets)
	return b
}

// finished is a copy of a frame with its packet's checksum.
func finished(b []byte) []byte {
	b = slices.Clone(b)
	frame.FinishChecksum(b[14:])
	return b
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
		"its own stand-in":       datagram(guestMAC, standIn4, dns4, 40000, 53),
		"its own IPv6 stand-in":  datagram(guestMAC, standIn6, dns6, 40000, 53),
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
			if err := newPump(tun).FromGuest(f); !errors.Is(err, ErrDropped) {
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
	err := newPump(tun).FromGuest(datagram(guestMAC, guest4, dns4, 40000, 53))
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
	// Each is a packet to the guest, given its addresses.
	to := func(from4, from6 netip.Addr, port uint16) (v4, v6 func(to netip.Addr) []byte) {
		return func(to netip.Addr) []byte { return datagram(guestMAC, from4, to, port, 40000) },
			func(to netip.Addr) []byte { return datagram(guestMAC, from6, to, port, 40000) }
	}
	good4, good6 := to(dns4, dns6, 53)
	tests := []struct {
		name   string
		packet func(to4, to6 netip.Addr) []byte
		want   bool
	}{
		{"an answer", func(to, _ netip.Addr) []byte { return good4(to)[14:] }, true},
		{"an answer over IPv6", func(_, to netip.Addr) []byte { return good6(to)[14:] }, true},
		{"an answer without a checksum", func(to, _ netip.Addr) []byte { return put(good4(to), 14+20+6, 0, 0)[14:] }, true},
		{"TCP", func(to, _ netip.Addr) []byte { return finished(segmentOf(guestMAC, dns4, to, 53, 40000))[14:] }, true},
		{"TCP over IPv6", func(_, to netip.Addr) []byte { return finished(segmentOf(guestMAC, dns6, to, 53, 40000))[14:] }, true},
		{"a first fragment", func(to, _ netip.Addr) []byte { return edit(good4(to), func(ip []byte) { ip[6] = 0x20 })[14:] }, true},
		{"a later fragment", func(to, _ netip.Addr) []byte {
			return edit(good4(to), func(ip []byte) { ip[7] = 9; copy(ip[20:], "what was cut off") })[14:]
		}, true},
		{"a first fragment over IPv6", func(_, to netip.Addr) []byte { return later6(good6(to), 1) }, true},
		{"a later fragment over IPv6", func(_, to netip.Addr) []byte {
			return later6(edit(good6(to), func(ip []byte) { copy(ip[40:], "what was cut off") }), 8)
		}, true},
		{"a first fragment without a checksum in it", func(_, to netip.Addr) []byte { return later6(good6(to), 1)[:48+7] }, false},
		{"nothing", func(_, _ netip.Addr) []byte { return nil }, false},
		{"another source", func(to, _ netip.Addr) []byte { return datagram(guestMAC, other4, to, 53, 40000)[14:] }, false},
		{"another port", func(to, _ netip.Addr) []byte { return datagram(guestMAC, dns4, to, 54, 40000)[14:] }, false},
		{"another port over IPv6", func(_, to netip.Addr) []byte { return datagram(guestMAC, dns6, to, 54, 40000)[14:] }, false},
		{"a first fragment from another port", func(_, to netip.Addr) []byte { return later6(datagram(guestMAC, dns6, to, 1, 1), 1) }, false},
		{"to another", func(_, _ netip.Addr) []byte { return good4(other4)[14:] }, false},
		{"to the guest's own address", func(_, _ netip.Addr) []byte { return good4(guest4)[14:] }, false},
		{"a multicast listener report", func(_, to netip.Addr) []byte { return edit(good6(to), func(ip []byte) { ip[6] = 0 })[14:] }, false},
		{"ICMP", func(to, _ netip.Addr) []byte { return edit(good4(to), func(ip []byte) { ip[9] = 1 })[14:] }, false},
		{"not IP", func(_, _ netip.Addr) []byte {
			return []byte("\x00\x00not a packet, but long enough for the headers of one")
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tun, got := newTunnel(), make(chan []byte, 2)
			done := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				done <- newPump(tun).Run(ctx, func(f []byte) error { got <- slices.Clone(f); return nil })
			}()
			tun.out <- tt.packet(standIn4, standIn6)
			tun.out <- good4(standIn4)[14:] // which shows that the other was looked at
			want := [][]byte{header14(guestMAC, good4(guest4)[14:])}
			if tt.want {
				want = append([][]byte{header14(guestMAC, tt.packet(guest4, guest6))}, want...)
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
		if err := newPump(tun).Run(t.Context(), nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Run = %v", err)
		}
	})
	t.Run("of the tap", func(t *testing.T) {
		tun, broken := newTunnel(), errors.New("broken")
		done := make(chan error, 1)
		go func() { done <- newPump(tun).Run(t.Context(), func([]byte) error { return broken }) }()
		tun.out <- datagram(guestMAC, dns4, standIn4, 53, 40000)[14:]
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
