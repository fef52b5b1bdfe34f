package dhcp6

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

func TestParseReadsWhatTheAnswerDependsOn(t *testing.T) {
	got, err := Parse(wire(renew,
		client, server, ask(23, 24), ask(56), rapid, iaNA(7, "fd00::9", "fd00::8", "fd00::9", "::"), iaTA(8, "fd00::1"), iaPD(9),
		opt{8, []byte{0, 0}}, fqdn(1, "\x05guest\x07example\x00"), opt{16, []byte("\x00\x00\x01\x37\x00\x08MSFT 5.0\x00\x02\x1b[")},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := &Request{
		Type: renew, XID: xid, ClientID: clientDUID, ServerID: ourDUID, Asked: []uint16{23, 24, 56}, RapidCommit: true,
		FQDN: true, FQDNFlags: 1, Hostname: "guest.example", VendorClass: "MSFT 5.0 ?[",
		IAs: []IA{{IANA, 7, addrs("fd00::8", "fd00::9")}, {IATA, 8, addrs("fd00::1")}, {IAPD, 9, nil}},
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := got.IAs[0].String() + ", " + got.IAs[1].String() + ", " + got.IAs[2].String(); got != "IA_NA 00000007, IA_TA 00000008, IA_PD 00000009" {
		t.Errorf("for a log: %s", got)
	}
}

func TestParseKeepsNothingOfThePayload(t *testing.T) {
	payload := wire(request, client, server, iaNA(1, "fd00::9"))
	got, err := Parse(payload)
	if err != nil {
		t.Fatal(err)
	}
	clear(payload)
	want := &Request{Type: request, XID: xid, ClientID: clientDUID, ServerID: ourDUID, IAs: []IA{{IANA, 1, addrs("fd00::9")}}}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// RFC 8415 §21: each of these may be there once.
func TestParseTakesTheFirstOfTwo(t *testing.T) {
	other := []byte{0, 4, 9, 9}
	vendor := func(name string) opt { return opt{16, append([]byte{0, 0, 1, 55, 0, byte(len(name))}, name...)} }
	got, err := Parse(wire(request, client, server, fqdn(1, "\x01a"), vendor("x"), opt{1, other}, opt{2, other}, fqdn(4, "\x01b"), vendor("y")))
	if err != nil {
		t.Fatal(err)
	}
	want := &Request{
		Type: request, XID: xid, ClientID: clientDUID, ServerID: ourDUID, FQDN: true, FQDNFlags: 1, Hostname: "a", VendorClass: "x",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRefusesWhatIsMalformed(t *testing.T) {
	tests := []struct {
		name    string
		payload []byte
	}{
		{"nothing", nil},
		{"a header cut short", []byte{1, 2, 3}},
		{"octets behind the last option", append(wire(solicit, client), 0, 1, 0)},
		{"an option beyond the end", append(wire(solicit), 0, 1, 0, 2, 9)},
		{"an empty client identifier", wire(solicit, opt{code: 1})},
		{"a client identifier of a type alone", wire(solicit, opt{1, []byte{0, 3}})},
		{"a client identifier longer than RFC 8415 §11.1 allows", wire(solicit, opt{1, make([]byte, 131)})},
		{"an IA_NA without its times", wire(solicit, opt{3, make([]byte, 11)})},
		{"an IA_TA without an identifier", wire(solicit, opt{4, make([]byte, 3)})},
		{"an IA_PD without its times", wire(solicit, opt{25, make([]byte, 4)})},
		{"an option beyond the end of its IA_NA", wire(solicit, opt{3, append(make([]byte, 12), 0, 5, 0, 24)})},
		{"an address without its lifetimes", wire(solicit, opt{3, append(make([]byte, 12), opt{5, make([]byte, 16)}.bytes()...)})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Parse(tt.payload); err == nil {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestParseLooksPastWhatItDoesNotNeed(t *testing.T) {
	for name, o := range map[string]opt{
		"half a code in the list":           {6, []byte{0, 23, 0}},
		"an empty host name":                {code: 39},
		"a host name beyond its end":        fqdn(0, "\x09vm"),
		"a host name that points into it":   fqdn(0, "\xc0\x00"),
		"a vendor class cut short":          {16, []byte{0, 0, 1}},
		"a vendor class beyond its end":     {16, []byte{0, 0, 1, 1, 0, 9, 'x'}},
		"an empty user class":               {code: 15},
		"an interface identifier cut short": {62, []byte{1}},
		"a search list that points to itself": {
			24, []byte{0xc0, 0x00},
		},
		"an unknown option": {65000, []byte{1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(wire(solicit, o, client))
			if err != nil {
				t.Fatal(err)
			}
			if got.ClientID == nil || got.Hostname != "" || got.VendorClass != "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestParseLooksAtNoMessageButAClients(t *testing.T) {
	for _, kind := range []dhcpv6.MessageType{dhcpv6.MessageTypeRelayForward, advertise, reply, 77} {
		got, err := Parse([]byte{byte(kind), 1, 2, 3, 0xff})
		if diff := cmp.Diff(&Request{Type: kind, XID: [3]byte{1, 2, 3}}, got); err != nil || diff != "" {
			t.Errorf("%v: %v (-want +got):\n%s", kind, err, diff)
		}
	}
}

func TestNamesForALogAreHarmless(t *testing.T) {
	long := strings.Repeat("\x3f"+strings.Repeat("a", 63), 9)
	for labels, want := range map[string]string{
		"\x02vm": "vm", "\x02vm\x00": "vm", "\x04a\nb\xff": "a?b?", "\x03vm\x00": "vm",
		"\x40" + strings.Repeat("a", 64): "", long: strings.Join([]string{long[1:64], long[1:64], long[1:64], long[1:64]}, ".")[:255],
	} {
		got, err := Parse(wire(inform, fqdn(0, labels)))
		if err != nil {
			t.Fatal(err)
		}
		if got.Hostname != want {
			t.Errorf("%q reads %q, want %q", labels, got.Hostname, want)
		}
	}
}

// TestParseTakesTimeByTheLength is why the library does not read: compressed
// names make it copy each name once for each pointer to it.
func TestParseTakesTimeByTheLength(t *testing.T) {
	var names []byte
	for len(names) < 5000 {
		names = append(names, 1, 'a')
	}
	names = append(names, 0)
	for len(names) < 8900 {
		names = append(names, 0xc0, 0)
	}
	payload := wire(solicit, client, opt{24, names}, fqdn(0, string(names)))
	allocs := testing.AllocsPerRun(1, func() {
		if _, err := Parse(payload); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 100 {
		t.Errorf("%v allocations", allocs)
	}
}

func FuzzParse(f *testing.F) {
	for _, payload := range seeds() {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		req, err := Parse(payload)
		if (req == nil) == (err == nil) {
			t.Fatalf("%+v and %v", req, err)
		}
		if err != nil {
			return
		}
		named := 0
		for _, ia := range req.IAs {
			named += len(ia.Addrs)
		}
		if n := 4*len(req.IAs) + 28*named + 2*len(req.Asked) + len(req.ClientID) + len(req.ServerID); n > len(payload) {
			t.Errorf("more was read than there is: %+v", req)
		}
		for _, text := range []string{req.Hostname, req.VendorClass} {
			if len(text) > 255 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("not for a log: %q", text)
			}
		}
	})
}

// seeds are messages of each kind.
func seeds() [][]byte {
	all := []opt{
		client, server, ask(23, 24, 39, 56, 59, 31, 32), rapid,
		iaNA(1, "fd00:10:244::7"), iaNA(2, "fd00::99"), iaTA(3, "fd00::1"), iaPD(4),
		fqdn(1, "\x02vm\x00"),
		{16, []byte("\x00\x00\x01\x37\x00\x04MSFT")},
	}
	out := [][]byte{{}, wire(77, all...), wire(dhcpv6.MessageTypeRelayForward, all...), wire(inform, ask(32))}
	for _, kind := range []dhcpv6.MessageType{solicit, request, confirm, renew, rebind, release, decline, inform} {
		with, without := all, append([]opt{client}, all[2:]...)
		if kind == inform {
			with, without = []opt{client, server, ask(23, 32)}, []opt{ask(24, 39)}
		}
		out = append(out, wire(kind, with...), wire(kind, without...))
	}
	// Associations in associations, and relays' messages in relays' messages.
	nested, relayed := iaNA(1, "fd00:10:244::7"), wire(solicit, all...)
	for range 8 {
		nested.data = append(append(make([]byte, 12), nested.bytes()...), 0, 5, 0)
		relayed = append(append([]byte{12, 3}, make([]byte, 32)...), opt{9, relayed}.bytes()...)
	}
	return append(out, wire(solicit, client, nested), relayed)
}
