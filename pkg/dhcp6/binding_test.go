package dhcp6

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

// associations puts into words what a reply says of each: its addresses, those
// taken away with a minus, and its status.
func associations(t *testing.T, m *dhcpv6.Message) (out []string) {
	t.Helper()
	describe := func(kind string, id [4]byte, o dhcpv6.IdentityOptions) {
		words := []string{fmt.Sprintf("%s %d:", kind, id[3])}
		for _, ia := range o.Addresses() {
			text := ia.IPv6Addr.String()
			if ia.ValidLifetime == 0 {
				text = "-" + text
			}
			words = append(words, text)
		}
		if s := o.Status(); s != nil {
			words = append(words, s.StatusCode.String())
		}
		out = append(out, strings.Join(words, " "))
	}
	for _, o := range m.Options.Options {
		switch ia := o.(type) {
		case *dhcpv6.OptIANA:
			describe("NA", ia.IaId, ia.Options)
		case *dhcpv6.OptIATA:
			describe("TA", ia.IaId, ia.Options)
		case *dhcpv6.OptIAPD:
			out = append(out, fmt.Sprintf("PD %d: %s", ia.IaId[3], ia.Options.Status().StatusCode))
		}
	}
	return out
}

func TestBinding(t *testing.T) {
	const (
		own, second = "fd00:10:244::7", "2001:db8::7"
		all         = own + " " + second
	)
	tests := []struct {
		name    string
		payload []byte
		want    []string
	}{
		{"all addresses go into the first IA_NA", wire(solicit, client, iaNA(1), iaNA(2)), []string{"NA 1: " + all, "NA 2: NoAddrsAvail"}},
		{"wherever it stands", wire(solicit, client, iaPD(3), iaNA(1)), []string{"NA 1: " + all, "PD 3: NoPrefixAvail"}},
		{"but into that which names one of them", wire(request, client, server, iaNA(1), iaNA(2, second)), []string{"NA 2: " + all, "NA 1: NoAddrsAvail"}},
		{"which another address does not make it", wire(rebind, client, iaNA(1, "fd00::99"), iaNA(2, own)), []string{"NA 2: " + all, "NA 1: -fd00::99 NoAddrsAvail"}},
		{"the first of two that name some", wire(renew, client, server, iaNA(1, second), iaNA(2, own)), []string{"NA 1: " + all, "NA 2: NoAddrsAvail"}},
		{"a hint that is not followed is not sent back, §18.3.9", wire(solicit, client, iaNA(1, "fd00::99")), []string{"NA 1: " + all}},
		{"nor is one of a REQUEST, §18.3.2", wire(request, client, server, iaNA(1, own, "fd00::99")), []string{"NA 1: " + all}},
		{"RENEW takes away what is not the lease's, §18.3.4", wire(renew, client, server, iaNA(1, own, "fd00::99")), []string{"NA 1: " + all + " -fd00::99"}},
		{"REBIND does, §18.3.5", wire(rebind, client, iaNA(1, "fd00::98", "fd00::99")), []string{"NA 1: " + all + " -fd00::98 -fd00::99"}},
		{"no temporary addresses, §18.3.2 of RFC 8415", wire(solicit, client, iaTA(1), iaNA(2)), []string{"NA 2: " + all, "TA 1: NoAddrsAvail"}},
		{"nor if they are the lease's", wire(request, client, server, iaTA(1, own)), []string{"TA 1: NoAddrsAvail"}},
		{"no prefixes, §18.3.2", wire(request, client, server, iaPD(1), iaPD(2)), []string{"PD 1: NoPrefixAvail", "PD 2: NoPrefixAvail"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, m := answer(t, podLease(), tt.payload)
			if diff := cmp.Diff(tt.want, associations(t, m)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLeaseTimes(t *testing.T) {
	const forever = 0xffffffff * time.Second
	tests := []struct {
		name             string
		time             time.Duration
		lifetime, t1, t2 time.Duration
	}{
		{"infinite, §7.7", 0, forever, forever, forever},
		{"negative is infinite", -time.Second, forever, forever, forever},
		{"an hour: half and four fifths, §21.4", time.Hour, time.Hour, 30 * time.Minute, 48 * time.Minute},
		{"less than a second is one", time.Millisecond, time.Second, time.Second, time.Second},
		{"the longest is not taken for infinite", 1 << 62, 0xfffffffe * time.Second, 0x7fffffff * time.Second, 0xcccccccb * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Time = tt.time
			_, m := answer(t, l, wire(request, client, server, iaNA(1)))
			na := m.Options.OneIANA()
			got := []time.Duration{na.Options.OneAddress().ValidLifetime, na.T1, na.T2}
			if diff := cmp.Diff([]time.Duration{tt.lifetime, tt.t1, tt.t2}, got); diff != "" {
				t.Errorf("lifetime, T1, T2 (-want +got):\n%s", diff)
			}
		})
	}
}

// What there is no room for is left out, the important last, and said.
func TestAnswersFitTheLink(t *testing.T) {
	l := podLease()
	l.MTU = 0
	for i := range 60 {
		l.Search = append(l.Search, fmt.Sprintf("team-%d.svc.example.internal", i))
	}
	for i := range byte(20) {
		l.Addrs = append(l.Addrs, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: 100 + i}), 128))
	}
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("fd99::%x", i)
	}
	for mtu, want := range map[int][]string{
		0: {"24 (domain search): 40 of 63"}, 1280: {"24 (domain search): 47 of 63"}, 500: {"24 (domain search): 47 of 63"}, 9000: nil,
	} {
		l.MTU = mtu
		a, m := answer(t, l, wire(solicit, client, iaNA(1), ask(59, 39, 24, 23)))
		if diff := cmp.Diff(want, a.Dropped); diff != "" {
			t.Errorf("MTU %d, dropped (-want +got):\n%s", mtu, diff)
		}
		if got := len(m.Options.OneIANA().Options.Addresses()); got != 22 {
			t.Errorf("MTU %d: %d addresses", mtu, got)
		}
		if most := max(mtu, 1280) - 48; mtu > 0 && len(a.Payload) > most || mtu == 0 && len(a.Payload) > 1452 {
			t.Errorf("MTU %d: %d octets", mtu, len(a.Payload))
		}
	}
	l.MTU = 1280
	a, m := answer(t, l, wire(rebind, client, iaNA(1, many...), iaNA(2), iaPD(3)))
	want := []string{"3 (addresses): 10 of 52", "23 (DNS servers)", "24 (domain search)", "3 (addresses)", "25 (delegated prefixes)"}
	if diff := cmp.Diff(want, a.Dropped); diff != "" || len(m.Options.IANA()) != 1 {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
}
