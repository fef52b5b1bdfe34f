package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

const (
	solicit   = dhcpv6.MessageTypeSolicit
	advertise = dhcpv6.MessageTypeAdvertise
	request   = dhcpv6.MessageTypeRequest
	confirm   = dhcpv6.MessageTypeConfirm
	renew     = dhcpv6.MessageTypeRenew
	rebind    = dhcpv6.MessageTypeRebind
	reply     = dhcpv6.MessageTypeReply
	release   = dhcpv6.MessageTypeRelease
	decline   = dhcpv6.MessageTypeDecline
	inform    = dhcpv6.MessageTypeInformationRequest
)

var (
	serverMAC = netstate.MAC{2, 0, 0, 0, 0, 1}
	servers   = netip.MustParseAddr("ff02::1:2")
	unicast   = serverMAC.LinkLocal()
	xid       = dhcpv6.TransactionID{0xde, 0xad, 0x42}
	byValue   = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, addr(s))
	}
	return out
}

// podLease is a dual-stack pod with all that a lease holds.
func podLease() lease.Lease {
	return lease.Lease{
		MAC:      netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07},
		Addrs:    []netip.Prefix{prefix("10.244.1.7/24"), prefix("fd00:10:244::7/64"), prefix("2001:db8::7/128")},
		MTU:      1450,
		DNS:      addrs("10.96.0.10", "fd00::a", "fd00::b"),
		Search:   []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		Hostname: "vm-0",
		Domain:   "default.svc.cluster.local",
		NTP:      addrs("10.0.0.123", "fd00::123", "fd00::124"),
		BootFile: "http://boot.example/vm.efi",
		Time:     time.Hour,
		Server:   lease.Server{MAC: serverMAC, LinkLocal: serverMAC.LinkLocal()},
	}
}

// plainLease is the least that an IPv6 pod has.
func plainLease() lease.Lease {
	return lease.Lease{
		Addrs:  []netip.Prefix{prefix("fd00:10:244::7/64")},
		Server: lease.Server{MAC: serverMAC, LinkLocal: serverMAC.LinkLocal()},
	}
}

// opt is an option on the wire.
type opt struct {
	code uint16
	data []byte
}

var (
	clientDUID = []byte{0, 3, 0, 1, 0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	ourDUID    = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 1} // RFC 8415 §11.4, figure 7
	client     = opt{1, clientDUID}
	server     = opt{2, ourDUID}
	rapid      = opt{code: 14}
)

func (o opt) bytes() []byte {
	b := binary.BigEndian.AppendUint16(nil, o.code)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(o.data))), o.data...)
}

func ask(codes ...uint16) opt {
	o := opt{code: 6}
	for _, c := range codes {
		o.data = binary.BigEndian.AppendUint16(o.data, c)
	}
	return o
}

// iaNA is an IA_NA with addresses; iaTA and iaPD are the other kinds.
func iaNA(id byte, texts ...string) opt { return opt{3, ia(id, 12, texts)} }
func iaTA(id byte, texts ...string) opt { return opt{4, ia(id, 4, texts)} }
func iaPD(id byte) opt                  { return opt{25, ia(id, 12, nil)} }

func ia(id byte, fixed int, texts []string) []byte {
	b := make([]byte, fixed)
	b[3] = id
	for _, a := range addrs(texts...) {
		b = append(b, opt{5, append(a.AsSlice(), 0, 0, 0, 9, 0, 0, 0, 9)}.bytes()...)
	}
	return b
}

// fqdn is option 39 with labels as they stand.
func fqdn(flags byte, labels string) opt { return opt{39, append([]byte{flags}, labels...)} }

// wire builds a client's message by hand.
func wire(t dhcpv6.MessageType, options ...opt) []byte {
	b := append([]byte{byte(t)}, xid[:]...)
	for _, o := range options {
		b = append(b, o.bytes()...)
	}
	return b
}

// answer parses and replies; the test fails on silence.
func answer(t testing.TB, l lease.Lease, payload []byte) (Answer, *dhcpv6.Message) {
	t.Helper()
	return answerAt(t, l, payload, servers)
}

func answerAt(t testing.TB, l lease.Lease, payload []byte, dst netip.Addr) (Answer, *dhcpv6.Message) {
	t.Helper()
	req, err := Parse(payload)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := Reply(l, req, dst)
	if !ok {
		t.Fatalf("no answer: %s", a.Reason)
	}
	return a, check(t, l, a)
}

// check holds what is true of every reply; it reads with the library, which has
// no part in the writing.
func check(t testing.TB, l lease.Lease, a Answer) *dhcpv6.Message {
	t.Helper()
	m := read(t, a.Payload)
	if m.MessageType != a.Type || a.Type != advertise && a.Type != reply {
		t.Errorf("type %v, %v in the message", a.Type, m.MessageType)
	}
	if got, want := len(a.Payload), max(l.MTU, 1280)-48; l.MTU != 0 && got > want {
		t.Errorf("%d octets, and the link carries %d", got, want)
	}
	own := map[netip.Addr]int{}
	for _, p := range l.Addrs {
		own[p.Addr()] = 1
	}
	for _, na := range m.Options.IANA() {
		for _, ia := range na.Options.Addresses() {
			a, _ := netip.AddrFromSlice(ia.IPv6Addr)
			if own[a]--; ia.ValidLifetime > 0 && own[a] < 0 {
				t.Errorf("%s is handed out: not the lease's, or twice", a)
			}
			if ia.PreferredLifetime != ia.ValidLifetime {
				t.Errorf("%s is preferred for %v and valid for %v", a, ia.PreferredLifetime, ia.ValidLifetime)
			}
		}
	}
	for _, o := range m.Options.Options {
		if len(o.ToBytes()) == 0 && o.Code() != dhcpv6.OptionRapidCommit {
			t.Errorf("option %d has no value", o.Code())
		}
	}
	return m
}

// read has the library read a reply. It does not know each client identifier that
// is sent back as it came; such a one is cut out.
func read(t testing.TB, payload []byte) *dhcpv6.Message {
	t.Helper()
	if len(payload) > 8 && payload[5] == 1 {
		end := 8 + int(payload[7])
		if _, err := dhcpv6.DUIDFromBytes(payload[8:end]); err != nil {
			payload = append(payload[:4:4], payload[end:]...)
		}
	}
	m, err := dhcpv6.MessageFromBytes(payload)
	if err != nil {
		t.Fatalf("the library cannot read the reply: %v", err)
	}
	return m
}

// codes lists the options of a reply as they stand there.
func codes(m *dhcpv6.Message) (out []uint16) {
	for _, o := range m.Options.Options {
		out = append(out, uint16(o.Code()))
	}
	return out
}

// value returns the only option of a code.
func value(t testing.TB, m *dhcpv6.Message, code dhcpv6.OptionCode) []byte {
	t.Helper()
	found := m.Options.Get(code)
	if len(found) != 1 {
		t.Fatalf("%d options %d", len(found), code)
	}
	return found[0].ToBytes()
}
