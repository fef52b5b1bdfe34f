package dhcp4

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/lease"
)

const (
	offer = dhcpv4.MessageTypeOffer
	ack   = dhcpv4.MessageTypeAck
	nak   = dhcpv4.MessageTypeNak
)

func TestReplyToEachKindOfMessage(t *testing.T) {
	tests := []struct {
		name    string
		payload []byte
		want    dhcpv4.MessageType
		dst     string
	}{
		{"DISCOVER", discover(), offer, "10.244.1.7:68"},
		{"DISCOVER with the broadcast flag", discover(set(10, 0x80)), offer, "255.255.255.255:68"},
		{"DISCOVER with rapid commit", discover(opt{code: optRapidCommit}), ack, "10.244.1.7:68"},
		{"DISCOVER for another address: a wish", discover(ip(optRequestedIP, "10.9.9.9")), offer, "10.244.1.7:68"},
		{"SELECTING", selecting(), ack, "10.244.1.7:68"},
		{"SELECTING with the broadcast flag", selecting(set(10, 0x80)), ack, "255.255.255.255:68"},
		{"SELECTING without an address", request(ip(optServerID, "169.254.75.1")), ack, "10.244.1.7:68"},
		{"SELECTING with 0.0.0.0", request(ip(optServerID, "169.254.75.1"), ip(optRequestedIP, "0.0.0.0")), ack, "10.244.1.7:68"},
		{"SELECTING another address", request(ip(optServerID, "169.254.75.1"), ip(optRequestedIP, "10.9.9.9")), nak, "255.255.255.255:68"},
		{"INIT-REBOOT", request(ip(optRequestedIP, "10.244.1.7")), ack, "10.244.1.7:68"},
		{"INIT-REBOOT with an old address", request(ip(optRequestedIP, "10.244.0.3")), nak, "255.255.255.255:68"},
		{"RENEW", request(ciaddr("10.244.1.7")), ack, "10.244.1.7:68"},
		{"RENEW goes to ciaddr, whatever the flag", request(ciaddr("10.244.1.7"), set(10, 0x80)), ack, "10.244.1.7:68"},
		{"RENEW that names the server, too", request(ciaddr("10.244.1.7"), ip(optServerID, "169.254.75.1")), ack, "10.244.1.7:68"},
		{"RENEW of an old address", request(ciaddr("10.244.0.3")), nak, "255.255.255.255:68"},
		{"RENEW goes by ciaddr, not by option 50", request(ciaddr("10.244.0.3"), ip(optRequestedIP, "10.244.1.7")), nak, "255.255.255.255:68"},
		{"INFORM", wire(dhcpv4.MessageTypeInform, ciaddr("10.244.1.99")), ack, "10.244.1.99:68"},
		{"INFORM without an address", wire(dhcpv4.MessageTypeInform), ack, "255.255.255.255:68"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := answer(t, podLease(), tt.payload)
			p := check(t, a.Payload)
			if a.Type != tt.want || p.MessageType() != tt.want {
				t.Errorf("type %v, %v in the message; want %v", a.Type, p.MessageType(), tt.want)
			}
			if got := a.Dst.String(); got != tt.dst {
				t.Errorf("to %s, want %s", got, tt.dst)
			}
			if want := strings.HasPrefix(tt.dst, "255"); a.Broadcast != want {
				t.Errorf("Ethernet broadcast %v, want %v", a.Broadcast, want)
			}
			if a.Reason != "" || a.Warning != "" || len(a.Dropped) != 0 {
				t.Errorf("reason %q, warning %q, dropped %q", a.Reason, a.Warning, a.Dropped)
			}
			yiaddr := p.YourIPAddr.String()
			if bare := tt.want == nak || strings.HasPrefix(tt.name, "INFORM"); bare != (yiaddr == "0.0.0.0") {
				t.Errorf("yiaddr %s", yiaddr)
			}
		})
	}
}

func TestSilenceAndItsReason(t *testing.T) {
	noIPv4, noServer := podLease(), podLease()
	noIPv4.Addrs = noIPv4.Addrs[:1]
	noServer.Server = lease.Server{}
	tests := []struct {
		name    string
		lease   lease.Lease
		payload []byte
		want    string
	}{
		{"a reply", podLease(), discover(set(0, 2)), "not-a-request"},
		{"not Ethernet", podLease(), discover(set(1, 32)), "not-ethernet"},
		{"a hardware address of 8 octets", podLease(), discover(set(2, 8)), "not-ethernet"},
		{"a hardware length beyond the field", podLease(), discover(set(2, 200)), "not-ethernet"},
		{"another MAC", podLease(), discover(set(33, 0x08)), "other-mac"},
		{"from a relay", podLease(), discover(set(24, 10, 0, 0, 2)), "relayed"},
		{"BOOTP", podLease(), wire(0), "bootp"},
		{"OFFER", podLease(), wire(offer), "other-type"},
		{"an unknown type", podLease(), wire(77), "other-type"},
		{"a lease without IPv4", noIPv4, discover(), "no-ipv4"},
		{"a lease without a server", noServer, discover(), "no-ipv4"},
		{"another server's", podLease(), request(ip(optServerID, "10.0.0.1"), ip(optRequestedIP, "10.244.1.7")), "other-server"},
		{"REQUEST for nothing", podLease(), request(), "no-address"},
		{"DECLINE", podLease(), wire(dhcpv4.MessageTypeDecline, chosen()...), "decline"},
		{"RELEASE", podLease(), wire(dhcpv4.MessageTypeRelease, ciaddr("10.244.1.7")), "release"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := Parse(tt.payload)
			if err != nil {
				t.Fatal(err)
			}
			a, ok := Reply(tt.lease, req)
			if diff := cmp.Diff(Answer{Reason: tt.want}, a, byValue); ok || diff != "" {
				t.Errorf("answered %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestHeaderIsCopiedFromTheRequest(t *testing.T) {
	a := answer(t, podLease(), request(ciaddr("10.244.1.7"), set(3, 9), set(8, 1, 2, 0x80, 0x01)))
	p := check(t, a.Payload)
	if p.TransactionID != [4]byte{0xde, 0xad, 0xbe, 0xef} || p.Flags != 0x8001 {
		t.Errorf("xid %v, flags %#x", p.TransactionID, p.Flags)
	}
	if p.HopCount != 0 || p.NumSeconds != 0 || !p.GatewayIPAddr.IsUnspecified() {
		t.Errorf("hops %d, secs %d, giaddr %v", p.HopCount, p.NumSeconds, p.GatewayIPAddr)
	}
	if got := p.ClientIPAddr.String(); got != "10.244.1.7" {
		t.Errorf("ciaddr %s", got)
	}
	p = check(t, answer(t, podLease(), discover(ciaddr("10.244.1.7"))).Payload)
	if !p.ClientIPAddr.IsUnspecified() {
		t.Errorf("ciaddr %v in an OFFER", p.ClientIPAddr)
	}
}

func TestNAKSaysWhyAndNothingElse(t *testing.T) {
	a := answer(t, podLease(), request(ip(optRequestedIP, "10.244.0.3"), text(optClientID, "\x01id"), params(1, 3, 6, 51, 121)))
	codes, values := allOptions(t, a.Payload)
	if diff := cmp.Diff([]uint8{53, 54, 56, 61}, codes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := string(values[optMessage]), "10.244.0.3 is not this machine's address, which is 10.244.1.7"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	p := check(t, a.Payload)
	if !p.ServerIPAddr.IsUnspecified() || p.BootFileName != "" || p.ServerHostName != "" {
		t.Errorf("siaddr %v, file %q, sname %q", p.ServerIPAddr, p.BootFileName, p.ServerHostName)
	}
}

func TestOptionsComeInTheOrderTheyAreAskedFor(t *testing.T) {
	tests := []struct {
		name    string
		lease   lease.Lease
		payload []byte
		want    []uint8
	}{
		{
			"as in the list, then what is always sent", podLease(),
			discover(params(15, 12, 6, 119, 26, 3)),
			[]uint8{53, 15, 12, 6, 119, 26, 3, 51, 54, 1},
		},
		{
			"each once, and nothing that the lease has not", plainLease(),
			discover(params(6, 3, 42, 3, 255, 0, 52, 82, 66, 67, 1, 1)),
			[]uint8{53, 3, 1, 51, 54},
		},
		{
			"without a list, everything", podLease(), discover(),
			[]uint8{53, 51, 54, 1, 3, 6, 12, 15, 26, 28, 42, 58, 59, 66, 67, 119, 121, 240, 252},
		},
		{
			"an empty list is none", plainLease(), discover(opt{code: optParams}),
			[]uint8{53, 51, 54, 1, 3, 26, 28, 121},
		},
		{
			"249 where it is asked for", podLease(), discover(params(121, 249)), []uint8{53, 121, 249, 51, 54, 1, 3},
		},
		{
			"249 alone carries the routes of those who know no other", podLease(), discover(params(249)), []uint8{53, 249, 51, 54, 1, 3},
		},
		{
			"the user's own, when asked for", podLease(), discover(params(252, 241, 240, 43)), []uint8{53, 252, 240, 51, 54, 1, 3},
		},
		{
			"T1 and T2 of a finite lease", podLease(), discover(params(59, 58)), []uint8{53, 59, 58, 51, 54, 1, 3},
		},
		{
			"no T1 and T2 of an infinite one", plainLease(), discover(params(59, 58)), []uint8{53, 51, 54, 1, 3},
		},
		{
			"rapid commit and client identifier", plainLease(),
			discover(params(1), opt{code: optRapidCommit}, text(optClientID, "\xffduid")),
			[]uint8{53, 1, 51, 54, 3, 61, 80},
		},
		{
			"rapid commit is for DISCOVER", plainLease(), selecting(params(1), opt{code: optRapidCommit}), []uint8{53, 1, 51, 54, 3},
		},
		{
			"an empty client identifier is not echoed", plainLease(), discover(params(1), opt{code: optClientID}), []uint8{53, 1, 51, 54, 3},
		},
		{
			"INFORM gets no times", podLease(), wire(dhcpv4.MessageTypeInform, params(51, 58, 59, 6)), []uint8{53, 6, 54, 1, 3},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			codes, _ := allOptions(t, answer(t, tt.lease, tt.payload).Payload)
			if diff := cmp.Diff(tt.want, codes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestValues(t *testing.T) {
	a := answer(t, podLease(), discover(text(optClientID, "\x01id"), maxSize(1500)))
	p := check(t, a.Payload)
	_, values := allOptions(t, a.Payload)
	want := map[uint8]string{
		1: "ffffff00", 3: "0af40101", 6: "0a60000a", 26: "05aa", 28: "0af401ff", 42: "0a00007b",
		51: "00000e10", 58: "00000708", 59: "00000c4e", 54: "a9fe4b01", 61: "016964", 53: "02",
		12: hex.EncodeToString([]byte("vm-0")), 15: hex.EncodeToString([]byte("default.svc.cluster.local")),
		66: hex.EncodeToString([]byte("10.0.0.69")), 67: hex.EncodeToString([]byte("pxelinux.0")),
		121: "000af40101", 240: hex.EncodeToString([]byte("private")),
		252: hex.EncodeToString([]byte("http://wpad/wpad.dat")),
	}
	if diff := cmp.Diff(podLease().Search, p.DomainSearch().Labels); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
	delete(values, optSearch)
	got := map[uint8]string{}
	for code, v := range values {
		got[code] = hex.EncodeToString(v)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.ServerIPAddr.String() != "10.0.0.69" || p.BootFileName != "pxelinux.0" || p.ServerHostName != "10.0.0.69" {
		t.Errorf("siaddr %v, file %q, sname %q", p.ServerIPAddr, p.BootFileName, p.ServerHostName)
	}
}

func TestLeaseTimes(t *testing.T) {
	tests := []struct {
		name       string
		time       time.Duration
		t0, t1, t2 uint32
	}{
		{"infinite", 0, 0xffffffff, 0, 0},
		{"negative is infinite", -time.Second, 0xffffffff, 0, 0},
		{"an hour", time.Hour, 3600, 1800, 3150},
		{"less than a second is one", time.Millisecond, 1, 1, 1},
		{"the longest is not taken for infinite", 1 << 62, 0xfffffffe, 0x7fffffff, 0xdffffffe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Time = tt.time
			_, values := allOptions(t, answer(t, l, discover()).Payload)
			for code, want := range map[uint8]uint32{51: tt.t0, 58: tt.t1, 59: tt.t2} {
				var got uint32
				if v, ok := values[code]; ok {
					got = binary.BigEndian.Uint32(v)
				}
				if got != want {
					t.Errorf("option %d is %d, want %d", code, got, want)
				}
			}
		})
	}
}

func TestMTUNeverWraps(t *testing.T) {
	for mtu, want := range map[int]uint16{0: 1500, 20: 68, 1450: 1450, 65535: 65535, 65536: 65535, 1 << 20: 65535} {
		l := plainLease()
		l.MTU = mtu
		_, values := allOptions(t, answer(t, l, discover()).Payload)
		if got := binary.BigEndian.Uint16(values[optMTU]); got != want {
			t.Errorf("MTU %d is sent as %d, want %d", mtu, got, want)
		}
	}
}

func TestNamesThatAreNoneAreNotSent(t *testing.T) {
	l := plainLease()
	l.Hostname, l.Domain = "bad name", strings.Repeat("a", 64)+".example"
	l.Search = []string{"a..b", "ok.example", ".", "", strings.Repeat("x.", 130) + "x"}
	p := check(t, answer(t, l, discover()).Payload)
	if p.HostName() != "" || p.DomainName() != "" {
		t.Errorf("hostname %q, domain %q", p.HostName(), p.DomainName())
	}
	if diff := cmp.Diff([]string{"ok.example"}, p.DomainSearch().Labels); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
}

func TestBroadcastWhereThePrefixHasOne(t *testing.T) {
	for p, want := range map[string]string{
		"10.0.0.1/30": "10.0.0.3", "10.0.0.1/31": "", "10.0.0.1/32": "", "10.0.0.1/8": "10.255.255.255", "10.0.3.1/23": "10.0.3.255",
	} {
		l := plainLease()
		l.Addrs, l.Routes = []netip.Prefix{prefix(p)}, nil
		_, values := allOptions(t, answer(t, l, discover()).Payload)
		if got, _ := netip.AddrFromSlice(values[optBroadcast]); want == "" && got.IsValid() || want != "" && got != addr(want) {
			t.Errorf("%s: broadcast %v, want %q", p, got, want)
		}
	}
}

// The two goldens were read by eye, field by field, against RFC 2131 and 2132.
func TestGoldenOffer(t *testing.T) {
	got := answer(t, plainLease(), discover(params(1, 3), text(optClientID, "\x01id"))).Payload
	want := "02010600" + "deadbeef" + "00000000" + "00000000" + "0af40107" + "00000000" + "00000000" +
		"0a580af40107" + strings.Repeat("00", 10+64+128) + "63825363" +
		"350102" + "0104ffffff00" + "03040af40101" + "3304ffffffff" + "3604a9fe4b01" + "3d03016964" + "ff" +
		strings.Repeat("00", 27)
	if diff := cmp.Diff(want, hex.EncodeToString(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGoldenNAK(t *testing.T) {
	got := answer(t, plainLease(), request(ciaddr("10.9.9.9"))).Payload
	message := "10.9.9.9 is not this machine's address, which is 10.244.1.7"
	want := "02010600" + "deadbeef" + strings.Repeat("00", 20) +
		"0a580af40107" + strings.Repeat("00", 10+64+128) + "63825363" +
		"350106" + "3604a9fe4b01" + "38" + hex.EncodeToString([]byte{byte(len(message))}) + hex.EncodeToString([]byte(message)) + "ff"
	if diff := cmp.Diff(want, hex.EncodeToString(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
