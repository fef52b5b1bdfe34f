package dhcp6

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podwire/podwire/pkg/lease"
)

// FuzzReply holds for any octets that a guest may send, wherever it sends them: no
// panic; the answer can be read, is for the same transaction and the same client,
// hands out no address but the lease's, has no empty option but rapid commit, and
// keeps to the size that the link can take.
func FuzzReply(f *testing.F) {
	for _, payload := range seeds() {
		f.Add(payload, true)
		f.Add(payload, false)
	}
	big := podLease()
	big.MTU = 1280
	for i := range 100 {
		big.Search = append(big.Search, fmt.Sprintf("team-%d.example", i))
	}
	leases := []lease.Lease{podLease(), plainLease(), big}
	f.Fuzz(func(t *testing.T, payload []byte, toAll bool) {
		req, err := Parse(payload)
		if err != nil {
			return
		}
		dst := unicast
		if toAll {
			dst = servers
		}
		for _, l := range leases {
			a, ok := Reply(l, req, dst)
			if !ok {
				if a.Reason == "" || a.Payload != nil {
					t.Errorf("silence: reason %q, %d octets", a.Reason, len(a.Payload))
				}
				continue
			}
			m := check(t, l, a)
			if !bytes.Equal(m.TransactionID[:], payload[1:4]) {
				t.Errorf("transaction % x for % x", m.TransactionID, payload[1:4])
			}
			if id := (opt{1, req.ClientID}).bytes(); bytes.HasPrefix(a.Payload[4:], id) != (req.ClientID != nil) {
				t.Errorf("% x for client % x", a.Payload, req.ClientID)
			}
			if !toAll && !slices.Contains(codes(m), optStatus) {
				t.Error("a unicast message is answered without a status")
			}
			again, _ := Reply(l, req, dst)
			if diff := cmp.Diff(a, again); diff != "" {
				t.Errorf("the same request is answered otherwise:\n%s", diff)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	payload := wire(request, client, server, iaNA(1, "fd00:10:244::7"), ask(23, 24, 39, 56), fqdn(1, "\x02vm"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReply(b *testing.B) {
	req, err := Parse(wire(request, client, server, iaNA(1, "fd00:10:244::7"), ask(23, 24, 39, 56)))
	if err != nil {
		b.Fatal(err)
	}
	l := podLease()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Reply(l, req, servers); !ok {
			b.Fatal("silence")
		}
	}
}
