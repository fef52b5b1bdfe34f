package dnsforward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func TestAnAnswerIsPassedOnOctetByOctetButForItsID(t *testing.T) {
	// An octet behind it, that no codec would make, must come through.
	strange := func(q asked) []byte { return append(texts(3)(q), 0xbe) }
	up := start(t, with(strange))
	g := serve(t, nil, up.addr)
	for _, name := range []string{"udp", "tcp"} {
		t.Run(name, func(t *testing.T) {
			question := ask(0x1234, "Example.Test.", 0)
			got := map[string]func([]byte) []byte{"udp": g.udp, "tcp": g.tcp}[name](question)
			if diff := cmp.Diff(strange(asked{message: question}), got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			q := up.heard()[len(up.heard())-1]
			if q.network != name || !bytes.Equal(question[2:], q.message[2:]) {
				t.Errorf("the upstream got %s %x, want %s %x", q.network, q.message, name, question)
			}
		})
	}
}

func TestEveryQuestionHasItsOwnIDAndPort(t *testing.T) {
	up := start(t, with(texts(1)))
	g := serve(t, nil, up.addr)
	for range 16 {
		if h := header(t, g.udp(ask(7, "a.test.", 0))); h.ID != 7 {
			t.Fatalf("id = %d, want the guest's 7", h.ID)
		}
	}
	ids, ports := map[uint16]bool{}, map[uint16]bool{}
	for _, q := range up.heard() {
		ids[binary.BigEndian.Uint16(q.message)] = true
		ports[q.from.Port()] = true
	}
	// Two of 16 may be the same by chance; that they are few is what counts.
	if len(ids) < 14 || len(ports) < 8 {
		t.Errorf("16 questions had %d ids and %d ports", len(ids), len(ports))
	}
}

func TestOnlyTheAnswerIsTakenFromAnUpstream(t *testing.T) {
	other := func(q asked, change func(m *dnsmessage.Message)) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(texts(1)(q)); err != nil {
			panic(err)
		}
		change(&m)
		out, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return out
	}
	up := start(t, func(q asked) [][]byte {
		return [][]byte{
			{},
			[]byte("no message"),
			withID(texts(2)(q), binary.BigEndian.Uint16(q.message)+1),
			other(q, func(m *dnsmessage.Message) { m.Response = false }),
			other(q, func(m *dnsmessage.Message) { m.OpCode = 4 }),
			other(q, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("b.test.") }),
			other(q, func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeA }),
			other(q, func(m *dnsmessage.Message) { m.Questions = nil }),
			texts(1)(q),
		}
	})
	g := serve(t, nil, up.addr)
	var m dnsmessage.Message
	if err := m.Unpack(g.udp(ask(1, "a.test.", 0))); err != nil || len(m.Answers) != 1 || m.Questions[0].Name.String() != "a.test." {
		t.Errorf("answer = %v, %v", m.GoString(), err)
	}
}

func TestAnswersOfOthersAreNotHeard(t *testing.T) {
	forger, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	up := start(t, with(func(q asked) []byte {
		forged := reply(q, dnsmessage.RCodeNameError, 0) // all is right but the source
		if _, err := forger.WriteTo(forged, net.UDPAddrFromAddrPort(q.from)); err != nil {
			t.Error(err)
		}
		return texts(1)(q)
	}))
	if h := header(t, serve(t, nil, up.addr).udp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("rcode = %v, want the upstream's", h.RCode)
	}
}

func TestTheNextUpstreamIsAsked(t *testing.T) {
	closed := func(t *testing.T) netip.AddrPort {
		udp, tcp := listenBoth(t)
		defer udp.Close()
		defer tcp.Close()
		return udp.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	tests := map[string]func(t *testing.T) netip.AddrPort{
		"if one refuses":       closed,
		"if one is silent":     func(t *testing.T) netip.AddrPort { return start(t, silence).addr },
		"if one says SERVFAIL": func(t *testing.T) netip.AddrPort { return start(t, with(says(dnsmessage.RCodeServerFailure))).addr },
		"if one says REFUSED":  func(t *testing.T) netip.AddrPort { return start(t, with(says(dnsmessage.RCodeRefused))).addr },
		"if one says NOTIMP":   func(t *testing.T) netip.AddrPort { return start(t, with(says(dnsmessage.RCodeNotImplemented))).addr },
	}
	for name, first := range tests {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(name+" over "+network, func(t *testing.T) {
				good := start(t, with(texts(1)))
				g := serve(t, func(r *Relay) { r.patience = time.Millisecond }, first(t), good.addr)
				answer := map[string]func([]byte) []byte{"udp": g.udp, "tcp": g.tcp}[network](ask(9, "a.test.", 0))
				if h := header(t, answer); h.RCode != dnsmessage.RCodeSuccess || h.ID != 9 {
					t.Errorf("answer = %+v", h)
				}
			})
		}
	}
}

func TestNXDOMAINIsAnAnswer(t *testing.T) {
	first, second := start(t, with(says(dnsmessage.RCodeNameError))), start(t, with(texts(1)))
	g := serve(t, nil, first.addr, second.addr)
	if h := header(t, g.udp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeNameError || len(second.heard()) != 0 {
		t.Errorf("rcode = %v, the second upstream was asked %d times", h.RCode, len(second.heard()))
	}
}

func TestAnUpstreamsRefusalIsBetterThanNothing(t *testing.T) {
	first, second := start(t, with(says(dnsmessage.RCodeRefused))), start(t, with(says(dnsmessage.RCodeServerFailure)))
	g := serve(t, nil, first.addr, second.addr)
	if h := header(t, g.udp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeRefused {
		t.Errorf("rcode = %v, want that of the first upstream", h.RCode)
	}
	if n := g.relay.Counts()["dns-servfail"]; n != 0 {
		t.Errorf("dns-servfail = %d: podwire has made none", n)
	}
}

func TestWithoutAnUpstreamTheAnswerIsSERVFAIL(t *testing.T) {
	g := serve(t, nil) // gives up after 20 s: this must not wait for that
	for name, get := range map[string]func([]byte) []byte{"udp": g.udp, "tcp": g.tcp} {
		var m dnsmessage.Message
		if err := m.Unpack(get(ask(77, "a.test.", 1232))); err != nil {
			t.Fatal(err)
		}
		if m.RCode != dnsmessage.RCodeServerFailure || m.ID != 77 || !m.Response || !m.RecursionDesired {
			t.Errorf("%s: header = %+v", name, m.Header)
		}
		if len(m.Questions) != 1 || m.Questions[0].Name.String() != "a.test." {
			t.Errorf("%s: questions = %v", name, m.Questions)
		}
		options := m.Additionals[0].Body.(*dnsmessage.OPTResource).Options
		if want := "\x00\x17podwire: the pod has no nameserver"; len(options) != 1 || options[0].Code != 15 || string(options[0].Data) != want {
			t.Errorf("%s: options = %v, want the extended error %q", name, options, want)
		}
	}
	if diff := cmp.Diff(map[string]uint64{
		"dns-udp": 1, "dns-tcp": 1, "dns-servfail": 2, "dns-truncated": 0, "dns-rejected": 0, "dns-dropped": 0, "dns-panic": 0,
	}, g.relay.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

func TestUpstreamsChangeAtRunTime(t *testing.T) {
	g := serve(t, nil)
	if h := header(t, g.udp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("before: rcode = %v", h.RCode)
	}
	g.relay.SetUpstream([]netip.AddrPort{start(t, with(texts(1))).addr})
	if h := header(t, g.udp(ask(2, "a.test.", 0))); h.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("after: rcode = %v", h.RCode)
	}
}

func TestAnswersThatAreTooLongAreTruncated(t *testing.T) {
	tests := []struct {
		name    string
		size    int // that the guest says
		records int // of 112 octets
		want    bool
	}{
		{"no EDNS, 400 octets", 0, 3, false},
		{"no EDNS, 900 octets", 0, 8, true},
		{"EDNS 1232, 900 octets", 1232, 8, false},
		{"EDNS 1232, 1400 octets", 1232, 12, true},
		{"EDNS 100 is 512, 400 octets", 100, 3, false},
		{"EDNS 100 is 512, 900 octets", 100, 8, true},
		{"EDNS 65535, 3400 octets", 65535, 30, false},
		{"EDNS 65535, more than is taken by UDP", 65535, 40, true},
		{"no EDNS, more than is taken by UDP", 0, 40, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			up := start(t, with(texts(tt.records)))
			g := serve(t, nil, up.addr)
			answer := g.udp(ask(3, "long.test.", tt.size))
			var m dnsmessage.Message
			if err := m.Unpack(answer); err != nil {
				t.Fatal(err)
			}
			if m.ID != 3 || m.Truncated != tt.want || len(m.Questions) != 1 {
				t.Errorf("header = %+v, %d questions", m.Header, len(m.Questions))
			}
			if want := map[bool]int{false: tt.records}[tt.want]; len(m.Answers) != want {
				t.Errorf("%d records, want %d", len(m.Answers), want)
			}
			if _, _, ok := findOPT(answer); ok != (tt.size > 0) {
				t.Errorf("an OPT record: %v", ok)
			}
			if limit := max(512, tt.size); len(answer) > limit {
				t.Errorf("%d octets, want at most %d", len(answer), limit)
			}
			// What the truncation asks for.
			if err := m.Unpack(g.tcp(ask(4, "long.test.", tt.size))); err != nil || len(m.Answers) != tt.records || m.Truncated {
				t.Errorf("over TCP: %v, %d records", err, len(m.Answers))
			}
		})
	}
}

func TestATruncatedAnswerIsPassedOn(t *testing.T) {
	up := start(t, with(func(q asked) []byte {
		m := texts(1)(q)
		m[2] |= 2
		return m
	}))
	answer := serve(t, nil, up.addr).udp(ask(1, "a.test.", 0))
	if !header(t, answer).Truncated || len(answer) < 100 {
		t.Errorf("answer = %x", answer)
	}
}

func TestMoreQuestionsThanMayBeInFlightAreDropped(t *testing.T) {
	release := make(chan struct{})
	g := serve(t, func(r *Relay) {
		r.udpSlots = make(chan struct{}, 2)
		r.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, errors.New("no socket")
		}
	}, netip.MustParseAddrPort("192.0.2.1:53"))
	conn := g.dial("udp")
	for i := range 5 {
		if _, err := conn.Write(ask(uint16(i), "a.test.", 0)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "three are dropped", func() bool { return g.relay.Counts()["dns-dropped"] == 3 })
	close(release)
	buf := make([]byte, 512)
	for range 2 {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if h := header(t, buf[:n]); h.RCode != dnsmessage.RCodeServerFailure || h.ID > 1 {
			t.Errorf("answer = %+v", h)
		}
	}
	until(t, "the slots are free again", func() bool { return len(g.relay.udpSlots) == 0 })
	if h := header(t, g.udp(ask(9, "a.test.", 0))); h.ID != 9 {
		t.Errorf("answer = %+v", h)
	}
}

func TestAQuestionThatIsTooLongForUDPIsDropped(t *testing.T) {
	up := start(t, with(texts(1)))
	g := serve(t, nil, up.addr)
	conn := g.dial("udp")
	for _, size := range []int{maxDatagram + 1, maxDatagram} {
		question := append(ask(uint16(size), "a.test.", 0), make([]byte, size)...)[:size]
		if _, err := conn.Write(question); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 512)
	if _, err := conn.Read(buf); err != nil || header(t, buf).ID != maxDatagram {
		t.Errorf("answer to %d, %v", header(t, buf).ID, err)
	}
	if n := g.relay.Counts()["dns-dropped"]; n != 1 {
		t.Errorf("dns-dropped = %d, want 1", n)
	}
}

func TestTheGuestAloneIsAnswered(t *testing.T) {
	up := start(t, with(texts(1)))
	g := serve(t, func(r *Relay) { r.guest = []netip.Addr{guest4, netip.MustParseAddr("127.0.0.1")} }, up.addr)
	g.udp(ask(1, "a.test.", 0))
	g.tcp(ask(2, "a.test.", 0))
	g = serve(t, func(r *Relay) { r.guest = []netip.Addr{guest4, guest6} }, up.addr)
	if _, err := g.dial("udp").Write(ask(3, "a.test.", 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := readMessage(g.dial("tcp")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("another's connection: %v, want it closed", err)
	}
	until(t, "both are dropped", func() bool { return g.relay.Counts()["dns-dropped"] == 2 })
	if n := len(up.heard()); n != 2 {
		t.Errorf("%d questions were asked, want the guest's 2", n)
	}
}

func TestServeEndsWithTheErrorOfAListener(t *testing.T) {
	udp, tcp := listenBoth(t)
	r := New(Options{Dial: dial})
	done := make(chan error, 1)
	go func() { done <- r.Serve(t.Context(), []net.PacketConn{udp}, []net.Listener{tcp}) }()
	udp.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want net.ErrClosed", err)
	}
	if _, err := tcp.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the other listener: %v, want it closed", err)
	}
}

func TestServeEndsThoughQuestionsWait(t *testing.T) {
	up := start(t, silence)
	g := serve(t, nil, up.addr) // gives up after 20 s
	conn, stream := g.dial("udp"), g.dial("tcp")
	if _, err := conn.Write(ask(1, "a.test.", 0)); err != nil {
		t.Fatal(err)
	}
	if err := writeMessage(stream, ask(1, "a.test.", 0)); err != nil {
		t.Fatal(err)
	}
	until(t, "both wait", func() bool { return len(up.heard()) == 2 })
	ended := make(chan struct{})
	go func() { g.stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(enough / 2):
		t.Error("Serve waits for the upstream")
		<-ended
	}
}
