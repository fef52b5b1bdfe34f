package dhcp4

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var (
	guestMAC = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	serverID = netip.MustParseAddr("169.254.75.1")
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func via(dst, gw string) lease.Route { return lease.Route{Dst: prefix(dst), Via: addr(gw)} }
func direct(dst string) lease.Route  { return lease.Route{Dst: prefix(dst)} }

// podLease is a dual-stack pod behind a bridge CNI, with all that a lease holds.
func podLease() lease.Lease {
	return lease.Lease{
		MAC:        guestMAC,
		Addrs:      []netip.Prefix{prefix("fd00:10:244::7/64"), prefix("10.244.1.7/24")},
		Routes:     []lease.Route{direct("10.244.1.0/24"), via("0.0.0.0/0", "10.244.1.1"), via("::/0", "fd00:10:244::1")},
		MTU:        1450,
		DNS:        []netip.Addr{addr("fd00::a"), addr("10.96.0.10")},
		Search:     []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		Hostname:   "vm-0",
		Domain:     "default.svc.cluster.local",
		NTP:        []netip.Addr{addr("10.0.0.123"), addr("fd00::123")},
		TFTPServer: "10.0.0.69",
		BootFile:   "pxelinux.0",
		Options:    map[uint8]string{240: "private", 241: "", 252: "http://wpad/wpad.dat", 43: "not ours"},
		Time:       time.Hour,
		Server:     lease.Server{ID: serverID, MAC: netstate.MAC{2, 0, 0, 0, 0, 1}},
	}
}

// plainLease is the least that a pod has.
func plainLease() lease.Lease {
	return lease.Lease{
		MAC:    guestMAC,
		Addrs:  []netip.Prefix{prefix("10.244.1.7/24")},
		Routes: []lease.Route{via("0.0.0.0/0", "10.244.1.1")},
		MTU:    1500,
		Server: lease.Server{ID: serverID},
	}
}

// opt is an option on the wire.
type opt struct {
	code uint8
	data []byte
}

func ip(code uint8, s string) opt     { return opt{code, addr(s).AsSlice()} }
func text(code uint8, s string) opt   { return opt{code, []byte(s)} }
func params(codes ...uint8) opt       { return opt{optParams, codes} }
func maxSize(n uint16) opt            { return opt{optMaxSize, binary.BigEndian.AppendUint16(nil, n)} }
func kind(t dhcpv4.MessageType) opt   { return opt{optMessageType, []byte{byte(t)}} }
func set(at int, v ...byte) opt       { return opt{optPad, append([]byte{byte(at)}, v...)} }
func ciaddr(s string) opt             { return set(12, addr(s).AsSlice()...) }
func discover(options ...opt) []byte  { return wire(dhcpv4.MessageTypeDiscover, options...) }
func request(options ...opt) []byte   { return wire(dhcpv4.MessageTypeRequest, options...) }
func selecting(options ...opt) []byte { return request(append(chosen(), options...)...) }

func chosen() []opt {
	return []opt{{optServerID, serverID.AsSlice()}, ip(optRequestedIP, "10.244.1.7")}
}

// wire builds a client's message by hand. A pad option, made by set, writes into
// the header instead.
func wire(t dhcpv4.MessageType, options ...opt) []byte {
	b := make([]byte, optionsAt)
	b[0], b[1], b[2] = bootRequest, hardwareEther, 6
	copy(b[4:], []byte{0xde, 0xad, 0xbe, 0xef})
	copy(b[28:], guestMAC[:])
	copy(b[cookieAt:], cookie[:])
	if t != dhcpv4.MessageTypeNone {
		options = append([]opt{kind(t)}, options...)
	}
	for _, o := range options {
		if o.code == optPad {
			copy(b[o.data[0]:], o.data[1:])
			continue
		}
		for len(o.data) > longestOption {
			b = append(append(b, o.code, longestOption), o.data[:longestOption]...)
			o.data = o.data[longestOption:]
		}
		b = append(append(b, o.code, byte(len(o.data))), o.data...)
	}
	return append(b, optEnd)
}

// answer parses and replies; the test fails on silence.
func answer(t testing.TB, l lease.Lease, payload []byte) Answer {
	t.Helper()
	req, err := Parse(payload)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := Reply(l, req)
	if !ok {
		t.Fatalf("no answer: %s", a.Reason)
	}
	check(t, a.Payload)
	return a
}

// walk lists the options of one area as they stand there.
func walk(t testing.TB, b []byte) (out []opt) {
	t.Helper()
	for len(b) > 0 && b[0] != optEnd {
		if b[0] == optPad {
			t.Fatal("padding before the end option")
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			t.Fatal("an option goes beyond its area")
		}
		n := 2 + int(b[1])
		out = append(out, opt{b[0], b[2:n]})
		b = b[n:]
	}
	if len(b) == 0 {
		t.Fatal("no end option")
	}
	return out
}

// allOptions reads a reply as RFC 3396 has it: three areas, pieces put together,
// in the order in which they first appear.
func allOptions(t testing.TB, payload []byte) (codes []uint8, values map[uint8][]byte) {
	t.Helper()
	raw := walk(t, payload[optionsAt:])
	how := overloadNone
	for _, o := range raw {
		if o.code == optOverload {
			how = overload(o.data[0])
		}
	}
	if how.hasFile() {
		raw = append(raw, walk(t, payload[fileAt:cookieAt])...)
	}
	if how.hasSname() {
		raw = append(raw, walk(t, payload[snameAt:fileAt])...)
	}
	values = map[uint8][]byte{}
	for _, o := range raw {
		if _, ok := values[o.code]; !ok {
			codes = append(codes, o.code)
		}
		values[o.code] = append(values[o.code], o.data...)
	}
	return codes, values
}

// check holds what is true of every reply.
func check(t testing.TB, payload []byte) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.FromBytes(payload)
	if err != nil {
		t.Fatalf("the library cannot read the reply: %v", err)
	}
	if p.OpCode != dhcpv4.OpcodeBootReply || !bytes.Equal(p.ClientHWAddr, guestMAC[:]) {
		t.Errorf("op %v to %v", p.OpCode, p.ClientHWAddr)
	}
	if len(payload) < leastMessage {
		t.Errorf("%d octets are less than a BOOTP message has", len(payload))
	}
	codes, values := allOptions(t, payload)
	if codes[0] != optMessageType {
		t.Errorf("option %d comes before the message type", codes[0])
	}
	for _, code := range codes {
		if len(values[code]) == 0 && code != optRapidCommit {
			t.Errorf("option %d has no value", code)
		}
	}
	if !bytes.Equal(values[optServerID], serverID.AsSlice()) {
		t.Errorf("server identifier % x", values[optServerID])
	}
	return p
}
