//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const tunnelName = "pw-dns"

// newTunnel opens a tunnel that ends with the test.
func (p *pod) newTunnel(t *testing.T, local, peers []netip.Addr) io.ReadWriteCloser {
	t.Helper()
	tun, err := p.k.OpenTunnel(t.Context(), tunnelName, local, peers, 1450)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return tun
}

// answers sends a UDP question as an IP packet and returns the answer's.
func answers(t *testing.T, tun io.ReadWriter, question []byte, isAnswer func(packet []byte) bool) []byte {
	t.Helper()
	if _, err := tun.Write(question); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, err := tun.Read(buf)
			if err != nil || isAnswer(buf[:n]) {
				got <- buf[:n]
				return
			}
		}
	}()
	select {
	case packet := <-got:
		return packet
	case <-time.After(5 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

// question is a UDP datagram in a whole IP packet, with its checksum.
func question(src, dst netip.Addr) []byte {
	datagram := datagram(5353, 53)
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 17, 0, byte(len(datagram))}, datagram)
	binary.BigEndian.PutUint16(datagram[6:], checksum(pseudo))
	if src.Is6() {
		return ipv6(17, src, dst, datagram)
	}
	return append(addressed(udp(0, 0, 0, 0)[:20], src, dst), datagram...)
}

// strictly makes the pod refuse what comes by another link than it would answer by.
func (p *pod) strictly(t *testing.T) {
	t.Helper()
	p.Do(t, func() {
		for _, link := range []string{"all", "default"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+link+"/rp_filter", []byte("1"), 0); err != nil {
				t.Error(err)
			}
		}
	})
}

// The guest's address is in the pod's own network, and the pod has a default route
// elsewhere.
func TestTunnelCarriesAnAnswerToItsPeer(t *testing.T) {
	t.Parallel()
	local := []netip.Addr{dnsIP, dnsIP6}
	guests := []netip.Addr{podIP, netip.MustParseAddr("fd00::7")}
	for i, name := range []string{"IPv4", "IPv6"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, dualStack)
			p.strictly(t)
			p.do(t, bridgeSteps(p.snapshot(t))...)
			tun := p.newTunnel(t, local, guests)
			c, err := p.k.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(local[i], 53).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() {
				buf := make([]byte, 1500)
				if n, from, err := c.ReadFrom(buf); err == nil {
					_, _ = c.WriteTo(buf[:n], from)
				}
			}()
			packet := answers(t, tun, question(guests[i], local[i]), func(b []byte) bool {
				return bytes.Contains(b, local[i].AsSlice()) && bytes.HasSuffix(b, []byte("data"))
			})
			wantAt := map[int]int{4: 12, 6: 8}[int(packet[0]>>4)]
			want := slices.Concat(local[i].AsSlice(), guests[i].AsSlice())
			if got := packet[wantAt : wantAt+len(want)]; !bytes.Equal(got, want) {
				t.Errorf("from and to are %x, want %x", got, want)
			}
		})
	}
}

func TestTunnelIsMadeAsItIsSaidAndVanishes(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before := p.state(t)
	tun := p.newTunnel(t, []netip.Addr{dnsIP, dnsIP6, netip.MustParseAddr("fe80::53")},
		[]netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fe80::7")})
	for command, want := range map[string][]string{
		"ip -d link show pw-dns":      {"UP", "mtu 1450", "tun type tun pi off vnet_hdr off persist off", "addrgenmode none"},
		"ip addr show pw-dns":         {"inet 169.254.75.53/32 scope link", "inet6 fd00:75::53/128 scope global nodad", "inet6 fe80::53/128 scope link nodad"},
		"ip route show dev pw-dns":    {"10.1.1.1 proto static scope link src 169.254.75.53"},
		"ip -6 route show dev pw-dns": {"fd00:1::1 proto static src fd00:75::53", "fe80::7 proto static src fd00:75::53"},
	} {
		words := strings.Fields(command)
		got := p.Run(t, words[0], words[1:]...)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in\n%s", command, w, got)
			}
		}
	}
	if got := p.Run(t, "ip", "addr", "show", "pw-dns"); strings.Count(got, "inet") != 3 || strings.Contains(got, "tentative") {
		t.Errorf("addresses are\n%s", got)
	}
	ended := make(chan error)
	go func() {
		buf := make([]byte, 1500)
		for {
			if _, err := tun.Read(buf); err != nil {
				ended <- err
				return
			}
		}
	}()
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the reader ended with %v", err)
	}
	until(t, "the tunnel to vanish", func() bool { return p.Index(t, tunnelName) == 0 })
	p.wantState(t, before)
}

func TestTunnelOverAnotherLinkIsAConflict(t *testing.T) {
	t.Parallel()
	for name, add := range map[string]string{
		"a bridge":            "link add pw-dns type bridge",
		"a tun":               "tuntap add dev pw-dns mode tun",
		"a multi-queue tun":   "tuntap add dev pw-dns mode tun multi_queue",
		"an other pod's veth": "link add pw-dns type veth peer name x0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			p.IP(t, add)
			before := p.state(t)
			_, err := p.k.OpenTunnel(t.Context(), tunnelName, nil, nil, 1450)
			if !errors.Is(err, ErrConflict) {
				t.Errorf("got %v, want a conflict", err)
			}
			p.wantState(t, before)
			// Another may have made it since it was looked for.
			p.Do(t, func() {
				if _, err := newTunnel(tunnelName); !errors.Is(err, ErrConflict) {
					t.Errorf("got %v, want a conflict", err)
				}
			})
		})
	}
}

func TestTunnelThatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	before := p.state(t)
	if _, err := p.k.OpenTunnel(t.Context(), tunnelName, []netip.Addr{netip.IPv6Unspecified()}, nil, 1450); err == nil {
		t.Error("opened with an address that is none")
	}
	until(t, "the tunnel to vanish", func() bool { return p.Index(t, tunnelName) == 0 })
	p.wantState(t, before)
	p.inside(t, func(k *Kernel) {
		_, err := k.OpenTunnel(t.Context(), tunnelName, nil, nil, 1450)
		wantExplained(t, "opening a tunnel", err)
	}, unix.CAP_NET_ADMIN)
}

func TestSocketsAreInsideTheNamespace(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.node.Addr(t, "veth0", "10.244.1.1/24")
	p.node.Addr(t, "veth0", "fd00::1/64")
	lladdr := ""
	for _, a := range p.snapshot(t).Addrs {
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			lladdr = a.Prefix.Addr().String()
		}
	}
	node := open(t, p.node.Path)
	for _, addr := range []string{"10.244.1.7", "fd00::7", lladdr + "%eth0"} {
		l, err := p.k.Listen(t.Context(), "tcp", net.JoinHostPort(addr, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		to := net.JoinHostPort(strings.Replace(addr, "%eth0", "%veth0", 1), strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		c, err := node.DialContext(t.Context(), "tcp", to)
		if err != nil {
			t.Errorf("dialling %s: %v", to, err)
			continue
		}
		c.Close()
		if _, err := node.Listen(t.Context(), "tcp", net.JoinHostPort(addr, "0")); err == nil {
			t.Errorf("%s: listening on another's address", addr)
		}
	}
	for _, addr := range []string{"localhost:53", "10.244.1.7", ":53", "[fe80::1%eth9]:53"} {
		if _, err := p.k.ListenPacket(t.Context(), "udp", addr); err == nil {
			t.Errorf("%q: listening", addr)
		}
		if _, err := p.k.DialContext(t.Context(), "udp", addr); err == nil {
			t.Errorf("%q: dialled", addr)
		}
	}
}
