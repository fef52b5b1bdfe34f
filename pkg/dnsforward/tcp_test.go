package dnsforward

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestQuestionsOfOneConnectionAreAnsweredAsTheyCan(t *testing.T) {
	release := make(chan struct{})
	up := start(t, with(func(q asked) []byte {
		if strings.Contains(string(q.message), "slow") {
			<-release
		}
		return texts(1)(q)
	}))
	g := serve(t, nil, up.addr)
	conn := g.dial("tcp")
	// All in one segment, the slow one first; two have the same id.
	var out []byte
	for i, name := range []string{"slow.test.", "a.test.", "b.test.", "c.test."} {
		m := ask(uint16(min(i, 2)), name, 0)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	var ids []uint16
	for range 3 {
		ids = append(ids, header(t, g.read(conn)).ID)
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []uint16{1, 2, 2}) {
		t.Errorf("answered before the slow one: %v", ids)
	}
	close(release)
	if h := header(t, g.read(conn)); h.ID != 0 || h.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("the slow one: %+v", h)
	}
	for _, q := range up.heard() {
		if q.network != "tcp" {
			t.Errorf("a question that came by TCP was relayed by %s", q.network)
		}
	}
}

func TestAClientThatHasSaidAllIsStillAnswered(t *testing.T) {
	release := make(chan struct{})
	up := start(t, with(func(q asked) []byte {
		<-release
		return texts(1)(q)
	}))
	g := serve(t, nil, up.addr)
	conn := g.dial("tcp")
	if err := writeMessage(conn, ask(8, "a.test.", 0)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(release)
	if h := header(t, g.read(conn)); h.ID != 8 {
		t.Errorf("answer = %+v", h)
	}
	if _, err := readMessage(conn); !errors.Is(err, io.EOF) {
		t.Errorf("then: %v, want the end", err)
	}
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	up := start(t, with(texts(1)))
	g := serve(t, func(r *Relay) { r.idle = 100 * time.Millisecond }, up.addr)
	for name, sent := range map[string][]byte{
		"nothing said": nil, "half of a length": {0}, "half of a message": {0, 40, 1, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			conn := g.dial("tcp")
			if _, err := conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			if _, err := readMessage(conn); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
				t.Errorf("after the idle time: %v, want a closed connection", err)
			}
		})
	}
	until(t, "all connections are gone", func() bool { return len(g.relay.connSlots) == 0 })
}

func TestMoreConnectionsThanMayBeAreClosed(t *testing.T) {
	up := start(t, with(texts(1)))
	g := serve(t, func(r *Relay) { r.connSlots = make(chan struct{}, 2) }, up.addr)
	first, second := g.dial("tcp"), g.dial("tcp")
	g.exchange(first, ask(1, "a.test.", 0))
	g.exchange(second, ask(1, "a.test.", 0))
	third := g.dial("tcp")
	if _, err := readMessage(third); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the third connection: %v, want it closed", err)
	}
	if n := g.relay.Counts()["dns-dropped"]; n != 1 {
		t.Errorf("dns-dropped = %d, want 1", n)
	}
	first.Close()
	until(t, "its place is free", func() bool { return len(g.relay.connSlots) == 1 })
	g.tcp(ask(2, "a.test.", 0))
}

func TestMoreQuestionsThanMayBeInFlightWaitInTheirConnection(t *testing.T) {
	release := make(chan struct{})
	up := start(t, with(func(q asked) []byte {
		<-release
		return texts(1)(q)
	}))
	g := serve(t, func(r *Relay) { r.tcpSlots = make(chan struct{}, 2) }, up.addr)
	conn := g.dial("tcp")
	for i := range 6 {
		if err := writeMessage(conn, ask(uint16(i), "a.test.", 0)); err != nil {
			t.Fatal(err)
		}
	}
	// The third has been read, and waits for a place.
	until(t, "two are asked", func() bool { return g.relay.Counts()["dns-tcp"] == 3 && len(up.heard()) == 2 })
	close(release)
	for range 6 {
		if h := header(t, g.read(conn)); h.RCode != dnsmessage.RCodeSuccess {
			t.Errorf("answer = %+v", h)
		}
	}
}

func TestAnUpstreamWithoutTCPIsAskedOverUDP(t *testing.T) {
	t.Run("an answer that fits", func(t *testing.T) {
		up := startUDP(t, with(texts(2)))
		if h := header(t, serve(t, nil, up.addr).tcp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeSuccess {
			t.Errorf("answer = %+v", h)
		}
	})
	t.Run("an answer that does not", func(t *testing.T) {
		up := startUDP(t, with(func(q asked) []byte {
			m := says(dnsmessage.RCodeSuccess)(q)
			m[2] |= 2
			return m
		}))
		// By TCP a truncated answer would have the guest go in a circle.
		if h := header(t, serve(t, nil, up.addr).tcp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeServerFailure || h.Truncated {
			t.Errorf("answer = %+v", h)
		}
	})
	t.Run("the next upstream has TCP", func(t *testing.T) {
		up := startUDP(t, with(func(q asked) []byte { return append(says(0)(q), make([]byte, maxDatagram)...) }))
		next := start(t, with(texts(100)))
		if answer := serve(t, nil, up.addr, next.addr).tcp(ask(1, "a.test.", 0)); len(answer) < 10000 {
			t.Errorf("%d octets, want those of the second upstream", len(answer))
		}
	})
}

func TestAnUpstreamThatAnswersSomethingElseOverTCP(t *testing.T) {
	up := start(t, func(q asked) [][]byte {
		if q.network == "tcp" {
			return [][]byte{withID(texts(1)(q), binary.BigEndian.Uint16(q.message)+1)}
		}
		return [][]byte{says(dnsmessage.RCodeNameError)(q)}
	})
	if h := header(t, serve(t, nil, up.addr).tcp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeNameError {
		t.Errorf("answer = %+v, want the one over UDP", h)
	}
}

// failing is a listener whose first calls fail, as when file descriptors are short.
type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, syscall.EMFILE
	}
	return f.Listener.Accept()
}

func TestAcceptingGoesOnAfterAnError(t *testing.T) {
	udp, tcp := listenBoth(t)
	udp.Close()
	r := New(Options{Dial: dial})
	r.pause = time.Millisecond
	g := guest{t: t, relay: r, addr: tcp.Addr().String(), dialer: dial}
	done := make(chan error, 1)
	go func() { done <- r.Serve(t.Context(), nil, []net.Listener{&failing{tcp, 3}}) }()
	if h := header(t, g.tcp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("answer = %+v", h)
	}
	tcp.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want net.ErrClosed", err)
	}
}
