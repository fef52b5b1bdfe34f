package dhcp6

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/lease"
)

func TestReplyToEachKindOfMessage(t *testing.T) {
	own, other := "fd00:10:244::7", "fd00:10:244::99"
	tests := []struct {
		name    string
		payload []byte
		want    dhcpv6.MessageType
		codes   []uint16
		status  string
		reason  string
	}{
		{"SOLICIT, §18.3.9", wire(solicit, client, iaNA(1)), advertise, []uint16{1, 2, 7, 3, 23, 24}, "", ""},
		{"SOLICIT for a prefix alone", wire(solicit, client, iaPD(1)), advertise, []uint16{1, 2, 7, 23, 24, 25}, "", ""},
		{"SOLICIT for nothing", wire(solicit, client), advertise, []uint16{1, 2, 7, 23, 24}, "", ""},
		{"SOLICIT with rapid commit, §18.3.1", wire(solicit, client, rapid, iaNA(1)), reply, []uint16{1, 2, 14, 3, 23, 24}, "", ""},
		{"REQUEST, §18.3.2", wire(request, client, server, iaNA(1, own)), reply, []uint16{1, 2, 3, 23, 24}, "", ""},
		{"REQUEST knows no rapid commit, §21.14", wire(request, client, server, rapid, iaNA(1)), reply, []uint16{1, 2, 3, 23, 24}, "", ""},
		{"CONFIRM of the lease's, §18.3.3", wire(confirm, client, iaNA(1, own, "2001:db8::7")), reply, []uint16{1, 2, 13}, "Success", ""},
		{"CONFIRM of another in the prefix", wire(confirm, client, iaNA(1, own, other)), reply, []uint16{1, 2, 13}, "NotOnLink", ""},
		{"CONFIRM of another in a further IA_NA", wire(confirm, client, iaNA(1, own), iaNA(2, "fd01::1")), reply, []uint16{1, 2, 13}, "NotOnLink", ""},
		{"CONFIRM of a temporary address", wire(confirm, client, iaTA(1, other)), reply, []uint16{1, 2, 13}, "NotOnLink", ""},
		{"RENEW, §18.3.4", wire(renew, client, server, iaNA(1, own)), reply, []uint16{1, 2, 3, 23, 24}, "", ""},
		{"REBIND, §18.3.5", wire(rebind, client, iaNA(1, own)), reply, []uint16{1, 2, 3, 23, 24}, "", ""},
		{"INFORMATION-REQUEST, §18.3.6", wire(inform, client), reply, []uint16{1, 2, 23, 24}, "", ""},
		{"INFORMATION-REQUEST without an identifier", wire(inform), reply, []uint16{2, 23, 24}, "", ""},
		{"INFORMATION-REQUEST to this server, §16.12", wire(inform, server), reply, []uint16{2, 23, 24}, "", ""},
		{"RELEASE, §18.3.7", wire(release, client, server, iaNA(1, own)), reply, []uint16{1, 2, 13}, "Success", "release"},
		{"RELEASE of what it has not", wire(release, client, server, iaNA(1, other), iaPD(2)), reply, []uint16{1, 2, 13, 3, 25}, "Success", "release"},
		{"RELEASE of a temporary address", wire(release, client, server, iaTA(1, own)), reply, []uint16{1, 2, 13, 4}, "Success", "release"},
		{"DECLINE, §18.3.8", wire(decline, client, server, iaNA(1, own)), reply, []uint16{1, 2, 13}, "Success", "decline"},
		{"DECLINE of what it has not", wire(decline, client, server, iaNA(1, other)), reply, []uint16{1, 2, 13, 3}, "Success", "decline"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, m := answer(t, podLease(), tt.payload)
			if a.Type != tt.want || a.Status != tt.status || a.Reason != tt.reason || len(a.Dropped) > 0 {
				t.Errorf("type %v, status %q, reason %q, dropped %q", a.Type, a.Status, a.Reason, a.Dropped)
			}
			if diff := cmp.Diff(tt.codes, codes(m)); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
			if m.TransactionID != xid {
				t.Errorf("transaction %v", m.TransactionID)
			}
			if !bytes.Equal(value(t, m, dhcpv6.OptionServerID), ourDUID) {
				t.Errorf("server % x", value(t, m, dhcpv6.OptionServerID))
			}
			if tt.codes[0] == 1 && !bytes.Equal(value(t, m, dhcpv6.OptionClientID), clientDUID) {
				t.Errorf("client % x", value(t, m, dhcpv6.OptionClientID))
			}
			if s := m.Options.Status(); s != nil && s.StatusCode.String() != tt.status {
				t.Errorf("status %v in the message", s)
			}
			if tt.want == advertise && m.Options.Preference() != 255 {
				t.Errorf("preference %d: the client waits for others", m.Options.Preference())
			}
		})
	}
}

func TestSilenceAndItsReason(t *testing.T) {
	own := "fd00:10:244::7"
	noIPv6, noServer := podLease(), podLease()
	noIPv6.Addrs = noIPv6.Addrs[:1]
	noServer.Server.LinkLocal = netip.Addr{}
	another := opt{2, clientDUID}
	tests := []struct {
		name    string
		lease   lease.Lease
		payload []byte
		dst     netip.Addr
		want    string
	}{
		{"from a relay", podLease(), wire(dhcpv6.MessageTypeRelayForward), servers, "relayed"},
		{"to a relay, §16.14", podLease(), wire(dhcpv6.MessageTypeRelayReply), servers, "relayed"},
		{"ADVERTISE, §16.3", podLease(), wire(advertise, client, server), servers, "other-type"},
		{"REPLY, §16.10", podLease(), wire(reply, client, server), servers, "other-type"},
		{"RECONFIGURE, §16.11", podLease(), wire(dhcpv6.MessageTypeReconfigure), servers, "other-type"},
		{"an unknown type, §16", podLease(), wire(200), servers, "other-type"},
		{"a lease without IPv6", noIPv6, wire(solicit, client), servers, "no-ipv6"},
		{"a lease without a server", noServer, wire(solicit, client), servers, "no-ipv6"},
		{"SOLICIT without a client, §16.2", podLease(), wire(solicit), servers, "no-client-id"},
		{"SOLICIT with a server, §16.2", podLease(), wire(solicit, client, server), servers, "unwanted-server-id"},
		{"REQUEST without a server, §16.4", podLease(), wire(request, client), servers, "no-server-id"},
		{"REQUEST to another server, §16.4", podLease(), wire(request, client, another), servers, "other-server"},
		{"REQUEST to a server without a name", podLease(), wire(request, client, opt{code: 2}), servers, "other-server"},
		{"REQUEST without a client, §16.4", podLease(), wire(request, server), servers, "no-client-id"},
		{"CONFIRM without a client, §16.5", podLease(), wire(confirm, iaNA(1, own)), servers, "no-client-id"},
		{"CONFIRM with a server, §16.5", podLease(), wire(confirm, client, server, iaNA(1, own)), servers, "unwanted-server-id"},
		{"CONFIRM of no address, §18.3.3", podLease(), wire(confirm, client, iaNA(1), iaPD(2)), servers, "no-address"},
		{"RENEW without a server, §16.6", podLease(), wire(renew, client), servers, "no-server-id"},
		{"RENEW to another server, §16.6", podLease(), wire(renew, client, another), servers, "other-server"},
		{"REBIND with a server, §16.7", podLease(), wire(rebind, client, server), servers, "unwanted-server-id"},
		{"REBIND without a client, §16.7", podLease(), wire(rebind), servers, "no-client-id"},
		{"DECLINE to another server, §16.8", podLease(), wire(decline, client, another, iaNA(1, own)), servers, "other-server"},
		{"RELEASE without a server, §16.9", podLease(), wire(release, client, iaNA(1, own)), servers, "no-server-id"},
		{"INFORMATION-REQUEST to another server, §16.12", podLease(), wire(inform, another), servers, "other-server"},
		{"INFORMATION-REQUEST for addresses, §16.12", podLease(), wire(inform, client, iaNA(1)), servers, "unwanted-ia"},
		{"SOLICIT to one server, §16", podLease(), wire(solicit, client, iaNA(1)), unicast, "not-multicast"},
		{"CONFIRM to one server, §16", podLease(), wire(confirm, client, iaNA(1, own)), unicast, "not-multicast"},
		{"REBIND to one server, §16", podLease(), wire(rebind, client, iaNA(1)), unicast, "not-multicast"},
		{"INFORMATION-REQUEST to one server, §16", podLease(), wire(inform, client), unicast, "not-multicast"},
		{"RENEW to one server that is another", podLease(), wire(renew, client, another), unicast, "other-server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := Parse(tt.payload)
			if err != nil {
				t.Fatal(err)
			}
			a, ok := Reply(tt.lease, req, tt.dst)
			if diff := cmp.Diff(Answer{Reason: tt.want}, a); ok || diff != "" {
				t.Errorf("answered %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

// RFC 8415 §18.4: the status, both identifiers, and no other options.
func TestUnicastIsToldToUseMulticast(t *testing.T) {
	for _, kind := range []dhcpv6.MessageType{request, renew, release, decline} {
		a, m := answerAt(t, podLease(), wire(kind, client, server, iaNA(1, "fd00:10:244::7"), ask(23)), unicast)
		if diff := cmp.Diff([]uint16{1, 2, 13}, codes(m)); diff != "" || a.Type != reply || a.Status != "UseMulticast" || a.Reason != "" {
			t.Errorf("%v: %v %s %q (-want +got):\n%s", kind, a.Type, a.Status, a.Reason, diff)
		}
	}
}

func TestDeclineSaysWhichAddressIsTaken(t *testing.T) {
	a, _ := answer(t, podLease(), wire(decline, client, server, iaNA(1, "2001:db8::7")))
	if want := "the guest declined its address 2001:db8::7: somebody else answers for it"; a.Warning != want {
		t.Errorf("warning %q, want %q", a.Warning, want)
	}
	a, m := answer(t, podLease(), wire(decline, client, server, iaNA(1, "2001:db8::8")))
	if a.Warning != "" {
		t.Errorf("warning %q about an address that it never had", a.Warning)
	}
	if s := m.Options.OneIANA().Options.Status(); s == nil || s.StatusCode.String() != "NoBinding" {
		t.Errorf("status %v of the IA_NA", s)
	}
}
