package dhcp6

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/lease"
)

// assigned returns the addresses that a client takes from a reply.
func assigned(t *testing.T, m *dhcpv6.Message) (out []netip.Addr) {
	t.Helper()
	for _, ia := range m.Options.OneIANA().Options.Addresses() {
		if a, ok := netip.AddrFromSlice(ia.IPv6Addr); ok && ia.ValidLifetime > 0 {
			out = append(out, a)
		}
	}
	return out
}

// TestExchangeWithALibrarysClient plays the client's side of RFC 8415 §5 with a
// library that has no part in what is written here.
func TestExchangeWithALibrarysClient(t *testing.T) {
	mac := podLease().MAC
	sol, err := dhcpv6.NewSolicit(net.HardwareAddr(mac[:]), dhcpv6.WithFQDN(1, "guest"), dhcpv6.WithRequestedOptions(dhcpv6.OptionNTPServer))
	if err != nil {
		t.Fatal(err)
	}
	adv := send(t, podLease(), sol)
	want := addrs("fd00:10:244::7", "2001:db8::7")
	if diff := cmp.Diff(want, assigned(t, adv), byValue); diff != "" {
		t.Errorf("ADVERTISE (-want +got):\n%s", diff)
	}
	req, err := dhcpv6.NewRequestFromAdvertise(adv)
	if err != nil {
		t.Fatal(err)
	}
	rep := send(t, podLease(), req)
	if rep.MessageType != reply {
		t.Errorf("%v", rep.MessageType)
	}
	if diff := cmp.Diff(want, assigned(t, rep), byValue); diff != "" {
		t.Errorf("REPLY (-want +got):\n%s", diff)
	}
	if rep.Options.OneIANA().IaId != sol.Options.OneIANA().IaId || !rep.Options.ClientID().Equal(sol.Options.ClientID()) {
		t.Errorf("for another client: %s", rep.Summary())
	}
	var dns []netip.Addr
	for _, ip := range rep.Options.DNS() {
		a, _ := netip.AddrFromSlice(ip)
		dns = append(dns, a)
	}
	if diff := cmp.Diff(addrs("fd00::a", "fd00::b"), dns, byValue); diff != "" {
		t.Errorf("DNS (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(podLease().Search, rep.Options.DomainSearchList().Labels); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
	if got := len(adv.Options.NTPServers()); got != 2 {
		t.Errorf("%d NTP servers", got)
	}
	if f := adv.Options.FQDN(); f == nil || !slices.Equal(f.DomainName.Labels, []string{"vm-0.default.svc.cluster.local"}) || f.Flags != 6 {
		t.Errorf("host name %v", f)
	}
}

// A pod is made anew under a guest that was bound: its old address goes, the new
// one comes, in one RENEW.
func TestRenewAfterTheLeaseChanged(t *testing.T) {
	_, bound := answer(t, podLease(), wire(request, client, server, iaNA(1)))
	changed := podLease()
	changed.Addrs[1] = prefix("fd00:10:244::8/64")
	ren := &dhcpv6.Message{MessageType: renew, TransactionID: bound.TransactionID, Options: bound.Options}
	rep := send(t, changed, ren)
	if diff := cmp.Diff(addrs("fd00:10:244::8", "2001:db8::7"), assigned(t, rep), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"NA 1: fd00:10:244::8 2001:db8::7 -fd00:10:244::7"}, associations(t, rep)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRapidCommitTakesOneExchange(t *testing.T) {
	mac := podLease().MAC
	sol, err := dhcpv6.NewSolicit(net.HardwareAddr(mac[:]), dhcpv6.WithRapidCommit)
	if err != nil {
		t.Fatal(err)
	}
	rep := send(t, podLease(), sol)
	if rep.MessageType != reply || rep.GetOneOption(dhcpv6.OptionRapidCommit) == nil || len(assigned(t, rep)) != 2 {
		t.Errorf("%s", rep.Summary())
	}
}

func send(t *testing.T, l lease.Lease, m *dhcpv6.Message) *dhcpv6.Message {
	t.Helper()
	a, out := answer(t, l, m.ToBytes())
	if out.TransactionID != m.TransactionID || len(a.Dropped) > 0 || a.Reason != "" {
		t.Errorf("transaction %v for %v, dropped %q, reason %q", out.TransactionID, m.TransactionID, a.Dropped, a.Reason)
	}
	return out
}
