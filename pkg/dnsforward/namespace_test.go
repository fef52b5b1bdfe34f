//go:build linux

package dnsforward

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/kernel"
)

// narrow is an MTU that has a long answer by UDP cut into fragments.
const narrow = 1280

func openKernel(t *testing.T, ns *netnstest.NS) *kernel.Kernel {
	t.Helper()
	k, err := kernel.Open(ns.Path)
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

// situation is what a pod has of its guest's addresses, and with which the guest asks.
type situation struct {
	name  string
	pod   func(t *testing.T, pod *netnstest.NS)
	asker []netip.Addr
}

var situations = []situation{
	{"nothing, as with a bridge", func(*testing.T, *netnstest.NS) {}, []netip.Addr{guest4, guest6}},
	{"them itself, as with tc", func(t *testing.T, pod *netnstest.NS) {
		link(t, pod, "eth0", "10.244.1.7/24", "fd00:10:244:1::7/64")
		pod.Route(t, "0.0.0.0/0", "10.244.1.1", "eth0")
		pod.Route(t, "::/0", "fd00:10:244:1::1", "eth0")
	}, []netip.Addr{guest4, guest6}},
	{"their network on the tap, as with masquerade", func(t *testing.T, pod *netnstest.NS) {
		link(t, pod, "eth0", "10.9.0.7/24", "fd00:9::7/64")
		link(t, pod, "tap-eth0", "10.244.1.1/24", "fd00:10:244:1::1/64")
		pod.Route(t, "0.0.0.0/0", "10.9.0.1", "eth0")
		for _, option := range []string{"net/ipv4/conf/tap-eth0/forwarding", "net/ipv4/conf/eth0/forwarding", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/tap-eth0/route_localnet"} {
			sysctl(t, pod, option)
		}
	}, []netip.Addr{guest4, guest6}},
	{"an address of several", func(*testing.T, *netnstest.NS) {}, []netip.Addr{other4, other6}},
}

// waysTo are a pod's routes to the guest, if it has any.
func waysTo(t *testing.T, pod *netnstest.NS, in situation) string {
	t.Helper()
	var ways string
	for _, addr := range in.asker {
		out, _ := pod.Command(t, "ip", "route", "get", addr.String()).CombinedOutput() // which fails where there is none
		ways += string(out)
	}
	return ways
}

// link is one of a pod's with addresses.
func link(t *testing.T, pod *netnstest.NS, name string, addrs ...string) {
	t.Helper()
	netnstest.Veth(t, pod, name, netnstest.New(t), name)
	for _, a := range addrs {
		pod.Addr(t, name, a)
	}
}

// sysctl sets a network option of a namespace to 1.
func sysctl(t *testing.T, ns *netnstest.NS, option string) {
	t.Helper()
	ns.Do(t, func() {
		if err := os.WriteFile("/proc/sys/"+option, []byte("1"), 0); err != nil {
			t.Error(err)
		}
	})
}

// behindTunnel is all of it: a guest's kernel in one namespace, and in another the
// tunnel with the relay behind it, joined by frames and a pump. It returns the guest's.
// The pod refuses what comes by another link than it would answer by.
func behindTunnel(t *testing.T, in situation, upstreams ...netip.AddrPort) *kernel.Kernel {
	t.Helper()
	l, ns := pumpLease(), netnstest.New(t)
	l.Addrs = append(l.Addrs, netip.PrefixFrom(other4, 24), netip.PrefixFrom(other6, 64))
	sysctl(t, ns, "net/ipv4/conf/all/rp_filter")
	sysctl(t, ns, "net/ipv4/conf/default/rp_filter")
	in.pod(t, ns)
	guest, pod := openKernel(t, netnstest.New(t)), openKernel(t, ns)
	snapshot, err := pod.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peers := Peers(l, snapshot)
	var standIns []netip.Addr
	for _, p := range peers {
		standIns = append(standIns, p.StandIn)
	}
	tap := openTunnel(t, guest, in.asker, l.Server.DNS)
	before := waysTo(t, ns, in)
	pump := NewPump(openTunnel(t, pod, l.Server.DNS, standIns), l, peers)
	if diff := cmp.Diff(before, waysTo(t, ns, in)); diff != "" {
		t.Errorf("the pod's ways to the guest (-before +with the tunnel):\n%s", diff)
	}

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
	relay := New(Options{Upstream: upstreams, Dial: dial, Guest: standIns}) // the upstreams are in the test's own namespace
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
	for _, in := range situations {
		t.Run("the pod has "+in.name, func(t *testing.T) {
			guest := behindTunnel(t, in, up.addr)
			for name, addr := range map[string]netip.Addr{"IPv4": dns4, "IPv6": dns6} {
				t.Run(name, func(t *testing.T) { asksThrough(t, guest, netip.AddrPortFrom(addr, 53).String()) })
			}
		})
	}
}

func asksThrough(t *testing.T, guest *kernel.Kernel, at string) {
	untilCarried(t, guest, at)
	t.Run("by UDP in fragments", func(t *testing.T) {
		answer := guestIn(t, guest, at).udp(ask(1, "a.test.", 4096))
		if len(answer) < 2*narrow || header(t, answer).Truncated {
			t.Errorf("%d octets: %+v", len(answer), header(t, answer))
		}
	})
	t.Run("by TCP", func(t *testing.T) {
		if answer := guestIn(t, guest, at).tcp(ask(1, "long.test.", 0)); len(answer) < 30000 {
			t.Errorf("%d octets: %+v", len(answer), header(t, answer))
		}
	})
	t.Run("with a resolver", func(t *testing.T) {
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
