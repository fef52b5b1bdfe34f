package dnsforward

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// enough is longer than anything takes that is going to happen.
const enough = 20 * time.Second

// asked is a question that came to an upstream.
type asked struct {
	network string
	message []byte
	from    netip.AddrPort
}

// upstream is a nameserver on a loopback port, UDP and TCP, that answers as its
// function says: with any number of messages, none for silence.
type upstream struct {
	addr   netip.AddrPort
	answer func(q asked) [][]byte

	mu   sync.Mutex
	seen []asked
}

// start starts a nameserver that lives as long as the test.
func start(t *testing.T, answer func(q asked) [][]byte) *upstream {
	t.Helper()
	u := &upstream{answer: answer}
	udp, tcp := listenBoth(t)
	u.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	var running sync.WaitGroup
	running.Go(func() { u.serveUDP(udp) })
	running.Go(func() { u.serveTCP(tcp, &running) })
	t.Cleanup(func() { udp.Close(); tcp.Close(); running.Wait() })
	return u
}

// startUDP is the same without TCP: connections are refused.
func startUDP(t *testing.T, answer func(q asked) [][]byte) *upstream {
	t.Helper()
	u := &upstream{answer: answer}
	udp, tcp := listenBoth(t)
	tcp.Close()
	u.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	var running sync.WaitGroup
	running.Go(func() { u.serveUDP(udp) })
	t.Cleanup(func() { udp.Close(); running.Wait() })
	return u
}

// listenBoth listens on one port of both protocols.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return udp, tcp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func (u *upstream) serveUDP(conn net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		q := asked{network: "udp", message: slices.Clone(buf[:n]), from: from.(*net.UDPAddr).AddrPort()}
		for _, m := range u.hear(q) {
			_, _ = conn.WriteTo(m, from)
		}
	}
}

func (u *upstream) serveTCP(listener net.Listener, running *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		running.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(enough))
			for {
				message, err := readMessage(conn)
				if err != nil {
					return
				}
				q := asked{network: "tcp", message: message, from: conn.RemoteAddr().(*net.TCPAddr).AddrPort()}
				answers := u.hear(q)
				for _, m := range answers {
					_ = writeMessage(conn, m)
				}
				if len(answers) == 0 {
					_, _ = io.Copy(io.Discard, conn) // silent, not gone
					return
				}
			}
		})
	}
}

func (u *upstream) hear(q asked) [][]byte {
	u.mu.Lock()
	u.seen = append(u.seen, q)
	u.mu.Unlock()
	return u.answer(q)
}

// heard returns what has come so far.
func (u *upstream) heard() []asked {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

// silence is the answer of a nameserver that is there and says nothing.
func silence(asked) [][]byte { return nil }

// with returns an answer function that sends one message made from each question.
func with(make func(q asked) []byte) func(asked) [][]byte {
	return func(q asked) [][]byte { return [][]byte{make(q)} }
}

// texts returns an answer with n TXT records of 100 octets each, the question as
// it came, and an OPT record if the question has one.
func texts(n int) func(q asked) []byte {
	return func(q asked) []byte { return reply(q, dnsmessage.RCodeSuccess, n) }
}

// says returns an answer without records.
func says(rcode dnsmessage.RCode) func(q asked) []byte {
	return func(q asked) []byte { return reply(q, rcode, 0) }
}

func reply(q asked, rcode dnsmessage.RCode, records int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(q.message); err != nil {
		panic(err)
	}
	m.Response, m.RCode, m.RecursionAvailable = true, rcode, true
	for range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET, TTL: 7},
			Body:   &dnsmessage.TXTResource{TXT: []string{string(make([]byte, 99))}},
		})
	}
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}

// ask makes a question; size is that of its OPT record, 0 for none.
func ask(id uint16, name string, size int) []byte {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(size, 0, true)
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	out, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return out
}

// withID is a message with another id.
func withID(message []byte, id uint16) []byte {
	out := slices.Clone(message)
	binary.BigEndian.PutUint16(out, id)
	return out
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// guest is what a guest has: the address that it asks.
type guest struct {
	t     *testing.T
	relay *Relay
	addr  string
	stop  func() // ends Serve, and waits for that

	dialer func(ctx context.Context, network, addr string) (net.Conn, error)
}

// serve runs a relay before upstreams, until the test ends. change may set its times.
func serve(t *testing.T, change func(r *Relay), upstreams ...netip.AddrPort) guest {
	t.Helper()
	r := New(Options{Upstream: upstreams, Dial: dial, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	// Nothing that a test waits for may come from a timeout that it did not set.
	r.patience, r.giveUp, r.idle = enough, enough, enough
	if change != nil {
		change(r)
	}
	udp, tcp := listenBoth(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []net.PacketConn{udp}, []net.Listener{tcp}) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return guest{t: t, relay: r, addr: udp.LocalAddr().String(), stop: stop, dialer: dial}
}

func (g guest) dial(network string) net.Conn {
	g.t.Helper()
	conn, err := g.dialer(g.t.Context(), network, g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(enough))
	g.t.Cleanup(func() { conn.Close() })
	return conn
}

// udp asks one question by UDP.
func (g guest) udp(message []byte) []byte {
	g.t.Helper()
	conn := g.dial("udp")
	if _, err := conn.Write(message); err != nil {
		g.t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	if err != nil {
		g.t.Fatal(err)
	}
	return buf[:n]
}

// tcp asks one question by TCP.
func (g guest) tcp(message []byte) []byte {
	g.t.Helper()
	return g.exchange(g.dial("tcp"), message)
}

func (g guest) exchange(conn net.Conn, message []byte) []byte {
	g.t.Helper()
	if err := writeMessage(conn, message); err != nil {
		g.t.Fatal(err)
	}
	return g.read(conn)
}

func (g guest) read(conn net.Conn) []byte {
	g.t.Helper()
	answer, err := readMessage(conn)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer
}

// header reads a message's header, and fails the test if it has none.
func header(t *testing.T, message []byte) dnsmessage.Header {
	t.Helper()
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil {
		t.Fatalf("%x: %v", message, err)
	}
	return h
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(enough)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", enough, what)
		}
		time.Sleep(time.Millisecond)
	}
}
