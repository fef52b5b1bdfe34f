package frame

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const whoHas = `
	ffffffffffff 0a580af40107 0806
	0001 0800 06 04 0001
	0a580af40107 0af40107
	000000000000 a9fe4b01`

func TestARPReadsAndWritesTheSameOctets(t *testing.T) {
	want := ARP{
		SrcMAC: guest, DstMAC: Broadcast, Op: ARPRequest,
		SenderMAC: guest, SenderIP: netip.MustParseAddr("10.244.1.7"),
		TargetIP: netip.MustParseAddr("169.254.75.1"),
	}
	golden := unhex(t, whoHas)
	if diff := cmp.Diff(golden, AppendARP(nil, want)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	for _, padding := range []int{0, 18, 100} {
		got, err := ParseARP(append(bytes.Clone(golden), make([]byte, padding)...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, byValue); diff != "" {
			t.Errorf("read with %d octets behind it (-want +got):\n%s", padding, diff)
		}
	}
}

func TestParseARPRefuses(t *testing.T) {
	golden := unhex(t, whoHas)
	with := func(i int, v byte) []byte {
		b := bytes.Clone(golden)
		b[i] = v
		return b
	}
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, errShortEthernet},
		{"half an Ethernet header", golden[:10], errShortEthernet},
		{"IPv4", with(13, 0), errNotARP},
		{"an Ethernet header alone", golden[:14], errShortARP},
		{"one octet short", golden[:41], errShortARP},
		{"another hardware", with(15, 6), errARPKind},
		{"another protocol", with(16, 0x86), errARPKind},
		{"hardware addresses of 8 octets", with(18, 8), errARPKind},
		{"protocol addresses of 16 octets", with(19, 16), errARPKind},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseARP(tt.frame); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAppendARPLeavesOutWhatIsNotIPv4(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, a := range []ARP{{}, {SenderIP: v4}, {SenderIP: v6, TargetIP: v4}, {SenderIP: v4, TargetIP: v6}} {
		if got := AppendARP([]byte("kept"), a); string(got) != "kept" {
			t.Errorf("%v: got %d octets", a, len(got))
		}
	}
}

func FuzzParseARP(f *testing.F) {
	f.Add(unhex(f, whoHas))
	f.Add(unhex(f, whoHas)[:30])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := ParseARP(b)
		if err != nil {
			return
		}
		if out := AppendARP(nil, in); !bytes.Equal(out, b[:len(out)]) {
			t.Errorf("read and written again:\n% x, want\n% x", out, b)
		}
	})
}
