package dnsforward

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

func TestPeers(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	both := "10.244.1.7=169.254.75.254 fd00:10:244:1::7=fd75::2"
	tests := []struct {
		name   string
		change func(l *lease.Lease, pod *netstate.Snapshot)
		want   string
	}{
		{"of both families", func(*lease.Lease, *netstate.Snapshot) {}, both},
		{"one for each address", func(l *lease.Lease, _ *netstate.Snapshot) {
			l.Addrs = append(l.Addrs, prefix("10.244.1.8/24"), prefix("fd00:10:244:1::8/64"))
		}, "10.244.1.7=169.254.75.254 10.244.1.8=169.254.75.253 fd00:10:244:1::7=fd75::2 fd00:10:244:1::8=fd75::3"},
		{"behind the address that discover makes", func(l *lease.Lease, _ *netstate.Snapshot) {
			l.Server.DNS[1] = addr("fd25:925d:bc6b::35")
		}, "10.244.1.7=169.254.75.254 fd00:10:244:1::7=fd25:925d:bc6b::36"},
		{"of the relay's families only", func(l *lease.Lease, _ *netstate.Snapshot) {
			l.Server.DNS = l.Server.DNS[:1]
		}, "10.244.1.7=169.254.75.254"},
		{"none without a relay", func(l *lease.Lease, _ *netstate.Snapshot) { l.Server.DNS = nil }, ""},
		{"not the server's", func(l *lease.Lease, _ *netstate.Snapshot) {
			l.Server.ID, l.Server.DNS[0] = addr("169.254.75.254"), addr("169.254.75.254")
		}, "10.244.1.7=169.254.75.253 fd00:10:244:1::7=fd75::2"},
		{"not the guest's own, nor its gateway's", func(l *lease.Lease, _ *netstate.Snapshot) {
			l.Addrs[0] = prefix("169.254.75.254/30")
			l.Server.Gateways = []netip.Prefix{prefix("169.254.75.253/30"), prefix("fd75::2/64")}
		}, "169.254.75.254=169.254.75.252 fd00:10:244:1::7=fd75::3"},
		{"none that the guest is told of", func(l *lease.Lease, _ *netstate.Snapshot) {
			l.Routes = []lease.Route{{Dst: prefix("169.254.75.254/32")}, {Dst: prefix("0.0.0.0/0"), Via: addr("169.254.75.253")}}
			l.Neighbors = []lease.Neighbor{{Addr: addr("169.254.75.252")}}
			l.DNS, l.NTP, l.Upstream = []netip.Addr{addr("169.254.75.251")}, []netip.Addr{addr("169.254.75.250")}, []netip.Addr{addr("fd75::2")}
		}, "10.244.1.7=169.254.75.249 fd00:10:244:1::7=fd75::3"},
		{"none that the pod knows", func(_ *lease.Lease, pod *netstate.Snapshot) {
			pod.Addrs = []netstate.Addr{{Prefix: prefix("169.254.75.254/24")}, {Prefix: prefix("fd75::1/128"), Peer: addr("fd75::2")}}
			pod.Routes = []netstate.Route{{Dst: prefix("169.254.75.253/32")}, {Dst: prefix("::/0"), Via: addr("fd75::3")}}
			pod.Neighbors = []netstate.Neighbor{{Addr: addr("169.254.75.252")}}
		}, "10.244.1.7=169.254.75.251 fd00:10:244:1::7=fd75::4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, pod := pumpLease(), netstate.Snapshot{}
			tt.change(&l, &pod)
			var got []string
			for _, p := range Peers(l, pod) {
				got = append(got, p.Guest.String()+"="+p.StandIn.String())
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("peers are %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEachOfTheGuestsAddressesGetsWhatItAskedFor(t *testing.T) {
	l := pumpLease()
	l.Addrs = append(l.Addrs, netip.PrefixFrom(other6, 64), netip.PrefixFrom(other4, 24))
	for _, guest := range []netip.Addr{guest4, other4, guest6, other6} {
		dns := dns4
		if guest.Is6() {
			dns = dns6
		}
		tun := newTunnel()
		p := NewPump(tun, l, Peers(l, netstate.Snapshot{}))
		if err := p.FromGuest(datagram(guestMAC, guest, dns, 40000, 53)); err != nil {
			t.Fatal(err)
		}
		question, _ := readSegment(tun.in[0])
		answer := datagram(guestMAC, dns, question.from, 53, 40000)[14:]
		if !p.address(answer) {
			t.Fatalf("%s gets no answer to %s", guest, question.from)
		}
		if want := datagram(guestMAC, dns, guest, 53, 40000)[14:]; !bytes.Equal(answer, want) {
			t.Errorf("answer %x, want %x", answer, want)
		}
	}
}

// TestReaddressed: the guest's new addresses get the stand-ins that there are, of their
// own family, and what an address has it keeps.
func TestReaddressed(t *testing.T) {
	two := []string{"10.244.1.7/24", "10.244.1.8/24", "fd00:10:244:1::7/64"}
	tests := []struct {
		name          string
		first         []string
		later         [][]string // one after the other
		want, without string
	}{
		{"the same", two, [][]string{two}, "10.244.1.7=169.254.75.254 10.244.1.8=169.254.75.253 fd00:10:244:1::7=fd75::2", "[]"},
		{
			"all others", two,
			[][]string{{"10.9.0.7/24", "10.9.0.8/24", "fd09::7/64"}},
			"10.9.0.7=169.254.75.254 10.9.0.8=169.254.75.253 fd09::7=fd75::2", "[]",
		},
		{
			"one of two", two,
			[][]string{{"10.9.0.7/24", "10.244.1.8/24", "fd00:10:244:1::7/64"}},
			"10.9.0.7=169.254.75.254 10.244.1.8=169.254.75.253 fd00:10:244:1::7=fd75::2", "[]",
		},
		{
			"in another order", two,
			[][]string{{two[2], two[1], two[0]}},
			"10.244.1.7=169.254.75.254 10.244.1.8=169.254.75.253 fd00:10:244:1::7=fd75::2", "[]",
		},
		{"fewer", two, [][]string{{"10.244.1.8/24"}}, "invalid IP=169.254.75.254 10.244.1.8=169.254.75.253 invalid IP=fd75::2", "[]"},
		{
			"fewer, and then others", two,
			[][]string{{"10.244.1.8/24"}, {"10.244.1.8/24", "10.9.0.7/24", "fd09::7/64"}},
			"10.9.0.7=169.254.75.254 10.244.1.8=169.254.75.253 fd09::7=fd75::2", "[]",
		},
		{
			"more", two[1:],
			[][]string{{"10.9.0.7/24", "10.9.0.8/24", "fd09::7/64", "fd09::8/64"}},
			"10.9.0.7=169.254.75.254 fd09::7=fd75::2", "[10.9.0.8 fd09::8]",
		},
		{"none of a family, and then some", two[:1], [][]string{two[:1], {"fd09::7/64"}}, "invalid IP=169.254.75.254", "[fd09::7]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := pumpLease()
			of := func(addrs []string) lease.Lease {
				l.Addrs = nil
				for _, a := range addrs {
					l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
				}
				return l
			}
			peers := Peers(of(tt.first), netstate.Snapshot{})
			var without []netip.Addr
			for _, later := range tt.later {
				peers, without = Readdressed(peers, of(later))
			}
			var got []string
			for _, p := range peers {
				got = append(got, p.Guest.String()+"="+p.StandIn.String())
			}
			if got := strings.Join(got, " "); got != tt.want || fmt.Sprint(without) != tt.without {
				t.Errorf("peers are %s without %v, want %s without %s", got, without, tt.want, tt.without)
			}
		})
	}
	l := pumpLease()
	l.Server.DNS = l.Server.DNS[:1]
	if _, without := Readdressed(Peers(l, netstate.Snapshot{}), l); without != nil {
		t.Errorf("a relay without IPv6 lacks a stand-in for %v", without)
	}
}

// TestAGuestWithAnotherAddressIsRelayedOn, and not by the one that it had.
func TestAGuestWithAnotherAddressIsRelayedOn(t *testing.T) {
	tun, l := newTunnel(), pumpLease()
	peers := Peers(l, netstate.Snapshot{})
	p := NewPump(tun, l, peers)
	for i, a := range l.Addrs {
		if a.Addr() == guest4 {
			l.Addrs[i] = netip.PrefixFrom(other4, 24)
		}
	}
	peers, _ = Readdressed(peers, l)
	p.SetPeers(peers)
	if err := p.FromGuest(datagram(guestMAC, other4, dns4, 40000, 53)); err != nil {
		t.Fatal(err)
	}
	question, _ := readSegment(tun.in[0])
	answer := datagram(guestMAC, dns4, question.from, 53, 40000)[14:]
	if !p.address(answer) || !bytes.Equal(answer, datagram(guestMAC, dns4, other4, 53, 40000)[14:]) {
		t.Errorf("the answer to %s becomes %x", question.from, answer)
	}
	if err := p.FromGuest(datagram(guestMAC, guest4, dns4, 40000, 53)); !errors.Is(err, ErrDropped) {
		t.Errorf("a question from the old address: %v", err)
	}
	l.Addrs = nil
	peers, _ = Readdressed(peers, l)
	p.SetPeers(peers)
	if p.address(datagram(guestMAC, dns4, question.from, 53, 40000)[14:]) {
		t.Error("an answer to nobody is sent")
	}
}
