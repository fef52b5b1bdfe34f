package bindings

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/tests/pod"
)

// livePort is where the pod, and then its guest, are sent packets to without end.
const livePort = 7000

// liveRate is how many, in packets per second.
const liveRate = 5000

// gap is how a pod's traffic got over a setup.
type gap struct {
	blind time.Duration // from the pod's last packet to the first at the tap
	lost  int           // packets that neither pod nor guest had
	setup time.Duration // from exec to exit
}

// live sends packets to the pod's address without end while podwire's setup runs, and
// has a connection of the pod's own open, which is handed to after. Then it takes the
// setup back.
func (w *world) live(after func(own *talk) error) (g gap, err error) {
	guest, err := w.waiting()
	if err != nil {
		return g, err
	}
	defer guest.close()
	own, err := w.dial(w.vm.Space, netip.AddrPortFrom(far4, port), callTime)
	if err == nil {
		defer own.Close()
		err = own.goesOn(callTime)
	}
	if err != nil {
		return g, err
	}

	atPod, err := hear(w.vm.Space)
	if err != nil {
		return g, err
	}
	defer atPod.Close()
	atGuest, err := hear(guest.Space)
	if err != nil {
		return g, err
	}
	defer atGuest.Close()
	tap := guest.firstLive()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	sent, err := w.flood(ctx)
	if err != nil {
		return g, err
	}
	if err := w.eventually(callTime, atPod.has(liveRate/20)); err != nil {
		return g, fmt.Errorf("the pod, before: %w", err)
	}
	plugged := w.plugAsSoon(ctx, guest)
	started := time.Now()
	if _, err := w.wire("setup"); err != nil {
		return g, err
	}
	g.setup = time.Since(started)
	if err := errors.Join(<-plugged, w.eventually(callTime, atGuest.has(liveRate/20))); err != nil {
		return g, fmt.Errorf("the guest: %w", err)
	}
	cancel()
	total := <-sent
	first := <-tap
	last := atPod.last()
	g.blind = first.Sub(last)
	if err := w.eventually(callTime, atGuest.isQuiet); err != nil {
		return g, err
	}
	g.lost = total - union(atPod, atGuest)
	err = after(own)
	_, undo := w.podwire("teardown")
	return g, errors.Join(err, undo, w.unchanged(w.before))
}

// waiting is a guest with addresses, before its pod is wired.
func (w *world) waiting() (*guestHost, error) {
	mac, err := w.vm.MAC("eth0")
	if err != nil {
		return nil, err
	}
	guest, err := w.newGuest(mac, podMTU)
	if err != nil {
		return nil, err
	}
	if err := w.configured(guest); err != nil {
		guest.close()
		return nil, err
	}
	return guest, nil
}

// plugAsSoon plugs a guest into the pod's tap at the moment that there is one. It looks
// whenever the kernel says that a link changed; while podwire has the tap open itself,
// all the time.
func (w *world) plugAsSoon(ctx context.Context, guest *guestHost) <-chan error {
	done, listening := make(chan error, 1), make(chan struct{})
	go func() {
		done <- w.vm.Do(func() error {
			s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
			if err == nil {
				defer unix.Close(s)
				err = errors.Join(unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}),
					unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500}))
			}
			close(listening)
			if err != nil {
				return err
			}
			news := make([]byte, 1<<16)
			for ctx.Err() == nil {
				tap, err := tapHere("tap-eth0", false)
				if err == nil {
					guest.cable.use(tap)
					return nil
				}
				if !errors.Is(err, errNoTap) {
					return err
				}
				_, _, _ = unix.Recvfrom(s, news, 0) // of whatever, or none for a while
			}
			return context.Cause(ctx)
		})
	}()
	<-listening
	return done
}

// firstLive gives the time at which the first of the packets came out of the tap.
func (g *guestHost) firstLive() <-chan time.Time {
	first := make(chan time.Time, 1)
	seen := false
	g.cable.watch(func(frame []byte, at time.Time) {
		// IPv4 without options, UDP.
		if !seen && len(frame) > 42 && frame[12] == 8 && frame[23] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(frame[36:]) == livePort {
			seen = true
			first <- at
		}
	})
	return first
}

// flood sends numbered packets from the far pod to the VM pod's address until ctx
// ends, and says then how many.
func (w *world) flood(ctx context.Context) (<-chan int, error) {
	conn, err := w.udp(w.far, netip.AddrPortFrom(w.own(far4), livePort))
	if err != nil {
		return nil, err
	}
	sent := make(chan int, 1)
	go func() {
		defer conn.Close()
		n := 0
		packet := make([]byte, 64)
		for start := time.Now(); ctx.Err() == nil; time.Sleep(time.Second / liveRate) {
			for due := int(time.Since(start).Seconds() * liveRate); n < due; n++ {
				binary.BigEndian.PutUint64(packet, uint64(n))
				_, _ = conn.Write(packet) // refused, where nobody listens yet
			}
		}
		sent <- n
	}()
	return sent, nil
}

// ear is a socket that the packets come to.
type ear struct {
	net.PacketConn
	count atomic.Int64

	mu   sync.Mutex
	seen map[uint64]bool
	at   time.Time
}

func hear(s *pod.Space) (*ear, error) {
	e := &ear{seen: map[uint64]bool{}}
	err := s.Do(func() (err error) {
		e.PacketConn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", livePort))
		return err
	})
	if err != nil {
		return nil, err
	}
	raw, err := e.PacketConn.(*net.UDPConn).SyscallConn()
	if err == nil {
		// So that none is lost because this program has no turn for a while.
		err = control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<24) })
	}
	go e.listen()
	return e, err
}

func (e *ear) listen() {
	in := make([]byte, 128)
	for {
		n, _, err := e.ReadFrom(in)
		if err != nil {
			return
		}
		if n < 8 {
			continue
		}
		e.mu.Lock()
		e.seen[binary.BigEndian.Uint64(in)] = true
		e.at = time.Now()
		e.mu.Unlock()
		e.count.Add(1)
	}
}

func (e *ear) last() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

func (e *ear) has(n int64) func() error {
	return func() error {
		if got := e.count.Load(); got < n {
			return fmt.Errorf("%d of %d packets arrived", got, n)
		}
		return nil
	}
}

// isQuiet waits for packets that are still on their way.
func (e *ear) isQuiet() error {
	if since := time.Since(e.last()); since < 100*time.Millisecond {
		return fmt.Errorf("a packet arrived %s ago", since)
	}
	return nil
}

// union is how many different packets two sockets saw.
func union(a, b *ear) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(a.seen)
	for number := range b.seen {
		if !a.seen[number] {
			n++
		}
	}
	return n
}

// udp makes a socket that is connected to an address.
func (w *world) udp(from *pod.Pod, to netip.AddrPort) (*net.UDPConn, error) {
	conn, err := from.Dial(w.ctx, "udp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
