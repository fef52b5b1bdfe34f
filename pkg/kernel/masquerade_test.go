//go:build linux

package kernel

import (
	"net/netip"
	"testing"

	"github.com/podwire/podwire/pkg/config"
)

func TestGuestGoesOutByThePodsAddress(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	serve(t, m.nodeK, "node", "[::]:7")
	for _, network := range transports {
		wantAnswer(t, m.guestK, network, at(nodeIP, 7), "node to "+pods)
		wantAnswer(t, m.guestK, network, at(nodeIP6, 7), "node to "+pods6)
		// What goes out of the pod itself goes on as it did.
		wantAnswer(t, m.k, network, at(nodeIP, 7), "node to "+pods)
		wantAnswer(t, m.k, network, at(nodeIP6, 7), "node to "+pods6)
	}
	wantAnswer(t, m.guestK, "tcp", at(farIP, 7), "node to "+pods)
	wantAnswer(t, m.guestK, "tcp", at(farIP6, 7), "node to "+pods6)
	for _, far := range []string{nodeIP, farIP, nodeIP6, farIP6} {
		if !echoed(t, m.guest, far) {
			t.Errorf("no echo from %s", far)
		}
	}
}

func TestWhatIsForThePodIsTheGuests(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	serve(t, m.guestK, "guest", "[::]:80")
	serve(t, m.k, "pod", "[::]:80")
	for _, network := range transports {
		wantAnswer(t, m.nodeK, network, at(pods, 80), "guest to "+nodeIP)
		wantAnswer(t, m.nodeK, network, at(pods6, 80), "guest to "+nodeIP6)
		if got := asked(t, m.nodeK, network, at(pods, 81), soon); got != "connection refused" {
			t.Errorf("%s to a port where the guest has nothing: %q", network, got)
		}
		if got := asked(t, m.nodeK, network, at(pods6, 81), soon); got != "connection refused" {
			t.Errorf("%s to a port where the guest has nothing, IPv6: %q", network, got)
		}
	}
	for _, own := range []string{pods, pods6} {
		if !echoedBy(t, m.node, own, m.guest) {
			t.Errorf("an echo from %s is not the guest's", own)
		}
	}
}

func TestOnlyThePortsThatWereAskedForAreTheGuests(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, withPorts(
		config.Ports{Protocol: "tcp", First: 80, Last: 80}, config.Ports{Protocol: "udp", First: 8000, Last: 8002}))
	who := map[string]map[int]string{
		"tcp": {79: "pod", 80: "guest", 81: "pod", 7999: "pod", 8000: "pod", 8002: "pod"},
		"udp": {80: "pod", 7999: "pod", 8000: "guest", 8001: "guest", 8002: "guest", 8003: "pod"},
	}
	for _, port := range []int{79, 80, 81, 7999, 8000, 8001, 8002, 8003} {
		serve(t, m.guestK, "guest", at("::", port))
		serve(t, m.k, "pod", at("::", port))
	}
	for network, ports := range who {
		for port, want := range ports {
			wantAnswer(t, m.nodeK, network, at(pods, port), want+" to "+nodeIP)
			wantAnswer(t, m.nodeK, network, at(pods6, port), want+" to "+nodeIP6)
		}
	}
	for _, own := range []string{pods, pods6} {
		if echoedBy(t, m.node, own, m.guest) {
			t.Errorf("an echo from %s is the guest's", own)
		}
	}
}

func TestWhatIsExcludedStaysWithThePod(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, func(c *config.Config) {
		c.ExcludePorts = []config.Ports{{Protocol: "tcp", First: 15000, Last: 15090}}
		c.ExcludeFrom = prefixes("198.51.100.0/24", "2001:db8:100::1/128", "127.0.0.6/32")
	})
	for _, port := range []int{80, 15000, 15090, 15091} {
		serve(t, m.guestK, "guest", at("::", port))
		serve(t, m.k, "pod", at("::", port))
	}
	for port, want := range map[int]string{80: "guest", 15000: "pod", 15090: "pod", 15091: "guest"} {
		wantAnswer(t, m.nodeK, "tcp", at(pods, port), want+" to "+nodeIP)
		wantAnswer(t, m.nodeK, "udp", at(pods, port), "guest to "+nodeIP)
		wantAnswer(t, m.nodeK, "tcp", at(pods6, port), want+" to "+nodeIP6)
	}
	m.node.IP(t, "route replace 10.244.1.0/24 dev veth0 src 198.51.100.1", "-6 route add fd00:10:244:1::7 dev veth0 src 2001:db8:100::1")
	wantAnswer(t, m.nodeK, "tcp", at(pods, 80), "pod to "+farIP)
	wantAnswer(t, m.nodeK, "udp", at(pods6, 80), "pod to "+farIP6)
}

// A port-forward of Kubernetes dials localhost inside the pod.
func TestThePodsLocalhostIsTheGuest(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, withPorts(config.Ports{Protocol: "tcp", First: 80, Last: 80}, config.Ports{Protocol: "udp", First: 80, Last: 80}))
	for _, port := range []int{80, 81} {
		serve(t, m.guestK, "guest", at("::", port))
		serve(t, m.k, "pod", at("::", port))
	}
	for _, network := range transports {
		wantAnswer(t, m.k, network, at("127.0.0.1", 80), "guest to 10.0.2.1")
		wantAnswer(t, m.k, network, at("::1", 80), "guest to fd10:0:2::1")
		wantAnswer(t, m.k, network, at(pods, 80), "guest to "+pods)
		wantAnswer(t, m.k, network, at(pods6, 80), "guest to "+pods6)
		wantAnswer(t, m.k, network, at("127.0.0.1", 81), "pod to 127.0.0.1")
		wantAnswer(t, m.k, network, at("::1", 81), "pod to ::1")
		wantAnswer(t, m.k, network, at(pods, 81), "pod to "+pods)
	}
	wantAnswer(t, m.k, "tcp", at("127.0.0.2", 80), "pod to 127.0.0.1")
}

func TestGuestReachesItselfByThePodsAddress(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	serve(t, m.guestK, "guest", "[::]:80")
	heard := m.guest.Packet(t, "nic")
	for _, network := range transports {
		wantAnswer(t, m.guestK, network, at(pods, 80), "guest to 10.0.2.1")
		wantAnswer(t, m.guestK, network, at(pods6, 80), "guest to fd10:0:2::1")
	}
	if frame := heard.Next(t, inAWhile, isRedirect); frame != nil {
		t.Errorf("it is told of a better way: %x", frame)
	}
}

// Without the rule the kernel tells an IPv6 guest of a better way: the test above
// looks for what is there. Of IPv4 it drops them where it translates.
func TestRedirectsAreThereToBeKeptBack(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	m.Run(t, "nft", "flush chain inet podwire-eth0 outgoing")
	heard := m.guest.Packet(t, "nic")
	asked(t, m.guestK, "udp", at(pods6, 80), soon)
	if heard.Next(t, soon, isRedirect) == nil {
		t.Error("no redirect")
	}
}

// isRedirect reports whether a frame is an ICMP redirect, of either family.
func isRedirect(b []byte) bool {
	switch {
	case b[12] == 8 && b[13] == 0:
		return b[23] == 1 && b[34] == icmpRedirect
	default:
		return len(b) > 54 && b[12] == 0x86 && b[20] == 58 && b[54] == ndRedirect
	}
}

// A container of the pod that listens on localhost means those of the pod.
func TestGuestDoesNotReachThePodsLocalhost(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	hears := listen(t, m.k, "127.0.0.1:9")
	frame := m.fromGuest(t, addressed(udp(9, 9, 0, 0), guestIP, netip.MustParseAddr("127.0.0.1")))
	nic := m.guest.Packet(t, "nic")
	nic.Send(t, frame)
	if hears(inAWhile) {
		t.Error("the pod's localhost hears the guest")
	}
	m.Run(t, "nft", "flush chain inet podwire-eth0 raw")
	nic.Send(t, frame)
	if !hears(soon) {
		t.Error("it does not hear it without the rule either: the test is worth nothing")
	}
	// Of IPv6 the kernel itself takes none from the wire, whatever its routes.
	hears = listen(t, m.k, "[::1]:4242")
	nic.Send(t, m.fromGuest(t, ipv6(17, guestIP6, localhost6.Addr(), summed6(guestIP6, "::1"))))
	if hears(inAWhile) {
		t.Error("the pod's localhost hears the guest by IPv6")
	}
}

// fromGuest is a frame with a packet of the guest's to its gateway.
func (m *masked) fromGuest(t *testing.T, packet []byte) []byte {
	t.Helper()
	l, _ := m.snapshot(t).LinkByName("tap-eth0")
	kind := uint16(0x0800)
	if packet[0]>>4 == 6 {
		kind = 0x86dd
	}
	return edit(ether(kind, packet), 0, l.MAC[:]...)
}

// What is not translated would carry an address that the network does not know, or
// another pod's.
func TestSourceThatIsNotTheGuestsDoesNotLeave(t *testing.T) {
	t.Parallel()
	m := newMasquerade(t, nil)
	wantEchoes(t, m) // so that all neighbours are known
	wire, nic := m.node.Packet(t, "veth0"), m.guest.Packet(t, "nic")
	stranger, stranger6 := netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("2001:db8::66")
	for _, packet := range [][]byte{
		addressed(udp(9, 4242, 0, 0), stranger, netip.MustParseAddr(nodeIP)),
		addressed(udp(9, 4242, 0, 0), netip.MustParseAddr(pods), netip.MustParseAddr(nodeIP)),
		ipv6(17, stranger6, netip.MustParseAddr(nodeIP6), summed6(stranger6, nodeIP6)),
		ipv6(17, netip.MustParseAddr("fe80::66"), netip.MustParseAddr(nodeIP6), summed6(netip.MustParseAddr("fe80::66"), nodeIP6)),
		addressed(udp(9, 4242, 0, 0), guestIP, netip.MustParseAddr(nodeIP)),
		ipv6(17, guestIP6, netip.MustParseAddr(nodeIP6), summed6(guestIP6, nodeIP6)),
	} {
		nic.Send(t, m.fromGuest(t, packet))
	}
	for _, want := range []string{pods, pods6} {
		frame := wire.Next(t, soon, isTo4242)
		if frame == nil {
			t.Fatalf("nothing comes from %s", want)
		}
		if got := sourceOf(frame); got != netip.MustParseAddr(want) {
			t.Errorf("%s comes out, not %s", got, want)
		}
	}
}

func sourceOf(frame []byte) netip.Addr {
	if frame[12] == 8 {
		return netip.AddrFrom4([4]byte(frame[26:]))
	}
	return netip.AddrFrom16([16]byte(frame[22:]))
}

// isTo4242 reports whether a frame is a UDP datagram to that port.
func isTo4242(b []byte) bool {
	switch {
	case len(b) >= 42 && b[12] == 8 && b[23] == 17:
		return b[36] == 4242>>8 && b[37] == 4242&0xff
	case len(b) >= 62 && b[12] == 0x86 && b[20] == 17:
		return b[56] == 4242>>8 && b[57] == 4242&0xff
	}
	return false
}

// summed6 is a datagram to port 4242 with the checksum that IPv6 asks for (RFC
// 8200 §8.1).
func summed6(src netip.Addr, dst string) []byte {
	b := datagram(9, 4242)
	pseudo := append(append(src.AsSlice(), netip.MustParseAddr(dst).AsSlice()...), 0, 0, 0, byte(len(b)), 0, 0, 0, 17)
	sum := checksum(append(pseudo, b...))
	return edit(b, 6, byte(sum>>8), byte(sum))
}

func wantEchoes(t *testing.T, m *masked) {
	t.Helper()
	for _, far := range []string{nodeIP, nodeIP6} {
		if !echoed(t, m.guest, far) {
			t.Fatalf("no echo from %s", far)
		}
	}
}
