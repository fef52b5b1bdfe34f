package neighbor

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var (
	allNodes = netstate.MAC{0x33, 0x33, 0, 0, 0, 1}
	peer     = addr("fe80::7") // the guest, by an address that it chose itself
)

// dualLease is the AWS pod with IPv6: its permanent neighbour fe80::1 is the
// router, a stand-in is for a global gateway, and podwire answers DNS.
func dualLease() lease.Lease {
	l := awsLease()
	l.Addrs = append(l.Addrs, netip.MustParsePrefix("fd00::7/64"), netip.MustParsePrefix("fd00::8/128"))
	l.Neighbors = append(l.Neighbors,
		lease.Neighbor{Addr: gateway.LinkLocal(), MAC: gateway},
		lease.Neighbor{Addr: addr("fd00::1"), MAC: gateway},
		lease.Neighbor{Addr: addr("fd00::99"), MAC: gateway},
		lease.Neighbor{Addr: addr("fd00::8"), MAC: gateway},   // the lease's own: never answered
		lease.Neighbor{Addr: guest.LinkLocal(), MAC: gateway}, // the same
		lease.Neighbor{Addr: addr("fd00::9")},                 // no MAC: nothing to answer with
		lease.Neighbor{Addr: addr("ff02::1:2"), MAC: gateway}, // a group: nobody's
		lease.Neighbor{Addr: addr("fd00::a"), MAC: allNodes})  // the MAC of a group: nobody's
	l.Routers = []lease.Router{{Addr: gateway.LinkLocal(), Gateways: []netip.Addr{addr("fd00::1")}}}
	l.Server.LinkLocal = server.LinkLocal()
	l.Server.DNS = []netip.Addr{addr("169.254.75.53"), addr("fd00:75::53")}
	return l
}

// groupOf is the solicited-node group of an address (RFC 4291 §2.7.1).
func groupOf(a netip.Addr) netip.Addr {
	b, g := a.As16(), netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(g[13:], b[13:])
	return netip.AddrFrom16(g)
}

// whoIs is the solicitation that asks for target in the name of src. Options are
// in hexadecimal.
func whoIs(t testing.TB, target, src netip.Addr, options string) frame.ICMP6 {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(options), ""))
	if err != nil {
		t.Fatal(err)
	}
	to := target.As16()
	return frame.ICMP6{
		SrcMAC: guest, DstMAC: frame.MulticastMAC(groupOf(target)), Src: src, Dst: groupOf(target),
		Payload: append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, to[:]...), b...),
	}
}

const (
	sourceLinkAddr = "0101 0a580af40107"
	nonce          = "0e01 0123456789ab" // RFC 3971 §5.3.2; Linux sends one with each probe
)

// goldenNA is the answer for fe80::1 to fe80::7, added up by hand: fe80+0001,
// fe80+0007, 0020+003a, 8800+6000, fe80+0001, 0201+1234+5678+9abc = 4e94c, folded
// e950, inverted 16af.
const goldenNA = `
	0a580af40107 123456789abc 86dd
	6000 0000 0020 3a ff fe800000000000000000000000000001 fe800000000000000000000000000007
	88 00 16af 60000000 fe800000000000000000000000000001 0201 123456789abc`

func TestAdvertisementOctetByOctet(t *testing.T) {
	want, err := hex.DecodeString(strings.Join(strings.Fields(goldenNA), ""))
	if err != nil {
		t.Fatal(err)
	}
	ask := whoIs(t, addr("fe80::1"), peer, sourceLinkAddr)
	got, _ := Reply(dualLease(), frame.AppendICMP6(nil, ask))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// readNA reads an answer by the library's means and checks what all answers have
// in common, the checksum by the library's sum.
func readNA(t testing.TB, reply []byte) (frame.ICMP6, *ndp.NeighborAdvertisement) {
	t.Helper()
	m, err := frame.ParseICMP6(reply)
	if err != nil {
		t.Fatal(err)
	}
	read, err := ndp.ParseMessage(m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	na, ok := read.(*ndp.NeighborAdvertisement)
	if !ok || m.HopLimit != 255 {
		t.Fatalf("a %T with hop limit %d", read, m.HopLimit)
	}
	whole, err := ndp.MarshalMessageChecksum(na, m.Src, m.Dst)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := binary.BigEndian.Uint16(m.Payload[2:]), binary.BigEndian.Uint16(whole[2:]); got != want {
		t.Errorf("checksum %#04x, the library's is %#04x", got, want)
	}
	return m, na
}

func TestAnswersSolicitations(t *testing.T) {
	unicast := whoIs(t, addr("fe80::1"), peer, "")
	unicast.Dst, unicast.DstMAC = addr("fe80::1"), gateway
	nobody := netip.IPv6Unspecified()
	tests := []struct {
		name   string
		ask    frame.ICMP6
		mac    netstate.MAC
		router bool
	}{
		{"for the server", whoIs(t, server.LinkLocal(), peer, sourceLinkAddr), server, false},
		{"for the nameserver", whoIs(t, addr("fd00:75::53"), addr("fd00::7"), sourceLinkAddr), server, false},
		{"for a permanent neighbour", whoIs(t, addr("fe80::1"), peer, sourceLinkAddr), gateway, false},
		{"for a router's stand-in", whoIs(t, gateway.LinkLocal(), peer, sourceLinkAddr), gateway, true},
		{"for the gateway itself", whoIs(t, addr("fd00::1"), addr("fd00::7"), sourceLinkAddr), gateway, true},
		{"for a global neighbour", whoIs(t, addr("fd00::99"), peer, ""), gateway, false},
		{"a unicast question, as Linux asks again", unicast, gateway, false},
		{"a probe for the server's address: it is taken", whoIs(t, server.LinkLocal(), nobody, nonce), server, false},
		{"a probe for a router's stand-in", whoIs(t, gateway.LinkLocal(), nobody, ""), gateway, true},
		{"with options that are not known", whoIs(t, addr("fe80::1"), peer, nonce+sourceLinkAddr), gateway, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply, ok := Reply(dualLease(), frame.AppendICMP6(nil, tt.ask))
			if !ok {
				t.Fatal("silence")
			}
			m, na := readNA(t, reply)
			target := netip.AddrFrom16([16]byte(tt.ask.Payload[8:24]))
			probe := tt.ask.Src == nobody
			to, toMAC := tt.ask.Src, guest
			if probe {
				to, toMAC = netip.IPv6LinkLocalAllNodes(), allNodes
			}
			if m.Src != target || m.Dst != to || m.SrcMAC != tt.mac || m.DstMAC != toMAC {
				t.Errorf("from %v %v to %v %v", m.Src, m.SrcMAC, m.Dst, m.DstMAC)
			}
			want := &ndp.NeighborAdvertisement{
				Router: tt.router, Solicited: !probe, Override: true, TargetAddress: target,
				Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: tt.mac.HardwareAddr()}},
			}
			if diff := cmp.Diff(want, na, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsSilentToSolicitations(t *testing.T) {
	good := func(change func(*frame.ICMP6)) frame.ICMP6 {
		m := whoIs(t, addr("fe80::1"), peer, "")
		change(&m)
		return m
	}
	nobody := netip.IPv6Unspecified()
	tests := []struct {
		name string
		ask  frame.ICMP6
	}{
		{"to another MAC", good(func(m *frame.ICMP6) { m.SrcMAC = stray })},
		{"to what was forwarded", good(func(m *frame.ICMP6) { m.HopLimit = 254 })},
		{"to a code", good(func(m *frame.ICMP6) { m.Payload[1] = 1 })},
		{"to an advertisement", good(func(m *frame.ICMP6) { m.Payload[0] = 136 })},
		{"to a router solicitation", good(func(m *frame.ICMP6) { m.Payload[0] = 133 })},
		{"to half a target", good(func(m *frame.ICMP6) { m.Payload = m.Payload[:23] })},
		{"to an option of length 0", good(func(m *frame.ICMP6) { m.Payload = append(m.Payload, 1, 0, 0, 0, 0, 0, 0, 0) })},
		{"to an option that is cut off", good(func(m *frame.ICMP6) { m.Payload = append(m.Payload, 1, 2, 0, 0, 0, 0, 0, 0) })},
		{"to a group as the source", good(func(m *frame.ICMP6) { m.Src = addr("ff02::1") })},
		{"to a probe that is not to a solicited-node group", good(func(m *frame.ICMP6) { m.Src, m.Dst = nobody, addr("ff02::1") })},
		{"to a probe that gives a link-layer address", whoIs(t, addr("fe80::1"), nobody, sourceLinkAddr)},
		{"to a question for a group", whoIs(t, addr("ff02::1:2"), peer, "")},
		{"to a probe for the guest's own address", whoIs(t, addr("fd00::7"), nobody, nonce)},
		{"to a probe for its own address that is a neighbour, too", whoIs(t, addr("fd00::8"), nobody, nonce)},
		{"to a probe for its link-local address", whoIs(t, guest.LinkLocal(), nobody, nonce)},
		{"to a question for a neighbour without a MAC", whoIs(t, addr("fd00::9"), peer, "")},
		{"to a question for a neighbour with a group's MAC", whoIs(t, addr("fd00::a"), peer, "")},
		{"to a question for anyone else", whoIs(t, addr("fd00::2"), peer, "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if reply, ok := Reply(dualLease(), frame.AppendICMP6(nil, tt.ask)); ok {
				t.Errorf("answered % x", reply)
			}
		})
	}
	whole := frame.AppendICMP6(nil, good(func(*frame.ICMP6) {}))
	if _, ok := Reply(dualLease(), whole); !ok {
		t.Fatal("the question that the others were made of is not answered")
	}
	for n := range len(whole) {
		if _, ok := Reply(dualLease(), whole[:n]); ok {
			t.Errorf("answered the first %d octets of a question", n)
		}
	}
}

func TestAnswersForTheNameserverInARP(t *testing.T) {
	reply, ok := Reply(dualLease(), frame.AppendARP(nil, whoHas("169.254.75.53", "10.0.3.7")))
	if got, err := frame.ParseARP(reply); !ok || err != nil || got.SenderMAC != server {
		t.Errorf("got %v, %v, %v", got, ok, err)
	}
}

func TestIsSilentToSolicitationsWithoutIPv6(t *testing.T) {
	l := awsLease()
	for _, target := range []netip.Addr{server.LinkLocal(), gateway.LinkLocal(), addr("fd00:75::53"), addr("::")} {
		if reply, ok := Reply(l, frame.AppendICMP6(nil, whoIs(t, target, peer, ""))); ok {
			t.Errorf("answered for %v: % x", target, reply)
		}
	}
}

// FuzzNeighborReply holds for any message from any address: no panic; the answer
// is a valid one, is the guest's alone, and never claims what is its own. The
// octets of the message are tried as a whole frame, too.
func FuzzNeighborReply(f *testing.F) {
	for _, ask := range []frame.ICMP6{
		whoIs(f, server.LinkLocal(), peer, sourceLinkAddr),
		whoIs(f, gateway.LinkLocal(), netip.IPv6Unspecified(), nonce),
		whoIs(f, addr("fd00::7"), netip.IPv6Unspecified(), ""),
	} {
		src, dst := ask.Src.As16(), ask.Dst.As16()
		f.Add(src[:], dst[:], uint8(255), ask.Payload)
		f.Add(src[:], dst[:], uint8(255), frame.AppendICMP6(nil, ask))
	}
	f.Add([]byte{}, []byte{}, uint8(1), frame.AppendARP(nil, whoHas("169.254.75.1", "10.0.3.7")))
	l := dualLease()
	f.Fuzz(func(t *testing.T, src, dst []byte, hops uint8, message []byte) {
		_, _ = Reply(l, message)
		from, _ := netip.AddrFromSlice(src)
		to, _ := netip.AddrFromSlice(dst)
		reply, ok := Reply(l, frame.AppendICMP6(nil, frame.ICMP6{SrcMAC: guest, Src: from, Dst: to, HopLimit: hops, Payload: message}))
		if !ok {
			return
		}
		m, na := readNA(t, reply)
		if m.DstMAC != guest && m.DstMAC != allNodes || m.Src != na.TargetAddress || na.Solicited != (m.Dst == from) {
			t.Errorf("from %v to %v %v: %+v", m.Src, m.Dst, m.DstMAC, na)
		}
		for _, own := range l.Addrs {
			if na.TargetAddress == own.Addr() {
				t.Errorf("told the guest that its own address %v is taken", own.Addr())
			}
		}
	})
}

func BenchmarkReplyToSolicitation(b *testing.B) {
	l, request := dualLease(), frame.AppendICMP6(nil, whoIs(b, gateway.LinkLocal(), peer, sourceLinkAddr))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Reply(l, request); !ok {
			b.Fatal("silence")
		}
	}
}
