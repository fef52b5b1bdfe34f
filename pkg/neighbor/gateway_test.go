package neighbor

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var (
	farMAC   = netstate.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	movedMAC = netstate.MAC{0x0a, 0x58, 1, 2, 3, 4}
	podMAC   = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	far      = netip.MustParseAddr("fd00::1:2345")
	far6     = netip.MustParseAddr("fe80::ecee:eeff:feee:eeee")
	far4     = netip.MustParseAddr("169.254.75.2")
	all      = netip.MustParseAddr("ff02::1")
)

// standIns is a lease with a gateway that has a stand-in of either family, and a
// permanent neighbour, whose MAC nobody may change.
func standIns() lease.Lease {
	return lease.Lease{
		MAC: podMAC,
		Neighbors: []lease.Neighbor{
			{Addr: far6, MAC: farMAC, StandsFor: far},
			{Addr: far4, MAC: farMAC, StandsFor: far},
			{Addr: far, MAC: farMAC},
		},
		Routers: []lease.Router{{Addr: far6, Gateways: []netip.Addr{far}}},
	}
}

// says is a Neighbor Advertisement to the pod, with the options given.
func says(flags byte, target netip.Addr, options ...byte) frame.ICMP6 {
	addr := target.As16()
	payload := append([]byte{136, 0, 0, 0, flags, 0, 0, 0}, addr[:]...)
	return frame.ICMP6{
		SrcMAC: movedMAC, DstMAC: podMAC, Src: target, Dst: podMAC.LinkLocal(), HopLimit: 255, Payload: append(payload, options...),
	}
}

func TestHeard(t *testing.T) {
	target := append([]byte{2, 1}, movedMAC[:]...)
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6}
	with := func(m frame.ICMP6, change func(*frame.ICMP6)) frame.ICMP6 {
		m.Payload = bytes.Clone(m.Payload)
		change(&m)
		return m
	}
	good := says(flagSolicited|flagOverride, far, target...)
	tests := []struct {
		name string
		in   frame.ICMP6
		want bool
	}{
		{"an answer with another MAC", good, true},
		{"behind another option", says(flagSolicited|flagOverride, far, append(bytes.Clone(nonce), target...)...), true},
		{"an announcement to all", with(says(flagOverride, far, target...), func(m *frame.ICMP6) { m.Dst = all }), true},
		{"the same MAC", says(flagOverride, far, append([]byte{2, 1}, farMAC[:]...)...), false},
		{"of another address", says(flagOverride, netip.MustParseAddr("fd00::9"), target...), false},
		{"that does not mean to replace anything", says(flagSolicited, far, target...), false},
		{"without a MAC", says(flagOverride, far), false},
		{"with a group's MAC", says(flagOverride, far, 2, 1, 3, 0, 0, 0, 0, 1), false},
		{"from beyond a router", with(good, func(m *frame.ICMP6) { m.HopLimit = 254 }), false},
		{"an answer to all", with(good, func(m *frame.ICMP6) { m.Dst = all }), false},
		{"of another code", with(good, func(m *frame.ICMP6) { m.Payload[1] = 1 }), false},
		{"a solicitation", with(good, func(m *frame.ICMP6) { m.Payload[0] = 135 }), false},
		{"an option of length 0", says(flagOverride, far, append([]byte{14, 0, 0, 0, 0, 0, 0, 0}, target...)...), false},
		{"an option beyond the end", says(flagOverride, far, append(bytes.Clone(target), 14, 2, 0, 0, 0, 0, 0, 0)...), false},
		{"cut short", with(good, func(m *frame.ICMP6) { m.Payload = m.Payload[:20] }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := standIns()
			changed, about := Heard(before, frame.AppendICMP6(nil, tt.in))
			want := standIns()
			var wantAbout []lease.Neighbor
			if tt.want {
				want.Neighbors[0].MAC, want.Neighbors[1].MAC = movedMAC, movedMAC
				wantAbout = want.Neighbors[:2]
			}
			if diff := cmp.Diff(want, changed, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("the lease (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantAbout, about, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("stand-ins (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(standIns(), before, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("the old lease was changed:\n%s", diff)
			}
		})
	}
	if _, about := Heard(standIns(), []byte("nonsense")); about != nil {
		t.Error("nonsense was heard")
	}
}

func TestSolicitAsksTheGatewayInTheGuestsName(t *testing.T) {
	m, err := frame.ParseICMP6(Solicit(standIns(), far))
	if err != nil {
		t.Fatal(err)
	}
	group := netip.MustParseAddr("ff02::1:ff01:2345")
	if m.SrcMAC != podMAC || m.DstMAC != frame.MulticastMAC(group) || m.Src != podMAC.LinkLocal() || m.Dst != group || m.HopLimit != 255 {
		t.Errorf("from %s %s to %s %s, hop limit %d", m.SrcMAC, m.Src, m.DstMAC, m.Dst, m.HopLimit)
	}
	if target, ok := targetOf(m); !ok || target != far {
		t.Errorf("asks for %v", target)
	}
	if want := append([]byte{1, 1}, podMAC[:]...); !bytes.Equal(m.Payload[24:], want) {
		t.Errorf("options % x, want % x", m.Payload[24:], want)
	}
}

func TestAnnounce(t *testing.T) {
	l := standIns()
	m, err := frame.ParseICMP6(Announce(l, l.Neighbors[0]))
	if err != nil {
		t.Fatal(err)
	}
	if m.Src != far6 || m.Dst != all || m.DstMAC != frame.MulticastMAC(all) || m.Payload[4] != flagRouter|flagOverride ||
		netip.AddrFrom16([16]byte(m.Payload[8:24])) != far6 || netstate.MAC(m.Payload[26:32]) != farMAC {
		t.Errorf("%+v", m)
	}
	a, err := frame.ParseARP(Announce(l, l.Neighbors[1]))
	if err != nil {
		t.Fatal(err)
	}
	if a.SenderIP != far4 || a.TargetIP != far4 || a.SenderMAC != farMAC || a.DstMAC != frame.Broadcast || a.Op != frame.ARPRequest {
		t.Errorf("%+v", a)
	}
}

func TestAskedStandIn(t *testing.T) {
	l := standIns()
	asked := func(target netip.Addr) frame.ICMP6 {
		addr := target.As16()
		return frame.ICMP6{
			SrcMAC: podMAC, DstMAC: farMAC, Src: podMAC.LinkLocal(), Dst: target,
			Payload: append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, addr[:]...),
		}
	}
	arp := frame.ARP{SrcMAC: podMAC, Op: frame.ARPRequest, SenderMAC: podMAC, SenderIP: netip.MustParseAddr("10.0.0.7"), TargetIP: far4}
	other, answer, arpOfOther := asked(far6), arp, arp
	other.SrcMAC, arpOfOther.SrcMAC, answer.Op = movedMAC, movedMAC, frame.ARPReply
	tests := []struct {
		name string
		in   []byte
		want netip.Addr
	}{
		{"a solicitation of another than the guest", frame.AppendICMP6(nil, other), netip.Addr{}},
		{"an ARP request of another", frame.AppendARP(nil, arpOfOther), netip.Addr{}},
		{"an ARP reply", frame.AppendARP(nil, answer), netip.Addr{}},
		{"a solicitation", frame.AppendICMP6(nil, asked(far6)), far6},
		{"an ARP request", frame.AppendARP(nil, arp), far4},
		{"for a neighbour that stands for nobody", frame.AppendICMP6(nil, asked(far)), netip.Addr{}},
		{"nonsense", []byte("nonsense"), netip.Addr{}},
	}
	// Nor is there an answer for one whose gateway has not said its MAC.
	silent := l
	silent.Neighbors = []lease.Neighbor{{Addr: far6, StandsFor: far}, {Addr: far4, StandsFor: far}}
	for _, in := range [][]byte{frame.AppendICMP6(nil, asked(far6)), frame.AppendARP(nil, arp)} {
		if _, ok := AskedStandIn(silent, in); !ok {
			t.Errorf("not asked for: % x", in)
		}
		if reply, ok := Reply(silent, in); ok {
			t.Errorf("answered with % x", reply)
		}
	}
	for _, tt := range tests {
		got, ok := AskedStandIn(l, tt.in)
		if got.Addr != tt.want || ok != tt.want.IsValid() {
			t.Errorf("%s: %v, %v", tt.name, got, ok)
		}
	}
}
