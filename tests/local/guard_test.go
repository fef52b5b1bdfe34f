package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podwire/podwire/tests/client"
	"github.com/podwire/podwire/tests/pod"
	"github.com/podwire/podwire/tests/wire"
	"github.com/podwire/podwire/tests/world"
)

// Who a guest is not.
var (
	strangerMAC          = net.HardwareAddr{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x99}
	stranger4, stranger6 = netip.MustParseAddr("10.244.1.99"), netip.MustParseAddr("fd00:10:244:1::99")
	everyone4, everyone6 = netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("ff02::1")
)

// liar is a guest that sends what it likes.
type liar struct {
	mac        net.HardwareAddr
	own4, own6 netip.Addr
	send       func(frame []byte) error
	said       int
}

// spoofed is what a guest has no business to send.
type spoofed struct {
	name  string
	frame []byte
	// router says that it is a router's or a DHCP server's.
	router bool
}

func (l *liar) udp(mac net.HardwareAddr, from, to netip.Addr, src, dst uint16, payload string) []byte {
	return wire.UDP(mac, netip.AddrPortFrom(from, src), netip.AddrPortFrom(to, dst), []byte(payload))
}

// nd is a message of neighbour discovery about an address, with a link-layer address.
func (l *liar) nd(kind byte, from, target netip.Addr, option byte, mac net.HardwareAddr) []byte {
	message := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
	return wire.ICMPv6(l.mac, from, everyone6, append(append(message, option, 1), mac...))
}

// hide puts an extension header behind the IPv6 header.
func hide(frame []byte, kind byte, header ...byte) []byte {
	const end = 14 + 40
	out := slices.Insert(slices.Clone(frame), end, append([]byte{frame[20]}, header...)...)
	out[20] = kind
	binary.BigEndian.PutUint16(out[18:], uint16(len(out)-end))
	return out
}

func (l *liar) lies() []spoofed {
	link := netip.MustParseAddr("fe80::1234:5678:9abc:def0")
	arp := func(from netip.Addr, mac net.HardwareAddr) []byte {
		frame := wire.ARPRequest(mac, from, from)
		copy(frame[6:], l.mac)
		return frame
	}
	advertisement := wire.ICMPv6(l.mac, link, everyone6, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})
	answer6 := l.udp(l.mac, link, everyone6, 547, 546, "answer")
	nothing := []byte{0, 1, 4, 0, 0, 0, 0} // one option that fills it up
	vlan := slices.Insert(l.udp(l.mac, l.own4, everyone4, 9, 9, "vlan"), 12, 0x81, 0, 0, 5)
	return []spoofed{
		{name: "from another MAC", frame: l.udp(strangerMAC, l.own4, everyone4, 9, 9, "mac")},
		{name: "IPv6 from another MAC", frame: l.udp(strangerMAC, l.own6, everyone6, 9, 9, "mac")},
		{name: "IPv4 of another", frame: l.udp(l.mac, stranger4, everyone4, 9, 9, "ipv4")},
		{name: "IPv6 of another", frame: l.udp(l.mac, stranger6, everyone6, 9, 9, "ipv6")},
		{name: "ARP of another", frame: arp(stranger4, l.mac)},
		{name: "ARP with another MAC", frame: arp(l.own4, strangerMAC)},
		{name: "neighbor advertisement of another", frame: l.nd(136, link, stranger6, 2, l.mac)},
		{name: "neighbor advertisement with another MAC", frame: l.nd(136, l.own6, l.own6, 2, strangerMAC)},
		{name: "neighbor solicitation with another MAC", frame: l.nd(135, l.own6, stranger6, 1, strangerMAC)},
		{name: "of a VLAN", frame: vlan},
		{name: "DHCP answer", frame: l.udp(l.mac, l.own4, everyone4, 67, 68, "answer"), router: true},
		{name: "DHCPv6 answer", frame: answer6, router: true},
		{name: "DHCPv6 answer behind a header", frame: hide(answer6, 60, nothing...), router: true},
		{name: "DHCPv6 answer in a first fragment", frame: hide(answer6, 44, 0, 0, 1, 0, 0, 0, 7), router: true},
		{name: "router advertisement", frame: advertisement, router: true},
		{name: "router advertisement behind headers", frame: hide(hide(advertisement, 60, nothing...), 0, nothing...), router: true},
		{name: "redirect", frame: wire.ICMPv6(l.mac, link, everyone6, append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 32)...))},
	}
}

// honest is a frame that no other is, of a type, from the guest's own addresses.
func (l *liar) honest(etherType uint16) []byte {
	l.said++
	text := fmt.Sprintf("honest %d", l.said)
	switch etherType {
	case 0x0806:
		return wire.ARPRequest(l.mac, l.own4, netip.AddrFrom4([4]byte{192, 0, 2, byte(l.said)}))
	case 0x86dd:
		return l.udp(l.mac, l.own6, everyone6, 9, 9, text)
	default:
		return l.udp(l.mac, l.own4, everyone4, 9, 9, text)
	}
}

// ear is where it is heard what the guest's filter has left.
type ear struct {
	name   string
	socket *wire.Socket
	of     uint16 // the type of frame that it hears, or 0
}

// hears reports whether a frame of the guest's comes there, which is so once an honest one
// that follows it has.
func (e ear) hears(t *testing.T, l *liar, frame []byte) bool {
	t.Helper()
	copy(frame, wire.Everyone)
	want, honest := frame, l.honest(e.of)
	if frame[12] == 0x81 { // which the kernel takes out
		want = slices.Delete(slices.Clone(frame), 12, 16)
	}
	copy(honest, wire.Everyone)
	for _, each := range [][]byte{frame, honest} {
		if err := l.send(each); err != nil {
			t.Fatal(err)
		}
	}
	found := false
	_, err := e.socket.Hear(world.SettleTime, func(heard []byte) bool {
		found = found || bytes.Equal(heard, want)
		return bytes.Equal(heard, honest)
	})
	if err != nil {
		t.Fatalf("%s: an honest frame does not come: %v", e.name, err)
	}
	return found
}

// ears are those of the other pod and the node, where the guest is on their network.
// Behind the pod it is the pod itself that is lied to.
func (w *testWorld) ears(t *testing.T, to world.Wired) []ear {
	t.Helper()
	var out []ear
	open := func(name string, space *pod.Space, link string, of uint16) {
		var socket *wire.Socket
		var err error
		if of == 0 {
			socket, err = wire.OpenSocket(space, link)
		} else {
			socket, err = wire.OpenSocketOf(space, link, of)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		out = append(out, ear{name, socket, of})
	}
	if w.Binding.Behind() {
		for name, of := range map[string]uint16{"the pod's ARP": 0x0806, "the pod's IPv4": 0x0800, "the pod's IPv6": 0x86dd} {
			open(name, w.VM.Space, to.Tap, of)
		}
		return out
	}
	open("the other pod", w.Other.Space, "eth0", 0)
	open("the node", w.Node.Space, "cni0", 0)
	return out
}

// typeOf is what a frame carries, without a VLAN.
func typeOf(frame []byte) uint16 {
	if frame[12] == 0x81 {
		frame = frame[4:]
	}
	return binary.BigEndian.Uint16(frame[12:])
}

// TestGuardEndsWhatIsNotTheGuests: with --guard nothing of it arrives anywhere, without
// it all does, but for what podwire never lets by.
func TestGuardEndsWhatIsNotTheGuests(t *testing.T) {
	t.Parallel()
	for _, guard := range []bool{true, false} {
		t.Run(fmt.Sprintf("guard=%v", guard), func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
				to := w.Prestart(t, fmt.Sprintf("--guard=%v", guard))
				_, guest := w.Plug(t, to)
				socket, err := wire.OpenSocket(guest, "nic0")
				if err != nil {
					t.Fatal(err)
				}
				defer socket.Close()
				mac, err := net.ParseMAC(to.MAC)
				if err != nil {
					t.Fatal(err)
				}
				l := &liar{mac: mac, own4: w.GuestAddr(), own6: w.GuestAddr6(), send: socket.Send}
				w.lies(t, string(b), l, w.ears(t, to), guard)
				text := w.Podwire(t, "status")
				if strings.Contains(text, "guard") != guard {
					t.Errorf("status says\n%s", text)
				}
			})
		})
	}
}

// lies has the guest lie to all ears.
func (w *testWorld) lies(t *testing.T, on string, l *liar, ears []ear, guard bool) {
	t.Helper()
	for _, e := range ears { // a tap and its bridge take some time to come up
		w.Eventually(t, "is heard by "+e.name, func() string {
			honest := l.honest(e.of)
			copy(honest, wire.Everyone)
			err := l.send(honest)
			if err == nil {
				_, err = e.socket.Hear(time.Second/2, func(heard []byte) bool { return bytes.Equal(heard, honest) })
			}
			if err != nil {
				return err.Error()
			}
			return ""
		})
	}
	tried := 0
	for _, lie := range l.lies() {
		for _, e := range ears {
			if e.of != 0 && e.of != typeOf(lie.frame) {
				continue
			}
			tried++
			never := lie.router && w.Binding.Behind() // nobody's router is behind a pod
			if heard := e.hears(t, l, lie.frame); heard == (guard || never) {
				t.Errorf("%s: %s hears it: %v", lie.name, e.name, heard)
			}
		}
	}
	if guard {
		world.Figure(t, "guard", "spoofed frames that ended at the tap, "+on, tried)
	}
}

// TestGuardedGuestHasItsNetwork: all that a guest does with its network it does guarded,
// with each client and of both families.
func TestGuardedGuestHasItsNetwork(t *testing.T) {
	t.Parallel()
	for _, each := range client.Duals() {
		t.Run(each.Name, func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
				to := w.Prestart(t, "--guard")
				guest := w.NewGuest(t)
				if err := each.Prepare(guest); err != nil {
					t.Fatal(err)
				}
				w.PlugInto(t, to, guest, "nic0")
				if _, err := each.Use(w.Ctx, client.Guest{Space: guest, Dir: w.Dir, Link: "nic0"}); err != nil {
					t.Fatal(err)
				}
				// The clients have ended; networkd takes what it has set along.
				for _, addr := range []string{w.GuestAddr().String() + "/24", w.GuestAddr6().String() + "/64"} {
					if err := guest.IP(w.Ctx, "address replace %s dev nic0", addr); err != nil {
						t.Fatal(err)
					}
				}
				if !b.Behind() {
					w.Reaches(t, guest, w.Other.Addr.Addr(), world.Addr6(w.Other))
					w.Reaches(t, w.Other.Space, w.GuestAddr(), w.GuestAddr6())
				}
			})
		})
	}
}

// TestEveryClientIsToldWhenGuarded runs the others, one by one.
func TestEveryClientIsToldWhenGuarded(t *testing.T) {
	t.Parallel()
	drivers := client.Drivers()
	if !world.Long() {
		drivers = drivers[:1]
	}
	for _, each := range drivers {
		t.Run(fmt.Sprintf("%s-%v", each.Name, each.IPv4), func(t *testing.T) {
			t.Parallel()
			world.OnEach(t, func(t *testing.T, b pod.Binding) {
				w := newWorldOf(t, world.DualBridge, world.ResolvConf6, time.Minute).with(b)
				to := w.Prestart(t, "--guard")
				guest := w.NewGuest(t)
				if err := each.Prepare(guest); err != nil {
					t.Fatal(err)
				}
				w.PlugInto(t, to, guest, "nic0")
				told, err := each.Run(w.Ctx, client.Guest{Space: guest, Dir: w.Dir, Link: "nic0"})
				if err != nil {
					t.Fatal(err)
				}
				want := w.GuestAddr()
				if !each.IPv4 {
					want = w.GuestAddr6()
				}
				// By router advertisements alone there is none to be had.
				if each.Name != "kernel" && !strings.Contains(told[client.Address], want.String()) {
					t.Errorf("told %q, want %s", told, want)
				}
			})
		})
	}
}

// TestGuardOnAMacvtap: there the guest's frames go out of the link itself.
func TestGuardOnAMacvtap(t *testing.T) {
	t.Parallel()
	for _, guard := range []bool{true, false} {
		t.Run(fmt.Sprintf("guard=%v", guard), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "bridge", time.Minute)
			w.attachMacvtap(t)
			w.Prestart(t, "-i", "net1", fmt.Sprintf("--guard=%v", guard))
			tap := w.openMacvtap(t)
			socket, err := wire.OpenSocket(w.Other.Space, "net1")
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			l := &liar{mac: net.HardwareAddr{0x0a, 0x58, 0xc0, 0xa8, 0x4d, 0x02}, own4: tapped.Addr(), own6: tapped6.Addr()}
			l.send = func(frame []byte) error {
				_, err := tap.Write(append(make([]byte, 10), frame...)) // behind a virtio header
				return err
			}
			w.lies(t, "macvtap", l, []ear{{name: "its neighbour", socket: socket}}, guard)
			discover := wire.UDP(l.mac, netip.MustParseAddrPort("0.0.0.0:68"), netip.AddrPortFrom(everyone4, 67),
				wire.DHCP(l.mac, 7, 1, netip.Addr{}))
			if err := l.send(discover); err != nil {
				t.Fatal(err)
			}
			if err := tap.SetReadDeadline(time.Now().Add(world.SettleTime)); err != nil {
				t.Fatal(err)
			}
			for buf := make([]byte, 1<<16); ; {
				n, err := tap.Read(buf)
				if err != nil {
					t.Fatalf("no answer of podwire's: %v", err)
				}
				if kind, _, addr, ok := wire.DHCPAnswer(buf[10:n]); ok && kind == 2 && addr == l.own4 {
					break
				}
			}
		})
	}
}

// openMacvtap opens the pod's net1 as a hypervisor does.
func (w *testWorld) openMacvtap(t *testing.T) *os.File {
	t.Helper()
	var path string
	err := w.VM.Do(func() error {
		ifi, err := net.InterfaceByName("net1")
		if err == nil {
			path = fmt.Sprintf("/dev/tap%d", ifi.Index)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tap, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tap.Close() })
	return tap
}
