//go:build linux

package dnsforward

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/kernel"
)

// narrow is an MTU that has a long answer by UDP cut into fragments.
const narrow = 1280

func openKernel(t *testing.T) *kernel.Kernel {
	t.Helper()
	k, err := kernel.Open(netnstest.New(t).Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func openTunnel(t *testing.T, k *kernel.Kernel, local, peers []netip.Addr) io.ReadWriteCloser {
	t.Helper()
	tun, err := k.OpenTunnel(t.Context(), "tun0", local, peers, narrow)
	if err != nil {
		t.Fatal(err)
	}
	return tun
}

// behindTunnel is all of it: a guest's kernel in one namespace, and in another the
// tunnel with the relay behind it, joined by frames and a pump. It returns the guest's.
func behindTunnel(t *testing.T, upstreams ...netip.AddrPort) *kernel.Kernel {
	t.Helper()
	l, guest, pod := pumpLease(), openKernel(t), openKernel(t)
	peers := []netip.Addr{guest4, guest6}
	tap := openTunnel(t, guest, peers, l.Server.DNS)
	pump := NewPump(openTunnel(t, pod, l.Server.DNS, peers), l)

	var udp []net.PacketConn
	var tcp []net.Listener
	for _, addr := range l.Server.DNS {
		at := netip.AddrPortFrom(addr, 53).String()
		u, err := pod.ListenPacket(t.Context(), "udp", at)
		if err != nil {
			t.Fatal(err)
		}
		s, err := pod.Listen(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		udp, tcp = append(udp, u), append(tcp, s)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); tap.Close(); running.Wait() })
	run := func(what string, f func() error) {
		running.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	relay := New(Options{Upstream: upstreams, Dial: dial}) // the upstreams are in the test's own namespace
	run("Serve", func() error { return relay.Serve(ctx, udp, tcp) })
	run("Run", func() error {
		return pump.Run(ctx, func(f []byte) error { _, _ = tap.Write(f[14:]); return nil })
	})
	running.Go(func() { sendAll(tap, pump) })
	return guest
}

// sendAll makes frames of what the guest's kernel sends.
func sendAll(tap io.Reader, pump *Pump) {
	buf := make([]byte, maxPacket)
	for {
		n, err := tap.Read(buf)
		if err != nil {
			return
		}
		_ = pump.FromGuest(frame.AppendPacket(nil, frame.Packet{SrcMAC: guestMAC, DstMAC: serverMAC, Data: buf[:n]}))
	}
}

func TestAGuestAsksThroughTheTunnel(t *testing.T) {
	up := start(t, with(func(q asked) []byte {
		if strings.Contains(string(q.message), "long") {
			return texts(300)(q)
		}
		return texts(30)(q)
	}))
	guest := behindTunnel(t, up.addr)
	for name, addr := range map[string]netip.Addr{"IPv4": dns4, "IPv6": dns6} {
		at := netip.AddrPortFrom(addr, 53).String()
		untilCarried(t, guest, at)
		t.Run("by UDP in fragments over "+name, func(t *testing.T) {
			answer := guestIn(t, guest, at).udp(ask(1, "a.test.", 4096))
			if len(answer) < 2*narrow || header(t, answer).Truncated {
				t.Errorf("%d octets: %+v", len(answer), header(t, answer))
			}
		})
		t.Run("by TCP over "+name, func(t *testing.T) {
			if answer := guestIn(t, guest, at).tcp(ask(1, "long.test.", 0)); len(answer) < 30000 {
				t.Errorf("%d octets: %+v", len(answer), header(t, answer))
			}
		})
		t.Run("with a resolver over "+name, func(t *testing.T) {
			r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return guest.DialContext(ctx, network, at)
			}}
			ctx, cancel := context.WithTimeout(t.Context(), enough)
			defer cancel()
			got, err := r.LookupTXT(ctx, "long.test.")
			if err != nil || len(got) != 300 {
				t.Errorf("LookupTXT = %d records, %v", len(got), err)
			}
		})
	}
}

// untilCarried asks until an answer comes: the queue of a tunnel that was just opened
// drops all until the kernel's link watch has run.
func untilCarried(t *testing.T, k *kernel.Kernel, addr string) {
	t.Helper()
	conn := guestIn(t, k, addr).dial("udp")
	until(t, "the tunnels carry packets", func() bool {
		if _, err := conn.Write(ask(1, "a.test.", 0)); err != nil {
			return false
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := conn.Read(make([]byte, 512))
		return err == nil
	})
}

// guestIn is a guest whose sockets are in a namespace.
func guestIn(t *testing.T, k *kernel.Kernel, addr string) guest {
	return guest{t: t, addr: addr, dialer: k.DialContext}
}
