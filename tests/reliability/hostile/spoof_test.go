package hostile

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

// said is something that no client says; it must get no answer.
type said struct {
	name   string
	frames [][]byte
}

// TestWhatNoClientSaysGetsNoAnswer says it on the tap, and then asks as a client does: only
// that is answered, and with the same lease as ever.
func TestWhatNoClientSaysGetsNoAnswer(t *testing.T) {
	world.OnEach(t, func(t *testing.T, b pod.Binding) {
		h := newHostile(t, b)
		server := h.ask(t, nil)
		frames := 0
		for _, s := range slices.Concat(h.spoofed4(), h.spoofed6(), h.spoofedNeighbors()) {
			for _, frame := range s.frames {
				if err := h.link.Send(frame); err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
			}
			frames += len(s.frames)
			h.ask(t, func(frame []byte) {
				if bytes.Equal(frame[6:12], server) {
					t.Errorf("%s: answered with % x", s.name, frame)
				}
			})
		}
		if n := h.Status(t)[0].Counts["panic"]; n > 0 {
			t.Errorf("the server panicked %d times", n)
		}
		world.Figure(t, topic, string(b)+": frames that no client sends, each without an answer", frames)
	})
}

// TestClientIDsChangeNothing: whoever has the guest's MAC gets the guest's lease, and nobody
// another one, however many clients it plays.
func TestClientIDsChangeNothing(t *testing.T) {
	h := newHostile(t, pod.Bridge)
	for i := range 100 {
		id := make([]byte, 1+rand.N(254))
		for j := range id {
			id[j] = byte(rand.Uint32())
		}
		h.ask(t, nil, append([]byte{61, byte(len(id))}, id...)...)
		if t.Failed() {
			t.Fatalf("with the %d. client identifier, % x", i+1, id)
		}
	}
}

// ask asks for the lease until it is offered, hands over what comes before, and returns the
// MAC of the server. Router advertisements come at any time.
func (h *hostile) ask(t *testing.T, before func(frame []byte), options ...byte) net.HardwareAddr {
	t.Helper()
	xid := rand.Uint32()
	h.asked[xid] = true
	for begun := time.Now(); time.Since(begun) < world.SettleTime; {
		if err := h.link.Send(h.dhcp(wire.DHCP(h.mac, xid, typeDiscover, netip.Addr{}, options...))); err != nil {
			t.Fatal(err)
		}
		frame, err := h.link.Hear(200*time.Millisecond, func(frame []byte) bool {
			kind, id, _, ok := wire.DHCPAnswer(frame)
			if ok && kind == 2 && id == xid {
				return true
			}
			late := ok && h.asked[id] // the answer to one that was asked twice
			if before != nil && !isRA(frame) && !late {
				before(frame)
			}
			return false
		})
		if err == nil {
			if _, _, addr, _ := wire.DHCPAnswer(frame); addr != h.GuestAddr() {
				t.Errorf("%s was offered, want %s", addr, h.GuestAddr())
			}
			return slices.Clone(frame[6:12])
		}
	}
	t.Fatal("nothing was offered")
	return nil
}

func isRA(frame []byte) bool { return len(frame) > 54 && frame[20] == 58 && frame[54] == 134 }

func (h *hostile) spoofed4() []said {
	change := func(name string, change func(message []byte)) said {
		message := wire.DHCP(h.mac, rand.Uint32(), typeDiscover, netip.Addr{}, 55, 3, 1, 3, 6)
		change(message)
		return said{name, [][]byte{h.dhcp(message)}}
	}
	relay := func(name string, addr netip.Addr, hops byte) said {
		return change("a relay, "+name, func(m []byte) { m[3] = hops; copy(m[24:], addr.AsSlice()) })
	}
	all := []said{
		relay("of another network", netip.MustParseAddr("10.9.9.9"), 1),
		relay("the server itself", serverID, 1),
		relay("the guest itself", h.GuestAddr(), 16),
		relay("after 255 others", h.GuestGateway(), 255),
		change("a server's message", func(m []byte) { m[0] = 2 }),
		change("another kind of link", func(m []byte) { m[1] = 6 }),
		change("a MAC of 16 octets", func(m []byte) { m[2] = 16 }),
		change("another client's MAC", func(m []byte) { copy(m[28:], stranger) }),
		change("no magic cookie", func(m []byte) { m[236] = 0 }),
		change("an option that goes on beyond the end", func(m []byte) { m[244] = 250 }),
	}
	for _, messageType := range []byte{0, 2, 5, 6, 9, 10, 13, 200, 255} {
		all = append(all, change("a type that no client sends", func(m []byte) { m[242] = messageType }))
	}
	all = append(all, said{"another server is asked", [][]byte{
		h.dhcp(wire.DHCP(h.mac, rand.Uint32(), typeRequest, netip.Addr{}, append([]byte{54, 4, 10, 9, 9, 9, 50, 4}, h.GuestAddr().AsSlice()...)...)),
	}})
	whole := wire.DHCP(h.mac, rand.Uint32(), typeDiscover, netip.Addr{})
	var cut said
	cut.name = "a message that is cut off"
	for n := range 242 { // before its type ends
		cut.frames = append(cut.frames, h.dhcp(whole[:n]))
	}
	return append(all, cut)
}

func (h *hostile) spoofed6() []said {
	_, message := udp6(h.solicit())
	change := func(name string, change func(message []byte) []byte) said {
		return said{name, [][]byte{h.dhcp6(change(slices.Clone(message)))}}
	}
	all := []said{
		change("of another MAC's", func(m []byte) []byte { return m }),
		change("relays in relays", func(m []byte) []byte {
			for hops := range byte(20) {
				head := append([]byte{12, hops}, make([]byte, 32)...)
				m = append(binary.BigEndian.AppendUint16(append(head, 0, 9), uint16(len(m))), m...)
			}
			return m
		}),
		change("an association in associations", func(m []byte) []byte {
			for range 80 {
				head := append([]byte{0, iaNA6}, byte((len(m)+8)>>8), byte(len(m)+8))
				m = slices.Concat(m[:4], head, make([]byte, 12), m[4:])
			}
			return m
		}),
		change("an option that goes on beyond the end", func(m []byte) []byte { m[6] = 0xff; return m }),
		change("no client identifier", func(m []byte) []byte { return append(m[:4], 0, elapsed6, 0, 2, 0, 0) }),
	}
	all[0].frames[0] = slices.Clone(all[0].frames[0])
	copy(all[0].frames[0][6:12], stranger)
	for _, messageType := range []byte{0, 2, 7, 10, 12, 13, 14, 36, 255} {
		all = append(all, change("a type that no client sends", func(m []byte) []byte { m[0] = messageType; return m }))
	}
	all = append(all, change("another server is asked", func(m []byte) []byte {
		m[0] = 3
		return append(m, 0, 2, 0, 10, 0, 3, 0, 1, 2, 9, 9, 9, 9, 9)
	}))
	var cut said
	cut.name = "a DHCPv6 message that is cut off"
	for n := range 18 { // before its client identifier ends
		cut.frames = append(cut.frames, h.dhcp6(message[:n]))
	}
	return append(all, cut)
}

// udp6 returns the headers and the payload of a frame.
func udp6(frame []byte) (headers, payload []byte) { return frame[:62], frame[62:] }

func (h *hostile) spoofedNeighbors() []said {
	far := func(frame []byte) []byte { frame[14+7] = 64; return frame } // hop limit: it crossed a router
	other := slices.Clone(h.solicitation())
	copy(other[6:12], stranger)
	broken := h.solicitation()
	broken[len(broken)-1] ^= 1 // the checksum is wrong
	return []said{
		{"a neighbor solicitation from beyond a router", [][]byte{far(h.solicitation())}},
		{"a router solicitation from beyond a router", [][]byte{far(wire.ICMPv6(h.mac, h.own6, routers6, []byte{typeRS, 0, 0, 0, 0, 0, 0, 0}))}},
		{"a router solicitation with an option of no length", [][]byte{wire.ICMPv6(h.mac, h.own6, routers6, []byte{typeRS, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})}},
		{"another MAC's neighbor solicitation", [][]byte{other}},
		{"a neighbor solicitation with a wrong checksum", [][]byte{broken}},
		{"another MAC's ARP request", [][]byte{wire.ARPRequest(stranger, h.GuestAddr(), serverID)}},
	}
}
