package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"go.uber.org/goleak"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var guest = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}

func exampleLease() lease.Lease {
	return lease.Lease{
		MAC:    guest,
		Addrs:  []netip.Prefix{netip.MustParsePrefix("10.244.1.7/24")},
		Routes: []lease.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.244.1.1")}},
		MTU:    1450, Hostname: "vm-0",
		Server: lease.Server{ID: netip.MustParseAddr("169.254.75.1"), MAC: netstate.MAC{2, 0, 0, 0, 0, 1}},
	}
}

// tap is a tap in memory: what the guest sends is read, what is written it gets.
type tap struct {
	in     chan []byte
	out    chan []byte
	fail   chan error
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex
	attached []lease.Lease // what it was attached again with
	refuse   int           // so many attempts to do it fail
}

func newTap() *tap {
	return &tap{in: make(chan []byte), out: make(chan []byte, 16), fail: make(chan error), closed: make(chan struct{})}
}

func (t *tap) Reattach(_ context.Context, l lease.Lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attached = append(t.attached, l)
	if t.refuse > 0 {
		t.refuse--
		return errors.New("no such link")
	}
	return nil
}

func (t *tap) attachments() []lease.Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.attached)
}

func (t *tap) Read(b []byte) (int, error) {
	select {
	case f := <-t.in:
		return copy(b, f), nil
	case err := <-t.fail:
		return 0, err
	case <-t.closed:
		return 0, io.ErrClosedPipe
	}
}

func (t *tap) Write(b []byte) (int, error) {
	t.out <- bytes.Clone(b)
	return len(b), nil
}

func (t *tap) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

func discover(t *testing.T, mac netstate.MAC) []byte {
	t.Helper()
	msg, err := dhcpv4.NewDiscovery(mac.HardwareAddr(), dhcpv4.WithOption(dhcpv4.OptHostName("self")),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionHostName))
	if err != nil {
		t.Fatal(err)
	}
	return udp(mac, msg.ToBytes())
}

func udp(mac netstate.MAC, payload []byte) []byte {
	return frame.AppendUDP4(nil, frame.UDP4{
		SrcMAC: mac, DstMAC: frame.Broadcast,
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"),
		Payload: payload,
	})
}

// run runs a server on a tap, and returns it and what ends it.
func run(t *testing.T, log *slog.Logger, tp *tap) (*Server, func()) {
	t.Helper()
	s := New(Options{
		Tap: "tap-eth0", Lease: exampleLease(), Log: log,
		Open: func(context.Context, lease.Lease) (Conn, error) { return tp, nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, func() { close(ready) }) }()
	<-ready
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func reply(t *testing.T, tp *tap) (frame.UDP4, *dhcpv4.DHCPv4) {
	t.Helper()
	select {
	case f := <-tp.out:
		u, err := frame.ParseUDP4(f)
		if err != nil {
			t.Fatal(err)
		}
		msg, err := dhcpv4.FromBytes(u.Payload)
		if err != nil {
			t.Fatal(err)
		}
		return u, msg
	case <-t.Context().Done():
		t.Fatal("no reply")
	case <-time.After(10 * time.Second):
		t.Fatal("no reply in 10 s")
	}
	panic("unreachable")
}

func TestAGuestIsAnswered(t *testing.T) {
	tp := newTap()
	s, stop := run(t, slog.New(slog.DiscardHandler), tp)
	defer stop()
	tp.in <- discover(t, guest)
	u, msg := reply(t, tp)
	if msg.MessageType() != dhcpv4.MessageTypeOffer || !msg.YourIPAddr.Equal(net.IPv4(10, 244, 1, 7)) {
		t.Errorf("reply = %v", msg.Summary())
	}
	if u.SrcMAC != exampleLease().Server.MAC || u.Src.Addr() != exampleLease().Server.ID {
		t.Errorf("the reply comes from %v %v", u.SrcMAC, u.Src)
	}
	st := s.Status()
	if st.Guest == nil || st.Guest.Hostname != "self" || st.Guest.Message != "DISCOVER" || st.Guest.Answer != "OFFER" {
		t.Errorf("status = %+v", st.Guest)
	}
}

// TestAClientThatRenewsHearsANAK: it may listen at its address alone, and to everybody it
// is sent as well.
func TestAClientThatRenewsHearsANAK(t *testing.T) {
	tp := newTap()
	_, stop := run(t, slog.New(slog.DiscardHandler), tp)
	defer stop()
	old := net.IPv4(10, 244, 1, 99).To4()
	msg, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithHwAddr(guest.HardwareAddr()), dhcpv4.WithClientIP(old))
	if err != nil {
		t.Fatal(err)
	}
	tp.in <- udp(guest, msg.ToBytes())
	type to struct {
		mac  netstate.MAC
		addr string
	}
	got := map[to]bool{}
	for range 2 {
		u, msg := reply(t, tp)
		if msg.MessageType() != dhcpv4.MessageTypeNak {
			t.Errorf("the answer is %v", msg.Summary())
		}
		got[to{u.DstMAC, u.Dst.String()}] = true
	}
	want := map[to]bool{{frame.Broadcast, "255.255.255.255:68"}: true, {guest, "10.244.1.99:68"}: true}
	if !maps.Equal(got, want) {
		t.Errorf("NAKs to %v, want %v", got, want)
	}
}

func TestOthersAreNot(t *testing.T) {
	tp := newTap()
	s, stop := run(t, slog.New(slog.DiscardHandler), tp)
	tp.in <- discover(t, netstate.MAC{2, 2, 2, 2, 2, 2})
	tp.in <- udp(guest, []byte("not DHCP"))
	tp.in <- []byte{1, 2, 3}
	tp.in <- nil
	stop()
	if len(tp.out) != 0 {
		t.Errorf("%d answers to frames that are not the guest's", len(tp.out))
	}
	if st := s.Status(); st.Guest != nil || st.Counts["malformed"] != 1 || st.Counts["not-ours"] != 2 {
		t.Errorf("status = %+v", st)
	}
}

func TestANewLeaseHoldsFromTheNextMessageOn(t *testing.T) {
	tp := newTap()
	s, stop := run(t, slog.New(slog.DiscardHandler), tp)
	defer stop()
	l := exampleLease()
	l.Hostname = "renamed"
	s.SetLease(l)
	tp.in <- discover(t, guest)
	if _, msg := reply(t, tp); msg.HostName() != "renamed" {
		t.Errorf("host name = %q", msg.HostName())
	}
}

// TestATapThatFailsIsAttachedToAgain: it is not opened again, which would take a
// privilege that the server has not got any more.
func TestATapThatFailsIsAttachedToAgain(t *testing.T) {
	tp := newTap()
	tp.refuse = 2
	s, stop := run(t, slog.New(slog.DiscardHandler), tp)
	defer stop()
	tp.fail <- errors.New("network is down")
	tp.in <- discover(t, guest)
	if _, msg := reply(t, tp); msg.MessageType() != dhcpv4.MessageTypeOffer {
		t.Errorf("reply = %v", msg.Summary())
	}
	if n := len(tp.attachments()); n != 3 || s.Status().Counts["link-failed"] != 1 {
		t.Errorf("attached %d times, counts %v", n, s.Status().Counts)
	}
}

// TestANewLeaseIsHeard: what the socket's filter lets through depends on the lease.
func TestANewLeaseIsHeard(t *testing.T) {
	tp := newTap()
	s, stop := run(t, slog.New(slog.DiscardHandler), tp)
	defer stop()
	l := exampleLease()
	l.Server.DNS = []netip.Addr{l.Server.ID}
	s.SetLease(l)
	if all := tp.attachments(); len(all) != 1 || !slices.Equal(all[0].Server.DNS, l.Server.DNS) {
		t.Errorf("attached with %+v", all)
	}
}

func TestAPanicEndsOneAnswerAndNotTheServer(t *testing.T) {
	saved := responders
	defer func() { responders = saved }()
	responders = append([]responder{func(_ *Server, _ lease.Lease, request []byte) ([][]byte, bool) {
		if string(request) == "boom" {
			panic("boom")
		}
		return nil, false
	}}, saved...)

	var log bytes.Buffer
	tp := newTap()
	s, stop := run(t, slog.New(slog.NewTextHandler(&log, nil)), tp)
	tp.in <- []byte("boom")
	tp.in <- discover(t, guest)
	reply(t, tp)
	stop()
	if s.Status().Counts["panic"] != 1 || !strings.Contains(log.String(), "626f6f6d") {
		t.Errorf("the panic is not counted and logged with its frame: %v\n%s", s.Status().Counts, log.String())
	}
}

func TestTheFirstOpenMayFail(t *testing.T) {
	s := New(Options{
		Lease: exampleLease(), Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, lease.Lease) (Conn, error) { return nil, errors.New("no tap") },
	})
	if err := s.Run(t.Context(), func() { t.Error("ready") }); err == nil || err.Error() != "no tap" {
		t.Errorf("err = %v", err)
	}
}
