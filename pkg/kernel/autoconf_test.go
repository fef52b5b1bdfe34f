//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/internal/netnstest"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

var (
	strayRouter = netip.MustParseAddr("fe80::bad")
	strayPrefix = netip.MustParsePrefix("fd00:bad::/64")
	allNodes    = netip.MustParseAddr("ff02::1")
)

// advertisement is a router advertisement (RFC 4861 §4.2) that makes every host
// that takes it an address and a default route, with a prefix, a further route
// (RFC 4191) and an MTU.
func advertisement() []byte {
	week := []byte{0, 9, 0x3a, 0x80}
	prefix := strayPrefix.Addr().AsSlice()
	message := slices.Concat(
		[]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08}, make([]byte, 8),
		[]byte{3, 4, 64, 0xc0}, week, week, make([]byte, 4), prefix, // on-link, autonomous
		[]byte{24, 2, 64, 0}, week, netip.MustParseAddr("fd00:bad:1::").AsSlice()[:8],
		[]byte{5, 1, 0, 0, 0, 0, 5, 0x14},
	)
	pseudo := slices.Concat(strayRouter.AsSlice(), allNodes.AsSlice(), []byte{0, 0, 0, byte(len(message)), 0, 0, 0, 58}, message)
	binary.BigEndian.PutUint16(message[2:], checksum(pseudo))
	frame := ether(0x86dd, ipv6(58, strayRouter, allNodes, message))
	return edit(frame, 0, 0x33, 0x33, 0, 0, 0, 1, 0x02, 0, 0, 0, 0x0b, 0xad)
}

// flood sends advertisements into the pod by its link until it is stopped, and
// says how many it has sent.
func (p *pod) flood(t *testing.T) (sent *atomic.Int64, end func()) {
	t.Helper()
	sent = new(atomic.Int64)
	socket, frame := p.node.Packet(t, "veth0"), advertisement()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if socket.TrySend(frame) == nil {
					sent.Add(1)
				}
			}
		}
	}()
	end = sync.OnceFunc(func() {
		close(stop)
		<-stopped
	})
	t.Cleanup(end)
	return sent, end
}

// more waits until so many more advertisements were sent.
func more(t *testing.T, sent *atomic.Int64) {
	t.Helper()
	until, now := sent.Load()+50, time.After(10*time.Second)
	for sent.Load() < until {
		select {
		case <-now:
			t.Error("nothing is sent")
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// accepting sets how the pod's links take advertisements, also those to come.
func (p *pod) accepting(t *testing.T, value string) {
	t.Helper()
	p.Do(t, func() {
		for _, link := range []string{"all", "default", "eth0"} {
			for _, name := range []string{"accept_ra", "forwarding", "accept_ra_rt_info_max_plen"} {
				set := map[string]string{"accept_ra": value, "forwarding": "0", "accept_ra_rt_info_max_plen": "128"}[name]
				err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/"+name, []byte(set), 0)
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// planned are the steps of the bridge binding as they are planned for the pod.
func (p *pod) planned(t *testing.T) plan.Steps {
	t.Helper()
	s := p.snapshot(t)
	link, _ := s.LinkByName("eth0")
	server := link.MAC.Derive("server")
	made, err := plan.New(s, link, lease.Lease{
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.244.1.7/24"), netip.MustParsePrefix("fd00::7/64")}, MAC: link.MAC, MTU: link.MTU,
		Server: lease.Server{ID: netip.MustParseAddr("169.254.75.1"), MAC: server, LinkLocal: server.LinkLocal()},
	}, config.Config{Queues: 1, Binding: config.Bridge})
	if err != nil {
		t.Fatal(err)
	}
	return made.Steps
}

// wantNoIPv6 checks that none of the wired links has an address or a route of its
// own, but for the kernel's route to multicast.
func (p *pod) wantNoIPv6(t *testing.T, when string) {
	t.Helper()
	s := p.snapshot(t)
	for _, name := range []string{"eth0", "tap-eth0", "pw-eth0"} {
		l, ok := s.LinkByName(name)
		if !ok {
			t.Errorf("%s: no link %q", when, name)
		}
		for _, a := range s.AddrsOf(l.Index) {
			t.Errorf("%s: %q has address %s", when, name, a.Prefix)
		}
		for _, r := range s.RoutesOf(l.Index) {
			if !r.Dst.Addr().IsMulticast() {
				t.Errorf("%s: %q has route %s", when, name, routeName(r))
			}
		}
	}
}

// wantNoneOfOtherMAC checks that no address is left that was made while the link
// had another MAC.
func (p *pod) wantNoneOfOtherMAC(t *testing.T) {
	t.Helper()
	s := p.snapshot(t)
	l, _ := s.LinkByName("eth0")
	for _, a := range s.AddrsOf(l.Index) {
		if a.Prefix.Addr().Is6() && ofOtherMAC(a.Prefix.Addr(), l.MAC) {
			t.Errorf("eth0 with MAC %s has address %s", l.MAC, a.Prefix)
		}
	}
}

// autoconfigured reports whether the pod has taken an advertisement.
func (p *pod) autoconfigured(t *testing.T) bool {
	t.Helper()
	s := p.snapshot(t)
	return slices.ContainsFunc(s.Addrs, func(a netstate.Addr) bool { return strayPrefix.Contains(a.Prefix.Addr()) }) &&
		slices.ContainsFunc(s.Routes, func(r netstate.Route) bool { return r.Default() && r.Via == strayRouter })
}

// A guest's router is another than the pod's own stack would take: a wired pod
// configures nothing by itself, whatever is advertised, at no moment.
func TestWiredPodConfiguresNothingByItself(t *testing.T) {
	t.Parallel()
	for _, accept := range []string{"1", "2"} {
		for name, opts := range backends {
			t.Run("accept_ra="+accept+" "+name, func(t *testing.T) {
				t.Parallel()
				p := newPod(t, dualStack, opts...)
				p.accepting(t, accept)
				sent, _ := p.flood(t)
				until(t, "the pod to take an advertisement", func() bool { return p.autoconfigured(t) })
				steps := p.planned(t)
				for range 5 {
					p.do(t, steps...)
					p.wantNoIPv6(t, "wired")
					more(t, sent)
					p.wantNoIPv6(t, "later")
					p.undo(t, steps...)
					p.wantNoneOfOtherMAC(t)
				}
				p.do(t, steps...)
				p.guest(t, "tap-eth0")
				for _, link := range []string{"eth0", "tap-eth0", "pw-eth0"} {
					p.Down(t, link)
					p.Up(t, link)
				}
				p.node.Down(t, "veth0")
				p.node.Up(t, "veth0")
				until(t, "eth0 to have its carrier", func() bool {
					return strings.Contains(p.Run(t, "ip", "link", "show", "eth0"), "state UP")
				})
				more(t, sent)
				p.wantNoIPv6(t, "after all went down and up")
			})
		}
	}
}

// As in a container without privileges.
func TestPodIsWiredWhereSysctlsAreReadOnly(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	p.accepting(t, "2")
	before := p.state(t)
	steps := p.planned(t)
	sent, end := p.flood(t)
	p.readOnly(t, func(k *Kernel) {
		for _, s := range steps {
			if err := k.Do(t.Context(), s); err != nil {
				t.Errorf("doing %s: %v", s.Kind(), err)
			}
		}
		more(t, sent)
		p.wantNoIPv6(t, "wired")
		end()
		for _, s := range slices.Backward(steps) {
			if err := k.Undo(t.Context(), s); err != nil {
				t.Errorf("undoing %s: %v", s.Kind(), err)
			}
		}
	})
	p.wantState(t, before)
}

// readOnly calls f with the pod's kernel on a thread for which /proc/sys is
// read-only.
func (p *pod) readOnly(t *testing.T, f func(k *Kernel)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and ends with the goroutine: it has mounts of its own
		if err := readOnlySysctls(p.NS); err != nil {
			t.Error(err)
			return
		}
		k, err := Open("")
		if err != nil {
			t.Error(err)
			return
		}
		defer k.Close()
		f(k)
	}()
	<-done
}

func readOnlySysctls(ns *netnstest.NS) error {
	pod, err := os.Open(ns.Path)
	if err != nil {
		return err
	}
	defer pod.Close()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("a mount namespace: %w", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts private: %w", err)
	}
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting /proc/sys: %w", err)
	}
	if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting /proc/sys read-only: %w", err)
	}
	if err := unix.Setns(int(pod.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = os.WriteFile("/proc/sys/net/ipv6/conf/eth0/accept_ra", []byte("0"), 0)
	if unless(err, unix.EROFS) != nil || err == nil {
		return fmt.Errorf("/proc/sys is not read-only: %w", err)
	}
	return nil
}

// Two would answer for the guest's address, and its detection of duplicates fail.
func TestWiredPodAnswersForNoneOfItsAddresses(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	addrs := []netip.Addr{netip.MustParseAddr("fd00::7")}
	for _, a := range p.snapshot(t).Addrs {
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, a.Prefix.Addr())
		}
	}
	asker := netip.MustParseAddr("fe80::a5c")
	socket := p.node.Packet(t, "veth0")
	answered := func(target netip.Addr) bool {
		question := solicit(asker, target)
		question = ipv6(58, asker, allNodes, append(question[40:], 1, 1, 0x02, 0, 0, 0, 0x0a, 0x5c))
		pseudo := slices.Concat(asker.AsSlice(), allNodes.AsSlice(), []byte{0, 0, 0, 32, 0, 0, 0, 58}, question[40:])
		binary.BigEndian.PutUint16(question[42:], checksum(pseudo))
		socket.Send(t, edit(ether(0x86dd, question), 0, 0x33, 0x33, 0, 0, 0, 1, 0x02, 0, 0, 0, 0x0a, 0x5c))
		return socket.Next(t, time.Second/4, func(b []byte) bool {
			return len(b) >= ndEnd && b[20] == 58 && b[54] == 136 && bytes.Equal(b[offNDTarget:ndEnd], target.AsSlice())
		}) != nil
	}
	for _, a := range addrs {
		if !answered(a) {
			t.Fatalf("the pod does not answer for %s before", a)
		}
	}
	p.do(t, p.planned(t)...)
	for _, a := range addrs {
		if answered(a) {
			t.Errorf("the pod answers for %s", a)
		}
	}
}

// What the pod's own stack would send (reports of multicast groups, solicitations
// of routers) has a MAC that the network knows nothing of, and some networks shut a
// port on which they see one.
func TestWiredPodSendsNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newPod(t, dualStack)
	steps := p.planned(t)
	socket := p.node.Packet(t, "veth0")
	p.do(t, steps...)
	p.guest(t, "tap-eth0")
	var own [][]byte
	for _, l := range p.snapshot(t).Links {
		if l.Name == "eth0" || l.Name == "tap-eth0" || l.Name == "pw-eth0" {
			own = append(own, l.MAC[:])
		}
	}
	for _, link := range []string{"eth0", "tap-eth0", "pw-eth0"} {
		p.Down(t, link)
		p.Up(t, link)
	}
	sends := func(b []byte) bool {
		return slices.ContainsFunc(own, func(mac []byte) bool { return bytes.Equal(b[6:12], mac) })
	}
	if frame := socket.Next(t, 2*time.Second, sends); frame != nil {
		t.Errorf("the pod sends %x", frame)
	}
}
