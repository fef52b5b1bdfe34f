package neighbor

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/frame"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var (
	guest   = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	stray   = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x08}
	server  = netstate.MAC{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}
	gateway = netstate.MAC{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// awsLease is a pod of the AWS VPC CNI: a permanent neighbour stands for the
// gateway.
func awsLease() lease.Lease {
	return lease.Lease{
		MAC:   guest,
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.3.7/32"), netip.MustParsePrefix("10.0.3.8/32")},
		Neighbors: []lease.Neighbor{
			{Addr: addr("169.254.1.1"), MAC: gateway},
			{Addr: addr("fe80::1"), MAC: gateway},
			{Addr: addr("10.0.3.8"), MAC: gateway}, // the lease's own: never answered
			{Addr: addr("10.0.3.9")},               // no MAC: nothing to answer with
		},
		Server: lease.Server{ID: addr("169.254.75.1"), MAC: server},
	}
}

// whoHas is the request that asks for target in the name of sender.
func whoHas(target, sender string) frame.ARP {
	return frame.ARP{
		SrcMAC: guest, DstMAC: frame.Broadcast, Op: frame.ARPRequest,
		SenderMAC: guest, SenderIP: addr(sender), TargetIP: addr(target),
	}
}

func TestAnswers(t *testing.T) {
	revalidate := whoHas("169.254.75.1", "10.0.3.7")
	revalidate.DstMAC = server
	tests := []struct {
		name string
		ask  frame.ARP
		mac  netstate.MAC
	}{
		{"for the server identifier", whoHas("169.254.75.1", "10.0.3.7"), server},
		{"a unicast question, as Linux asks again", revalidate, server},
		{"a probe for the server identifier: the address is taken", whoHas("169.254.75.1", "0.0.0.0"), server},
		{"for a permanent neighbour", whoHas("169.254.1.1", "10.0.3.7"), gateway},
		{"a probe for a permanent neighbour", whoHas("169.254.1.1", "0.0.0.0"), gateway},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply, ok := Reply(awsLease(), frame.AppendARP(nil, tt.ask))
			if !ok {
				t.Fatal("silence")
			}
			got, err := frame.ParseARP(reply)
			if err != nil {
				t.Fatal(err)
			}
			want := frame.ARP{
				SrcMAC: tt.mac, DstMAC: guest, Op: frame.ARPReply,
				SenderMAC: tt.mac, SenderIP: tt.ask.TargetIP,
				TargetMAC: guest, TargetIP: tt.ask.SenderIP,
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsSilent(t *testing.T) {
	foreign := whoHas("169.254.75.1", "10.0.3.7")
	foreign.SrcMAC = stray
	answer := whoHas("169.254.75.1", "10.0.3.7")
	answer.Op = frame.ARPReply
	tests := []struct {
		name string
		ask  frame.ARP
	}{
		{"to another MAC", foreign},
		{"to an ARP reply", answer},
		{"to a probe for the guest's own address", whoHas("10.0.3.7", "0.0.0.0")},
		{"to an announcement of the guest's own address", whoHas("10.0.3.7", "10.0.3.7")},
		{"to a probe for its own address that is a neighbour, too", whoHas("10.0.3.8", "0.0.0.0")},
		{"to a question for a neighbour without a MAC", whoHas("10.0.3.9", "10.0.3.7")},
		{"to a question for anyone else", whoHas("10.0.3.1", "10.0.3.7")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if reply, ok := Reply(awsLease(), frame.AppendARP(nil, tt.ask)); ok {
				t.Errorf("answered % x", reply)
			}
		})
	}
}

func TestIsSilentWithoutAServer(t *testing.T) {
	l := awsLease()
	l.Server = lease.Server{}
	if reply, ok := Reply(l, frame.AppendARP(nil, whoHas("169.254.75.1", "10.0.3.7"))); ok {
		t.Errorf("answered % x", reply)
	}
	l.Server.ID = addr("169.254.75.1")
	if reply, ok := Reply(l, frame.AppendARP(nil, whoHas("169.254.75.1", "10.0.3.7"))); ok {
		t.Errorf("answered without a MAC: % x", reply)
	}
}

func TestIsSilentToWhatIsNoARP(t *testing.T) {
	good := frame.AppendARP(nil, whoHas("169.254.75.1", "10.0.3.7"))
	for n := range len(good) {
		if _, ok := Reply(awsLease(), good[:n]); ok {
			t.Errorf("answered the first %d octets of a request", n)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(frame.AppendARP(nil, whoHas("169.254.75.1", "10.0.3.7")))
	f.Add(frame.AppendARP(nil, whoHas("10.0.3.7", "0.0.0.0")))
	f.Add([]byte{})
	l := awsLease()
	f.Fuzz(func(t *testing.T, request []byte) {
		reply, ok := Reply(l, request)
		if !ok || frame.EtherType(request) == frame.EtherTypeIPv6 { // FuzzNeighborReply's
			return
		}
		got, err := frame.ParseARP(reply)
		if err != nil {
			t.Fatal(err)
		}
		if got.DstMAC != guest || got.Op != frame.ARPReply {
			t.Errorf("answered %v, operation %d", got.DstMAC, got.Op)
		}
		for _, own := range l.Addrs {
			if got.SenderIP == own.Addr() {
				t.Errorf("told the guest that its own address %v is taken", own.Addr())
			}
		}
	})
}

func BenchmarkReply(b *testing.B) {
	l, request := awsLease(), frame.AppendARP(nil, whoHas("169.254.1.1", "10.0.3.7"))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Reply(l, request); !ok {
			b.Fatal("silence")
		}
	}
}
