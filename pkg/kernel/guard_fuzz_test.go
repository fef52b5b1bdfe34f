//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/podwire/podwire/pkg/plan"
)

func FuzzGuardAgreesWithItsReference(f *testing.F) {
	for _, c := range guardFrames {
		f.Add(c.frame)
	}
	for _, c := range frames {
		f.Add(c.frame)
	}
	known, unknown := guardVM(f, testGuard), guardVM(f, blind)
	f.Fuzz(func(t *testing.T, frame []byte) {
		for vm, g := range map[*bpf.VM]plan.Guard{known: testGuard, unknown: blind} {
			want := 2
			if mayPass(g, frame) {
				want = 7
			}
			if got, err := vm.Run(frame); err != nil || got != want {
				t.Errorf("verdict %d, %v, want %d", got, err, want)
			}
		}
	})
}

func FuzzHiddenMessagesAreFound(f *testing.F) {
	for _, c := range frames {
		f.Add(c.frame)
	}
	program, err := compile([]plan.Match{{Kind: plan.MatchRA}, {Kind: plan.MatchDHCP6Server}}, verdicts{match: 2, pass: 7})
	if err != nil {
		f.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		f.Fatal(err)
	}
	icmp := func(kind byte) bool { return kind != 134 }
	udp := func(src, dst uint16) bool { return src != 547 || dst != 546 }
	f.Fuzz(func(t *testing.T, frame []byte) {
		want := 7
		if len(frame) >= 54 && frame[12] == 0x86 && frame[13] == 0xdd {
			next, p := frame[20], frame[54:]
			if !mayHide(next, p, icmp, udp) ||
				next == 58 && len(p) >= 1 && !icmp(p[0]) ||
				next == 17 && len(p) >= 8 && !udp(binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])) {
				want = 2
			}
		}
		if got, err := vm.Run(frame); err != nil || got != want {
			t.Errorf("verdict %d, %v, want %d", got, err, want)
		}
	})
}

// mayPass is what a guard is for, said once more and otherwise.
func mayPass(g plan.Guard, frame []byte) bool {
	if len(frame) < 14 || [6]byte(frame[6:12]) != g.MAC {
		return false
	}
	packet := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		return mayARP(g, packet)
	case 0x0800:
		return mayIPv4(g, packet)
	case 0x86dd:
		return mayIPv6(g, packet)
	}
	return false
}

func mayARP(g plan.Guard, p []byte) bool {
	if len(p) < 14 || !bytes.Equal(p[:6], []byte{0, 1, 8, 0, 6, 4}) || [6]byte(p[8:14]) != g.MAC {
		return false
	}
	if !g.Known() {
		return true
	}
	if len(p) < 18 {
		return false
	}
	sender := netip.AddrFrom4([4]byte(p[14:18]))
	return slices.Contains(g.Addrs, sender) || sender == anyIP && p[6] == 0 && p[7] == 1
}

func mayIPv4(g plan.Guard, p []byte) bool {
	var transport []byte // of a first fragment
	if len(p) >= 20 {
		if header := int(p[0]&15) * 4; header <= len(p) && binary.BigEndian.Uint16(p[6:])&0x1fff == 0 {
			transport = p[header:]
		}
	}
	// Too little for a packet without options is no packet.
	has := func(protocol byte, octets int) bool {
		return len(p) >= 20+octets && p[9] == protocol && len(transport) >= octets
	}
	if has(1, 1) && transport[0] == 5 || has(17, 4) && binary.BigEndian.Uint16(transport[2:]) == 68 {
		return false
	}
	if !g.Known() {
		return true
	}
	if len(p) < 16 {
		return false
	}
	src := netip.AddrFrom4([4]byte(p[12:16]))
	return slices.Contains(g.Addrs, src) || src == anyIP && has(17, 4) && binary.BigEndian.Uint16(transport[2:]) == 67
}

func mayIPv6(g plan.Guard, p []byte) bool {
	var next byte
	var payload []byte
	if len(p) > 6 {
		next = p[6]
	}
	if len(p) >= 40 {
		payload = p[40:]
	}
	if next == 58 && !mayND(g, p, payload) || next == 17 && len(payload) >= 4 && binary.BigEndian.Uint16(payload[2:]) == 546 {
		return false
	}
	others := func(kind byte) bool { return kind < 133 || kind > 137 }
	if len(p) >= 40 && !mayHide(next, payload, others, func(_, dst uint16) bool { return dst != 546 }) {
		return false
	}
	if !g.Known() {
		return true
	}
	if len(p) < 16 {
		return false
	}
	if len(p) >= 24 {
		switch src := netip.AddrFrom16([16]byte(p[8:24])); {
		case src == anyIP6:
			return mayAskFirst(g, next, payload)
		case slices.Contains(g.Others, src):
			return false
		case slices.Contains(g.Addrs, src):
			return true
		}
	}
	return bytes.Equal(p[8:16], []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0})
}

// mayHide looks behind extension headers.
func mayHide(next byte, p []byte, icmp func(kind byte) bool, udp func(src, dst uint16) bool) bool {
	extension := func() bool { return next == 0 || next == 43 || next == 60 || next == 44 }
	if !extension() {
		return true
	}
	for range 8 {
		if !extension() {
			break
		}
		if len(p) < 8 {
			return false
		}
		length := 8
		if next != 44 {
			length += 8 * int(p[1])
		} else if binary.BigEndian.Uint16(p[2:])&0xfff8 != 0 {
			return true
		}
		next = p[0]
		p = p[min(length, len(p)):]
		if length > 8 && len(p) == 0 && extension() {
			return false
		}
	}
	switch {
	case extension():
		return false
	case next == 58:
		return len(p) >= 1 && icmp(p[0])
	case next == 17:
		return len(p) >= 8 && udp(binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]))
	}
	return true
}

func mayND(g plan.Guard, header, p []byte) bool {
	if len(p) == 0 {
		return true
	}
	options := 24
	switch p[0] {
	case 134, 137:
		return false
	case 133:
		options = 8
	case 136:
		if g.Known() && !mayBeOf(g, p) {
			return false
		}
	case 135:
	default:
		return true
	}
	if binary.BigEndian.Uint16(header[4:]) > uint16(options+32) {
		return false
	}
	for i := range 4 {
		at := options + 8*i
		if len(p) >= at+8 && (p[at] == 1 || p[at] == 2) && p[at+1] == 1 && [6]byte(p[at+2:at+8]) != g.MAC {
			return false
		}
	}
	return true
}

// mayBeOf reports whether what a message is about may be the guest's. What is cut
// short is about nothing.
func mayBeOf(g plan.Guard, p []byte) bool {
	if len(p) < 24 {
		return true
	}
	target := netip.AddrFrom16([16]byte(p[8:24]))
	return !slices.Contains(g.Others, target) &&
		(slices.Contains(g.Addrs, target) || bytes.Equal(p[8:16], []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0}))
}

func mayAskFirst(g plan.Guard, next byte, p []byte) bool {
	listener := func(kind byte) bool { return kind == 131 || kind == 132 || kind == 143 }
	switch {
	case next == 58 && len(p) > 0:
		return p[0] == 135 && mayBeOf(g, p) || p[0] == 133 || listener(p[0])
	case next == 0 && len(p) > 8:
		return p[0] == 58 && p[1] == 0 && listener(p[8])
	}
	return false
}
