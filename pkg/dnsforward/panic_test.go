package dnsforward

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// broken is a socket that panics the first time that it is read.
type broken struct {
	net.PacketConn
	panicked atomic.Bool
}

func (b *broken) ReadFrom(p []byte) (int, net.Addr, error) {
	if !b.panicked.Swap(true) {
		panic("a bug")
	}
	return b.PacketConn.ReadFrom(p)
}

// TestAPanicOfOneSocketEndsNothing: what comes to it later is answered.
func TestAPanicOfOneSocketEndsNothing(t *testing.T) {
	up := start(t, with(texts(1)))
	g := serve(t, nil, up.addr)
	udp, tcp := listenBoth(t)
	tcp.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.relay.Serve(ctx, []net.PacketConn{&broken{PacketConn: udp}}, nil) }()
	g.addr = udp.LocalAddr().String()
	if h := header(t, g.udp(ask(1, "a.test.", 0))); h.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("answer = %+v", h)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := g.relay.Counts()["dns-panic"]; n != 1 {
		t.Errorf("%d panics are counted", n)
	}
}

// TestAPanicOverAPacketLosesThatOneAlone, and says which it was.
func TestAPanicOverAPacketLosesThatOneAlone(t *testing.T) {
	var log bytes.Buffer
	relay := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	tun := newTunnel()
	p := newPump(tun)
	p.Panicked = relay.Panicked
	sent, done := make(chan []byte, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	first := true
	go func() {
		done <- p.Run(ctx, func(frame []byte) error {
			if first {
				first = false
				panic("a bug")
			}
			sent <- bytes.Clone(frame)
			return nil
		})
	}()
	packet := datagramOf(serverMAC, dns4, standIn4, port, 4000, []byte("a lost answer"))[14:]
	tun.out <- packet
	tun.out <- datagramOf(serverMAC, dns4, standIn4, port, 4000, []byte("another"))[14:]
	if frame := <-sent; !bytes.HasSuffix(frame, []byte("another")) {
		t.Errorf("the guest was sent %q", frame)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := relay.Counts()["dns-panic"]; n != 1 || !strings.Contains(log.String(), "61206c6f737420616e73776572") { // "a lost answer"
		t.Errorf("%d panics are counted\n%s", n, log.String())
	}
}
