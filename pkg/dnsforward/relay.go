package dnsforward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/podwire/podwire/internal/survive"
)

// How long things take. The relay must have given up before the guest's own
// resolver does, or SERVFAIL comes too late: that of glibc waits for 5 s by default.
const (
	defaultPatience = 2 * time.Second         // with one upstream, before the next is asked too
	defaultGiveUp   = 4500 * time.Millisecond // with all of them
	defaultIdle     = 10 * time.Second        // between two messages on a TCP connection (RFC 7766 §6.2.3)
	defaultPause    = 100 * time.Millisecond  // before accepting again after it failed
	complainEvery   = time.Minute             // one line in the log, however often the guest asks
)

// What a guest may have at a time.
const (
	maxUDPQuestions = 128 // more are dropped; the guest repeats them
	maxTCPQuestions = 32  // more wait in their connections: one may take 64 KiB, as may its answer
	maxConns        = 32  // more are closed at once
)

// Options are the parts of a relay.
type Options struct {
	// Upstream are the nameservers, asked in this order. SetUpstream changes them.
	Upstream []netip.AddrPort
	// Dial opens a socket to one of them: network is "udp" or "tcp", and every call
	// gets a port of its own. It must heed ctx.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Guest are the only addresses that are answered; empty for anyone's. A neighbour
	// of the pod could else ask, too: an address is reached by all of the pod's links.
	Guest []netip.Addr
	// Log may be nil.
	Log *slog.Logger
}

// Relay relays a guest's DNS questions to the pod's nameservers. It holds nothing
// that matters beyond the questions that wait for an answer.
type Relay struct {
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	guest    []netip.Addr
	log      *slog.Logger
	upstream atomic.Pointer[[]netip.AddrPort]
	counts   counts

	udpSlots, tcpSlots, connSlots chan struct{} // full when as much goes on as may

	patience, giveUp, idle, pause time.Duration

	mu                  sync.Mutex
	complained, shouted time.Time // when the log last said that it cannot, and that it panicked
}

// New returns a relay that does not run yet.
func New(o Options) *Relay {
	r := &Relay{
		dial: o.Dial, guest: slices.Clone(o.Guest), log: o.Log,
		udpSlots:  make(chan struct{}, maxUDPQuestions),
		tcpSlots:  make(chan struct{}, maxTCPQuestions),
		connSlots: make(chan struct{}, maxConns),
		patience:  defaultPatience, giveUp: defaultGiveUp, idle: defaultIdle, pause: defaultPause,
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.SetUpstream(o.Upstream)
	return r
}

// SetUpstream changes who is asked, from the guest's next question on.
func (r *Relay) SetUpstream(upstream []netip.AddrPort) {
	upstream = slices.Clone(upstream)
	r.upstream.Store(&upstream)
}

// answers reports whether somebody is answered at all.
func (r *Relay) answers(from net.Addr) bool {
	if len(r.guest) == 0 {
		return true
	}
	at, ok := from.(interface{ AddrPort() netip.AddrPort }) // as have those of UDP and TCP
	return ok && slices.Contains(r.guest, at.AddrPort().Addr().Unmap())
}

// Serve answers what comes in until ctx ends, and then returns nil. When a listener
// fails before that, it ends with its error. In either case it has closed
// all of them, and nothing of it runs any longer.
func (r *Relay) Serve(ctx context.Context, udp []net.PacketConn, tcp []net.Listener) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, conn := range udp {
		r.serve(inner, &running, func() { cancel(r.serveUDP(inner, conn, &running)) })
	}
	for _, listener := range tcp {
		r.serve(inner, &running, func() { cancel(r.serveTCP(inner, listener, &running)) })
	}
	<-inner.Done()
	for _, conn := range udp {
		_ = conn.Close()
	}
	for _, listener := range tcp {
		_ = listener.Close()
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(inner)
}

// answer returns what the guest gets for a message, nil for silence.
func (r *Relay) answer(ctx context.Context, message []byte, udp bool) []byte {
	q, rcode, ok := parse(message)
	if !ok {
		r.counts.add(dropped)
		return nil
	}
	if rcode != 0 {
		r.counts.add(rejected)
		return q.failure(rcode, "")
	}
	try := r.askTCP
	if udp {
		try = r.askUDP
	}
	answer, err := r.ask(ctx, q, try, udp) // a datagram may be lost: it is worth asking again
	switch {
	case ctx.Err() != nil:
		return nil // nobody listens any longer
	case answer == nil:
		r.counts.add(failed)
		r.complain(err)
		return q.failure(serverFailure, reason(err))
	case udp && len(answer) > q.size:
		r.counts.add(shortened)
		return q.fit(answer, q.size)
	default:
		return answer
	}
}

// reason is what a guest is told about a failure.
func reason(err error) string {
	if errors.Is(err, errNoUpstream) {
		return "podwire: the pod has no nameserver"
	}
	return "podwire: no nameserver of the pod answered"
}

// complain logs that no upstream has answered, unless it has just been said.
func (r *Relay) complain(err error) {
	if r.due(&r.complained) {
		r.log.Warn("a DNS question of the guest was answered with SERVFAIL", "err", err)
	}
}

// due reports whether a line of the log may be written again, last being when it was.
func (r *Relay) due(last *time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !last.IsZero() && time.Since(*last) < complainEvery {
		return false
	}
	*last = time.Now()
	return true
}

// serve runs what hears one socket.
func (r *Relay) serve(ctx context.Context, running *sync.WaitGroup, hear func()) {
	survive.Go(running, r.Panicked(nil), func() { survive.Again(ctx, r.Panicked(nil), hear) })
}

// Panicked counts and logs a panic, with the message that caused it where there is
// one. It must not end the server, and with it DHCP.
func (r *Relay) Panicked(message []byte) survive.Report {
	return func(p any, stack []byte) {
		r.counts.add(panics)
		if r.due(&r.shouted) {
			r.log.Error("the DNS relay panicked and goes on", "err", fmt.Sprint(p),
				"message", fmt.Sprintf("%x", message[:min(len(message), maxDatagram)]), "stack", string(stack))
		}
	}
}
