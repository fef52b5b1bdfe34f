package dhcp4

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/lease"
)

// FuzzReply holds for any octets that a guest may send: no panic; only the
// lease's MAC is answered; the answer can be read, has no empty option but rapid
// commit, and keeps to the size that client and link can take.
func FuzzReply(f *testing.F) {
	for _, payload := range [][]byte{
		{},
		discover(), selecting(params(1, 3, 6, 121, 249, 119, 58, 59, 240), maxSize(1500)),
		discover(opt{code: optRapidCommit}, text(optClientID, "\x01id"), text(optFQDN, "\x05\x00\x00\x02vm\x00")),
		request(ciaddr("10.244.1.7")), request(ip(optRequestedIP, "10.9.9.9")),
		wire(dhcpv4.MessageTypeInform, ciaddr("10.244.1.7"), params(6)),
		discover(opt{optOverload, []byte{3}}, set(fileAt, optParams, 1, 3, optEnd), set(snameAt, optEnd)),
		discover(text(optClientID, string(make([]byte, 400)))), discover(set(2, 200)), discover(set(24, 1)),
	} {
		f.Add(payload)
	}
	leases := []lease.Lease{podLease(), plainLease(), bigLease()}
	f.Fuzz(func(t *testing.T, payload []byte) {
		req, err := Parse(payload)
		if err != nil {
			return
		}
		for _, l := range leases {
			a, ok := Reply(l, req)
			if !ok {
				if a.Reason == "" || a.Payload != nil {
					t.Errorf("silence: reason %q, %d octets", a.Reason, len(a.Payload))
				}
				continue
			}
			if !bytes.Equal(payload[28:34], guestMAC[:]) {
				t.Errorf("answered % x", payload[28:34])
			}
			p := check(t, a.Payload)
			if p.MessageType() != a.Type || !slices.Contains([]dhcpv4.MessageType{offer, ack, nak}, a.Type) {
				t.Errorf("type %v, %v in the message", a.Type, p.MessageType())
			}
			if got := len(a.Payload) + headersLen; got > max(req.MaxSize, 576) || got > l.MTU {
				t.Errorf("a datagram of %d octets", got)
			}
			if !a.Dst.Addr().Is4() || a.Dst.Port() != clientPort {
				t.Errorf("to %v", a.Dst)
			}
			again, _ := Reply(l, req)
			if diff := cmp.Diff(a, again, byValue); diff != "" {
				t.Errorf("the same request is answered otherwise:\n%s", diff)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	payload := selecting(params(1, 3, 6, 12, 15, 26, 28, 42, 51, 54, 119, 121), text(optHostname, "vm-0"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReply(b *testing.B) {
	for _, bench := range []struct {
		name    string
		lease   lease.Lease
		options []opt
	}{
		{"usual", podLease(), []opt{params(1, 3, 6, 12, 15, 26, 28, 42, 51, 54, 119, 121)}},
		{"200 routes, 30 domains, 9000 octets", bigLease(), []opt{params(1, 3, 6, 119, 121), maxSize(9000)}},
		{"200 routes, 30 domains, 576 octets", bigLease(), []opt{params(1, 3, 6, 119, 121)}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			req, err := Parse(selecting(bench.options...))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := Reply(bench.lease, req); !ok {
					b.Fatal("silence")
				}
			}
		})
	}
}
