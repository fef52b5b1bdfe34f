package dhcp4

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})

func TestParseReadsWhatTheAnswerDependsOn(t *testing.T) {
	got, err := Parse(request(
		set(10, 0x80, 0), ciaddr("10.0.0.1"), set(24, 10, 0, 0, 2),
		ip(optRequestedIP, "10.0.0.3"), ip(optServerID, "10.0.0.4"),
		params(1, 3, 121), maxSize(1500), text(optClientID, "\x01id"), opt{code: optRapidCommit},
		text(optHostname, "guest\x1b[31m"), text(optVendorClass, "MSFT 5.0\x00"),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := &Request{
		Op: 1, HType: 1, HLen: 6, Type: dhcpv4.MessageTypeRequest,
		XID: [4]byte{0xde, 0xad, 0xbe, 0xef}, Flags: 0x8000, CHAddr: guestMAC,
		CIAddr: addr("10.0.0.1"), GIAddr: addr("10.0.0.2"), RequestedIP: addr("10.0.0.3"), ServerID: addr("10.0.0.4"),
		Params: []uint8{1, 3, 121}, MaxSize: 1500, ClientID: []byte("\x01id"), RapidCommit: true,
		Hostname: "guest?[31m", VendorClass: "MSFT 5.0",
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRefusesWhatIsMalformed(t *testing.T) {
	noCookie := discover()
	noCookie[cookieAt] = 0
	tests := []struct {
		name    string
		payload []byte
	}{
		{"nothing", nil},
		{"a header cut short", discover()[:cookieAt-1]},
		{"BOOTP without a cookie", noCookie},
		{"no end option", discover()[:optionsAt+3]},
		{"an option beyond the end", append(discover()[:optionsAt], optHostname, 200, 'x')},
		{"a message type of two octets", wire(0, opt{optMessageType, []byte{1, 1}})},
		{"no message type in its option", wire(0, opt{code: optMessageType})},
		{"a requested address of 3 octets", request(opt{optRequestedIP, []byte{10, 0, 0}})},
		{"a server identifier of 16 octets", request(opt{optServerID, make([]byte, 16)})},
		{"option 52 with an unknown value", discover(opt{optOverload, []byte{4}})},
		{"an overloaded field with an option beyond its end", discover(opt{optOverload, []byte{2}}, set(snameAt, optHostname, 80))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := Parse(tt.payload); err == nil {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestParseMessageSize(t *testing.T) {
	tests := []struct {
		name   string
		option opt
		want   int
	}{
		{"without the option, 576", set(8), 576},
		{"less than is allowed is 576", maxSize(300), 576},
		{"as it says", maxSize(1472), 1472},
		{"of the wrong length, 576", opt{optMaxSize, []byte{9}}, 576},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(discover(tt.option))
			if err != nil {
				t.Fatal(err)
			}
			if got.MaxSize != tt.want {
				t.Errorf("got %d, want %d", got.MaxSize, tt.want)
			}
		})
	}
}

func TestParseReadsOverloadedFields(t *testing.T) {
	got, err := Parse(discover(
		opt{optOverload, []byte{3}}, params(1),
		set(fileAt, optParams, 1, 3, optEnd), set(snameAt, optParams, 1, 6, optHostname, 2, 'v', 'm', optEnd),
	))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint8{1, 3, 6}, got.Params); diff != "" {
		t.Errorf("options, file, sname (-want +got):\n%s", diff)
	}
	if got.Hostname != "vm" {
		t.Errorf("hostname %q", got.Hostname)
	}
}

func TestParseHostname(t *testing.T) {
	tests := []struct {
		name    string
		options []opt
		want    string
	}{
		{"none", nil, ""},
		{"option 12", []opt{text(optHostname, "vm-0")}, "vm-0"},
		{"option 12 before 81", []opt{text(optFQDN, "\x00\x00\x00other"), text(optHostname, "vm-0")}, "vm-0"},
		{"option 81 in ASCII", []opt{text(optFQDN, "\x01\x00\x00vm-0.example")}, "vm-0.example"},
		{"option 81 in labels", []opt{text(optFQDN, "\x05\x00\x00\x04vm-0\x07example\x00")}, "vm-0.example"},
		{"option 81 with part of a name", []opt{text(optFQDN, "\x05\x00\x00\x04vm-0")}, "vm-0"},
		{"option 81 with a pointer to itself", []opt{text(optFQDN, "\x05\x00\x00\xc0\x00")}, ""},
		{"option 81 cut short", []opt{text(optFQDN, "\x05\x00")}, ""},
		{"control characters and escapes", []opt{text(optHostname, "a\nb\x00c\xff\"")}, "a?b c?\""},
		{"endless", []opt{text(optHostname, strings.Repeat("a", 600))}, strings.Repeat("a", 255)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(discover(tt.options...))
			if err != nil {
				t.Fatal(err)
			}
			if got.Hostname != tt.want {
				t.Errorf("got %q, want %q", got.Hostname, tt.want)
			}
		})
	}
}

func TestParseKeepsAHardwareLengthThatCannotBe(t *testing.T) {
	got, err := Parse(discover(set(2, 255)))
	if err != nil {
		t.Fatal(err)
	}
	if got.HLen != 255 || got.CHAddr != guestMAC {
		t.Errorf("hlen %d, chaddr %v", got.HLen, got.CHAddr)
	}
}
