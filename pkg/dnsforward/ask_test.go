package dnsforward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// inMemory is a set of upstreams by address, whose time is the bubble's. One that
// is not in it refuses.
type inMemory map[string]func(q asked) (after time.Duration, answer []byte)

// dialing is when an upstream was asked.
type dialing struct {
	Addr  string
	After time.Duration
}

// run asks a question in a bubble, and returns what came, when, and who was asked.
func (m inMemory) run(t *testing.T, udp bool, upstreams ...string) (answer []byte, took time.Duration, dials []dialing) {
	t.Helper()
	started := time.Now()
	var (
		mu      sync.Mutex
		running sync.WaitGroup
		addrs   []netip.AddrPort
	)
	for _, a := range upstreams {
		addrs = append(addrs, netip.MustParseAddrPort(a))
	}
	r := New(Options{Upstream: addrs, Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dials = append(dials, dialing{addr, time.Since(started)})
		mu.Unlock()
		answer, ok := m[addr]
		if !ok {
			return nil, errors.New("refused")
		}
		near, far := net.Pipe()
		running.Go(func() { serveMemory(far, network, answer) })
		return near, nil
	}})
	answer = r.answer(t.Context(), ask(5, "a.test.", 0), udp)
	took = time.Since(started)
	running.Wait()
	return answer, took, dials
}

func serveMemory(conn net.Conn, network string, answer func(q asked) (time.Duration, []byte)) {
	defer conn.Close()
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	if err != nil {
		return
	}
	q := asked{network: network, message: buf[:n]}
	if network == "tcp" {
		q.message = buf[2:n]
	}
	after, message := answer(q)
	time.Sleep(after)
	if network == "tcp" {
		_ = writeMessage(conn, message)
	} else {
		_, _ = conn.Write(message)
	}
}

func in(after time.Duration, make func(q asked) []byte) func(q asked) (time.Duration, []byte) {
	return func(q asked) (time.Duration, []byte) { return after, make(q) }
}

const (
	upA, upB, upC = "192.0.2.1:53", "192.0.2.2:53", "[2001:db8::3]:53"
	never         = time.Minute
)

func TestWhoIsAskedAndWhen(t *testing.T) {
	servfail, ok := dnsmessage.RCodeServerFailure, dnsmessage.RCodeSuccess
	tests := []struct {
		name      string
		tcpOnly   bool
		upstreams []string
		memory    inMemory
		want      dnsmessage.RCode
		took      time.Duration
		dials     []dialing
	}{
		{
			"one that is silent is asked again, then SERVFAIL", false,
			[]string{upA},
			inMemory{upA: in(never, texts(1))},
			servfail, 4500 * time.Millisecond,
			[]dialing{{upA, 0}, {upA, 2 * time.Second}, {upA, 4 * time.Second}},
		},
		{
			"a late answer is as good", false,
			[]string{upA},
			inMemory{upA: in(3*time.Second, texts(1))},
			ok, 3 * time.Second,
			[]dialing{{upA, 0}, {upA, 2 * time.Second}},
		},
		{
			"the late answer of the first, while the second is silent", false,
			[]string{upA, upB},
			inMemory{upA: in(3*time.Second, texts(1)), upB: in(never, texts(1))},
			ok, 3 * time.Second,
			[]dialing{{upA, 0}, {upB, 2 * time.Second}},
		},
		{
			"two that are silent", false,
			[]string{upA, upB},
			inMemory{upA: in(never, texts(1)), upB: in(never, texts(1))},
			servfail, 4500 * time.Millisecond,
			[]dialing{{upA, 0}, {upB, 2 * time.Second}, {upA, 4 * time.Second}},
		},
		{
			"with three, each gets its turn", false,
			[]string{upA, upB, upC},
			inMemory{upA: in(never, texts(1)), upB: in(never, texts(1)), upC: in(time.Second, texts(1))},
			ok, 4 * time.Second,
			[]dialing{{upA, 0}, {upB, 1500 * time.Millisecond}, {upC, 3 * time.Second}},
		},
		{
			"who refuses is not asked again", false,
			[]string{upA, upB},
			inMemory{upB: in(never, texts(1))},
			servfail, 4500 * time.Millisecond,
			[]dialing{{upA, 0}, {upB, 0}, {upB, 2 * time.Second}, {upB, 4 * time.Second}},
		},
		{
			"all refuse: SERVFAIL at once", false,
			[]string{upA, upB, upC},
			nil,
			servfail, 0,
			[]dialing{{upA, 0}, {upB, 0}, {upC, 0}},
		},
		{
			"who is not willing is not asked again", false,
			[]string{upA, upB},
			inMemory{upA: in(time.Second, says(dnsmessage.RCodeRefused)), upB: in(never, texts(1))},
			dnsmessage.RCodeRefused, 4500 * time.Millisecond,
			[]dialing{{upA, 0}, {upB, time.Second}, {upB, 3 * time.Second}},
		},
		{
			"over TCP nobody is asked twice", true,
			[]string{upA, upB},
			inMemory{upA: in(never, texts(1)), upB: in(never, texts(1))},
			servfail, 4500 * time.Millisecond,
			[]dialing{{upA, 0}, {upB, 2 * time.Second}},
		},
		{
			"over TCP a late answer is as good", true,
			[]string{upA, upB},
			inMemory{upA: in(4*time.Second, texts(1)), upB: in(never, texts(1))},
			ok, 4 * time.Second,
			[]dialing{{upA, 0}, {upB, 2 * time.Second}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer, took, dials := tt.memory.run(t, !tt.tcpOnly, tt.upstreams...)
				if h := header(t, answer); h.RCode != tt.want || h.ID != 5 {
					t.Errorf("answer = %+v, want %v", h, tt.want)
				}
				if took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if diff := cmp.Diff(tt.dials, dials); diff != "" {
					t.Errorf("asked (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestErrorsNameTheUpstreams(t *testing.T) {
	r := New(Options{
		Upstream: []netip.AddrPort{netip.MustParseAddrPort(upA), netip.MustParseAddrPort(upC)},
		Dial:     func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") },
	})
	q, _, _ := parse(ask(1, "a.test.", 0))
	_, err := r.ask(t.Context(), q, r.askUDP, true)
	if want := "asking 192.0.2.1:53: refused\nasking [2001:db8::3]:53: refused"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func TestAPanicOverOneQuestionEndsNothing(t *testing.T) {
	r := New(Options{
		Upstream: []netip.AddrPort{netip.MustParseAddrPort(upA), netip.MustParseAddrPort(upB)},
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			if addr == upA {
				panic("a bug")
			}
			near, far := net.Pipe()
			go serveMemory(far, "udp", in(0, texts(1)))
			return near, nil
		},
	})
	if h := header(t, r.answer(t.Context(), ask(1, "a.test.", 0), true)); h.RCode != dnsmessage.RCodeSuccess {
		t.Errorf("answer = %+v", h)
	}
}
