//go:build linux

package kernel

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	xipv4 "golang.org/x/net/ipv4"
	xipv6 "golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// masked is a pod with a guest behind its own address. The guest is a namespace,
// joined to the pod by a veth pair in place of a tap: what is tested does not care.
type masked struct {
	*pod
	guest  *netnstest.NS
	guestK *Kernel
	nodeK  *Kernel
	steps  plan.Steps
	before state // without the guest
}

const (
	nodeIP, nodeIP6 = "10.244.1.1", "fd00:10:244:1::1"
	farIP, farIP6   = "198.51.100.1", "2001:db8:100::1" // behind the node
	pods, pods6     = "10.244.1.7", "fd00:10:244:1::7"
)

// newMasked makes the pod and its guest, but takes no step.
func newMasked(t *testing.T, change func(*config.Config)) *masked {
	t.Helper()
	p := newPod(t, []string{
		"addr add 10.244.1.7/24 dev eth0", "addr add fd00:10:244:1::7/64 dev eth0 nodad",
		"route add default via 10.244.1.1", "-6 route add default via fd00:10:244:1::1",
	})
	p.node.IP(t,
		"link set veth0 mtu 1450", "addr add 10.244.1.1/24 dev veth0", "addr add fd00:10:244:1::1/64 dev veth0 nodad",
		"addr add 198.51.100.1/32 dev lo", "addr add 2001:db8:100::1/128 dev lo nodad")
	m := &masked{pod: p, guest: netnstest.New(t), nodeK: open(t, p.node.Path)}
	m.guestK = open(t, m.guest.Path)
	m.before, m.steps = m.state(t), m.planned(t, change)
	withoutDAD(t, m.guest)
	netnstest.Veth(t, p.NS, "tap-eth0", m.guest, "nic")
	p.IP(t, "link set tap-eth0 mtu 1450")
	m.guest.IP(t,
		"link set nic mtu 1450", "addr add 10.0.2.2/24 dev nic", "addr add fd10:0:2::2/120 dev nic nodad",
		"route add default via 10.0.2.1", "-6 route add default via fd10:0:2::1")
	return m
}

// newMasquerade is newMasked with all steps taken.
func newMasquerade(t *testing.T, change func(*config.Config)) *masked {
	t.Helper()
	m := newMasked(t, change)
	m.do(t, m.steps...)
	m.settled(t)
	return m
}

// planned are the steps that need no tap, as they are planned for the pod.
func (m *masked) planned(t *testing.T, change func(*config.Config)) (steps plan.Steps) {
	t.Helper()
	s := m.snapshot(t)
	s.Links = slices.DeleteFunc(s.Links, func(l netstate.Link) bool { return l.Name == "tap-eth0" })
	link, _ := s.LinkByName("eth0")
	c := config.Config{Queues: 1, Binding: config.Masquerade}
	if change != nil {
		change(&c)
	}
	p, err := plan.New(s, link, lease.Lease{
		Addrs: prefixes("10.0.2.2/24", "fd10:0:2::2/120"), MAC: link.MAC, MTU: link.MTU,
		Routes: []lease.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gateIP}, {Dst: netip.MustParsePrefix("::/0"), Via: gateIP6}},
		Server: lease.Server{Gateways: prefixes("10.0.2.1/24", "fd10:0:2::1/120")},
	}, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		switch s.(type) {
		case plan.CreateTap, plan.AddFilter:
		default:
			steps = append(steps, s)
		}
	}
	return steps
}

var localhost6 = netip.MustParsePrefix("::1/128")

func withPorts(ports ...config.Ports) func(*config.Config) {
	return func(c *config.Config) { c.Ports = ports }
}

// serve answers at an address of a namespace who is there, and who asks. An
// address that is none stands for all of the namespace.
func serve(t *testing.T, k *Kernel, who, addr string) {
	t.Helper()
	packets, err := k.ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	streams, err := k.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	t.Cleanup(func() {
		packets.Close()
		streams.Close()
		<-done
		<-done
	})
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 1<<16)
		for {
			_, from, err := packets.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(answer(who, from)), from)
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			go talk(c, who)
		}
	}()
}

// talk answers every line.
func talk(c net.Conn, who string) {
	defer c.Close()
	for in := bufio.NewScanner(c); in.Scan(); {
		if _, err := fmt.Fprintf(c, "%s\n", answer(who, c.RemoteAddr())); err != nil {
			return
		}
	}
}

func answer(who string, asker net.Addr) string {
	from := netip.MustParseAddrPort(asker.String()).Addr().Unmap()
	return who + " to " + from.String()
}

// at is an address with a port.
func at(addr string, port int) string { return net.JoinHostPort(addr, fmt.Sprint(port)) }

// asked is what is answered within a moment, or in what way nothing is.
func asked(t *testing.T, k *Kernel, network, addr string, within time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, err := k.DialContext(ctx, network, addr)
	if err != nil {
		return failure(err)
	}
	defer c.Close()
	return say(c, within)
}

// say says something on a connection and returns the answer.
func say(c net.Conn, within time.Duration) string {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return err.Error()
	}
	if _, err := c.Write([]byte("who\n")); err != nil {
		return failure(err)
	}
	b := make([]byte, 200)
	n, err := c.Read(b)
	if err != nil {
		return failure(err)
	}
	return strings.TrimSpace(string(b[:n]))
}

func failure(err error) string {
	for _, word := range []string{"connection refused", "message too long", "timeout", "network is unreachable", "no route to host"} {
		if strings.Contains(err.Error(), word) {
			return word
		}
	}
	return err.Error()
}

const (
	soon     = 5 * time.Second
	timedOut = "timeout"
	inAWhile = 300 * time.Millisecond // for what is never answered
)

func wantAnswer(t *testing.T, k *Kernel, network, addr, want string) {
	t.Helper()
	if got := asked(t, k, network, addr, soon); got != want {
		t.Errorf("%s %s: %q, not %q", network, addr, got, want)
	}
}

var transports = []string{"tcp", "udp"}

// listen hears at an address, and says whether something has come.
func listen(t *testing.T, k *Kernel, addr string) (hears func(within time.Duration) bool) {
	t.Helper()
	c, err := k.ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return func(within time.Duration) bool {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, _, err := c.ReadFrom(make([]byte, 100))
		return err == nil
	}
}

// echoed sends an echo request and reports whether it was answered.
func echoed(t *testing.T, ns *netnstest.NS, to string) bool {
	t.Helper()
	dst := netip.MustParseAddr(to)
	network, own, number := "ip4:icmp", "0.0.0.0", unix.IPPROTO_ICMP
	var request, reply icmp.Type = xipv4.ICMPTypeEcho, xipv4.ICMPTypeEchoReply
	if dst.Is6() {
		network, own, number = "ip6:ipv6-icmp", "::", unix.IPPROTO_ICMPV6
		request, reply = xipv6.ICMPTypeEchoRequest, xipv6.ICMPTypeEchoReply
	}
	var c *icmp.PacketConn
	var err error
	ns.Do(t, func() { c, err = icmp.ListenPacket(network, own) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const id = 0x7077
	m, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("echo")}}).Marshal(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteTo(m, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1500); ; {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return false
		}
		got, err := icmp.ParseMessage(number, b[:n])
		if err != nil {
			t.Fatal(err)
		}
		if echo, ok := got.Body.(*icmp.Echo); ok && got.Type == reply && echo.ID == id {
			return true
		}
	}
}

// echoedBy sends an echo request, which must be answered, and reports whether the
// guest has heard it.
func echoedBy(t *testing.T, ns *netnstest.NS, to string, guest *netnstest.NS) bool {
	t.Helper()
	nic := guest.Packet(t, "nic")
	if !echoed(t, ns, to) {
		t.Errorf("no echo from %s", to)
	}
	return nic.Next(t, inAWhile, func(b []byte) bool {
		return b[12] == 8 && b[13] == 0 && b[23] == 1 && b[34] == 8 || len(b) > 54 && b[12] == 0x86 && b[20] == 58 && b[54] == 128
	}) != nil
}
