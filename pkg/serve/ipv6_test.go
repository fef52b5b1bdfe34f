package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/neighbor"
	"github.com/podwire/podwire/pkg/netstate"
)

const (
	typeRS = 133
	typeRA = 134
	typeNS = 135
	typeNA = 136
)

var (
	guestLL  = guest.LinkLocal()
	gateway  = netip.MustParseAddr("fd00:10:244:1::1")
	router   = netstate.MAC{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
	standIn  = router.LinkLocal()
	serverLL = netstate.MAC{2, 0, 0, 0, 0, 1}.LinkLocal()
	outer    = netip.MustParseAddr("fe80::9")
	everyone = netip.MustParseAddr("ff02::1")
)

// lease6 has a gateway with a stand-in, and one of its own.
func lease6() lease.Lease {
	l := exampleLease()
	l.Addrs = append(l.Addrs, netip.MustParsePrefix("fd00:10:244:1::7/64"))
	l.Routes = append(l.Routes,
		lease.Route{Dst: netip.MustParsePrefix("fd00:9::/48"), Via: outer},
		lease.Route{Dst: netip.MustParsePrefix("::/0"), Via: gateway})
	l.Neighbors = []lease.Neighbor{{Addr: standIn, MAC: router, StandsFor: gateway}}
	l.Routers = []lease.Router{{Addr: standIn, Gateways: []netip.Addr{gateway}}, {Addr: outer, Gateways: []netip.Addr{outer}}}
	l.Server.LinkLocal = serverLL
	return l
}

// serve6 runs a server of lease6 on a tap, with the pod interface as port.
func serve6(t *testing.T, port *tap) (*Server, *tap) {
	t.Helper()
	tp := newTap()
	s := New(Options{
		Tap: "tap-eth0", Lease: lease6(), Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, lease.Lease) (Conn, error) { return tp, nil },
		OpenPort: func(context.Context, lease.Lease) (Conn, error) {
			if port == nil {
				return nil, errors.New("no port")
			}
			return port, nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, tp
}

// next returns the next ICMPv6 message for the guest.
func next(t *testing.T, tp *tap) frame.ICMP6 {
	t.Helper()
	select {
	case f := <-tp.out:
		m, err := frame.ParseICMP6(f)
		if err != nil {
			t.Fatalf("%v: %x", err, f)
		}
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		return frame.ICMP6{}
	}
}

// routers takes the advertisements of all routers, in order, off the tap.
func routers(t *testing.T, tp *tap, dst netip.Addr) {
	t.Helper()
	for _, src := range []netip.Addr{standIn, outer} {
		m := next(t, tp)
		if m.Payload[0] != typeRA || m.Src != src || m.Dst != dst || m.HopLimit != 255 {
			t.Fatalf("type %d from %s to %s, hop limit %d; want an advertisement of %s to %s",
				m.Payload[0], m.Src, m.Dst, m.HopLimit, src, dst)
		}
	}
}

func solicitation(src netip.Addr) []byte {
	all := netip.MustParseAddr("ff02::2")
	return frame.AppendICMP6(nil, frame.ICMP6{
		SrcMAC: guest, DstMAC: frame.MulticastMAC(all), Src: src, Dst: all, Payload: []byte{typeRS, 0, 0, 0, 0, 0, 0, 0},
	})
}

func whoHas(target netip.Addr) []byte {
	addr := target.As16()
	payload := append([]byte{typeNS, 0, 0, 0, 0, 0, 0, 0}, addr[:]...)
	return frame.AppendICMP6(nil, frame.ICMP6{
		SrcMAC: guest, DstMAC: router, Src: guestLL, Dst: target, Payload: append(append(payload, 1, 1), guest[:]...),
	})
}

func TestRoutersSpeakAtOnceAndWhenAsked(t *testing.T) {
	s, tp := serve6(t, nil)
	routers(t, tp, everyone)
	tp.in <- solicitation(guestLL)
	routers(t, tp, guestLL)
	tp.in <- solicitation(netip.IPv6Unspecified())
	routers(t, tp, everyone)
	if st := s.Status(); st.Counts["RS-RA"] != 2 || st.Guest == nil || st.Guest.Message != "RS" || st.Guest.Answer != "RA" {
		t.Errorf("status %+v, guest %+v", st.Counts, st.Guest)
	}
}

// TestRoutersSpeakToAGuestThatComesUp: it does not have to wait until it may ask.
func TestRoutersSpeakToAGuestThatComesUp(t *testing.T) {
	_, tp := serve6(t, nil)
	routers(t, tp, everyone)
	probe := func(target netip.Addr) []byte {
		addr := target.As16()
		return frame.AppendICMP6(nil, frame.ICMP6{
			SrcMAC: guest, DstMAC: frame.MulticastMAC(target), Src: netip.IPv6Unspecified(), Dst: netip.MustParseAddr("ff02::1:fff4:107"),
			Payload: append([]byte{typeNS, 0, 0, 0, 0, 0, 0, 0}, addr[:]...),
		})
	}
	tp.in <- probe(netip.MustParseAddr("fe80::1234")) // not the one that its MAC makes
	tp.in <- probe(guestLL)
	routers(t, tp, everyone)
	tp.in <- probe(guestLL) // again, within three seconds
	tp.in <- solicitation(guestLL)
	routers(t, tp, guestLL)
}

func TestChangedLeaseIsAdvertisedAtOnce(t *testing.T) {
	s, tp := serve6(t, nil)
	routers(t, tp, everyone)
	l := lease6()
	l.Routers, l.Routes = l.Routers[:1], l.Routes[2:]
	s.SetLease(l)
	gone := next(t, tp)
	if gone.Src != outer || gone.Payload[0] != typeRA || gone.Payload[6]|gone.Payload[7] != 0 {
		t.Errorf("from %s: % x; want the other router with lifetime 0", gone.Src, gone.Payload[:16])
	}
	if still := next(t, tp); still.Src != standIn || still.Payload[6] == 0 {
		t.Errorf("from %s: % x", still.Src, still.Payload[:16])
	}
}

func TestDHCPv6IsAnsweredFromTheServersLinkLocal(t *testing.T) {
	s, tp := serve6(t, nil)
	routers(t, tp, everyone)
	msg, err := dhcpv6.NewSolicit(guest.HardwareAddr(), dhcpv6.WithRapidCommit, dhcpv6.WithFQDN(0, "self"))
	if err != nil {
		t.Fatal(err)
	}
	all := netip.MustParseAddr("ff02::1:2")
	ask := frame.UDP6{
		SrcMAC: guest, DstMAC: frame.MulticastMAC(all), Src: netip.AddrPortFrom(guestLL, 40000), Dst: netip.AddrPortFrom(all, 547),
		Payload: msg.ToBytes(),
	}
	tp.in <- frame.AppendUDP6(nil, ask)
	got, err := frame.ParseUDP6(<-tp.out)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := dhcpv6.MessageFromBytes(got.Payload)
	if err != nil || answer.Type() != dhcpv6.MessageTypeReply {
		t.Fatalf("%v, %v", answer, err)
	}
	got.Payload = nil
	want := frame.UDP6{
		SrcMAC: netstate.MAC{2, 0, 0, 0, 0, 1}, DstMAC: guest,
		Src: netip.AddrPortFrom(serverLL, 547), Dst: netip.AddrPortFrom(guestLL, 546),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if st := s.Status(); st.Guest == nil || st.Guest.BoundIPv6At == nil || st.Guest.Hostname != "self" {
		t.Errorf("guest %+v", st.Guest)
	}

	ask.SrcMAC = router
	tp.in <- frame.AppendUDP6(nil, ask)
	tp.in <- solicitation(guestLL) // answered after it
	routers(t, tp, guestLL)
	if got := s.Status().Counts["other-mac"]; got != 1 {
		t.Errorf("another MAC's message: %d", got)
	}
}

// TestGatewayThatChangesItsMAC has the guest ask for the stand-in, so the gateway
// is asked too; it says another MAC, which the guest is told.
func TestGatewayThatChangesItsMAC(t *testing.T) {
	port := newTap()
	s, tp := serve6(t, port)
	routers(t, tp, everyone)

	asked := make(chan frame.ICMP6, 1)
	go func() {
		m, err := frame.ParseICMP6(<-port.out)
		if err == nil {
			asked <- m
		}
	}()
	// The port is opened beside the tap: until it is, the gateway is not asked.
	for s.Status().Counts["gateway-asked"] == 0 {
		s.gateways.mu.Lock()
		clear(s.gateways.asked)
		s.gateways.mu.Unlock()
		tp.in <- whoHas(standIn)
		if na := next(t, tp); na.Payload[0] != typeNA || netstate.MAC(na.Payload[26:32]) != router {
			t.Fatalf("% x", na.Payload)
		}
	}
	m := <-asked
	if m.Payload[0] != typeNS || netip.AddrFrom16([16]byte(m.Payload[8:24])) != gateway || m.Src != guestLL || m.SrcMAC != guest {
		t.Errorf("the gateway was asked with %+v", m)
	}

	moved := netstate.MAC{0x0a, 0x58, 1, 2, 3, 4}
	l := lease6()
	l.Neighbors[0] = lease.Neighbor{Addr: gateway, MAC: moved}
	says := neighbor.Announce(l, l.Neighbors[0])
	port.in <- says
	if na := next(t, tp); na.Payload[0] != typeNA || na.Src != standIn || netstate.MAC(na.Payload[26:32]) != moved || na.Payload[4]&0xa0 != 0xa0 {
		t.Errorf("the guest was told % x from %s", na.Payload, na.Src)
	}
	asksAgain := func(when string) {
		t.Helper()
		tp.in <- whoHas(standIn)
		if na := next(t, tp); netstate.MAC(na.Payload[26:32]) != moved {
			t.Errorf("%s: % x", when, na.Payload)
		}
	}
	asksAgain("asked again")
	s.SetLease(lease6()) // of before the gateway moved, as the state file has it
	routers(t, tp, everyone)
	asksAgain("with a new lease")
}

// TestGatewayThatWasSilentWhenThePodWasWired is asked for the guest, which is told
// when it speaks.
func TestGatewayThatWasSilentWhenThePodWasWired(t *testing.T) {
	port := newTap()
	s, tp := serve6(t, port)
	routers(t, tp, everyone)
	silent := lease6()
	other := netip.MustParseAddr("fe80::8")
	silent.Neighbors = []lease.Neighbor{{Addr: standIn, StandsFor: gateway}, {Addr: other, StandsFor: outer}}
	s.lease.Store(&silent)
	for _, ask := range []struct{ standIn, gateway netip.Addr }{{standIn, gateway}, {other, outer}} {
		for asked := (netip.Addr{}); asked != ask.gateway; { // until the port is open
			s.gateways.mu.Lock()
			clear(s.gateways.asked)
			s.gateways.mu.Unlock()
			tp.in <- whoHas(ask.standIn)
			tp.in <- solicitation(guestLL)
			routers(t, tp, guestLL) // and no answer before it
			select {
			case f := <-port.out:
				m, err := frame.ParseICMP6(f)
				if err != nil || m.Payload[0] != typeNS {
					t.Fatalf("%v: % x", err, f)
				}
				asked = netip.AddrFrom16([16]byte(m.Payload[8:24]))
			default:
			}
		}
	}
	port.in <- neighbor.Announce(silent, lease.Neighbor{Addr: gateway, MAC: router})
	if na := next(t, tp); na.Src != standIn || netstate.MAC(na.Payload[26:32]) != router {
		t.Errorf("the guest was told % x from %s", na.Payload, na.Src)
	}
}

// TestALaterLeaseMayHaveStandIns where the first had none: by then nothing can be opened.
func TestALaterLeaseMayHaveStandIns(t *testing.T) {
	port, tp := newTap(), newTap()
	s := New(Options{
		Tap: "tap-eth0", Lease: exampleLease(), Log: slog.New(slog.DiscardHandler),
		Open:     func(context.Context, lease.Lease) (Conn, error) { return tp, nil },
		OpenPort: func(context.Context, lease.Lease) (Conn, error) { return port, nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	<-ready
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	l := lease6()
	l.Neighbors = []lease.Neighbor{{Addr: standIn, StandsFor: gateway}}
	s.SetLease(l)
	m, err := frame.ParseICMP6(<-port.out)
	if err != nil || m.Payload[0] != typeNS || netip.AddrFrom16([16]byte(m.Payload[8:24])) != gateway {
		t.Errorf("%v: the pod's network was asked % x", err, m.Payload)
	}
	if all := port.attachments(); len(all) != 1 || len(all[0].Neighbors) != 1 {
		t.Errorf("the port was attached with %+v", all)
	}
	port.in <- neighbor.Announce(l, lease.Neighbor{Addr: gateway, MAC: router})
	na := next(t, tp)
	for na.Payload[0] == typeRA { // of the start, and of the new lease
		na = next(t, tp)
	}
	if na.Src != standIn || netstate.MAC(na.Payload[26:32]) != router {
		t.Errorf("the guest was told % x from %s", na.Payload, na.Src)
	}
}
