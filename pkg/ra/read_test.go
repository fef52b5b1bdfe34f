package ra

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

var (
	guest  = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x07}
	server = netstate.MAC{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(all ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range all {
		out = append(out, addr(s))
	}
	return out
}

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// via reads "destination [gateway [metric]]".
func via(s string) lease.Route {
	r := lease.Route{}
	fields := strings.Fields(s)
	r.Dst = netip.MustParsePrefix(fields[0])
	if len(fields) > 1 {
		r.Via = addr(fields[1])
	}
	if len(fields) > 2 {
		if _, err := fmt.Sscan(fields[2], &r.Metric); err != nil {
			panic(err)
		}
	}
	return r
}

func routes(all ...string) []lease.Route {
	var out []lease.Route
	for _, s := range all {
		out = append(out, via(s))
	}
	return out
}

func router(addr string, gateways ...string) lease.Router {
	return lease.Router{Addr: netip.MustParseAddr(addr), Gateways: addrs(gateways...)}
}

// podLease is a dual-stack pod behind a link-local gateway.
func podLease() lease.Lease {
	return lease.Lease{
		MAC:     guest,
		Addrs:   prefixes("10.0.0.7/24", "fd00::7/64"),
		Routes:  routes("fd00:9::/48 fe80::1", "0.0.0.0/0 10.0.0.1", "::/0 fe80::1"),
		MTU:     1450,
		DNS:     addrs("10.96.0.10", "fd00::a"),
		Search:  []string{"svc"},
		Routers: []lease.Router{router("fe80::1", "fe80::1")},
		Server:  lease.Server{MAC: server, LinkLocal: server.LinkLocal()},
	}
}

// said is one thing that a message says, for how long, in seconds.
type said struct {
	what     string
	lifetime uint32
}

// read takes a message apart, by hand where the library cannot: it reads no option
// beyond 248 octets, and of a route's destination whole octets alone.
func read(t testing.TB, a Advertisement) []said {
	t.Helper()
	b := a.Payload
	if len(b) < 16 || b[0] != 134 || b[1] != 0 || b[2] != 0 || b[3] != 0 || b[4] != 64 || b[5]&^0x18 != 0xc0 ||
		binary.BigEndian.Uint64(b[8:]) != 0 {
		t.Fatalf("% x", b[:min(len(b), 16)])
	}
	out := []said{{"router " + prefName(b[5]), uint32(binary.BigEndian.Uint16(b[6:]))}}
	largest := 0
	for rest := b[16:]; len(rest) > 0; {
		n := int(rest[1]) * 8
		if n == 0 || n > len(rest) {
			t.Fatalf("an option of %d octets in %d", n, len(rest))
		}
		out = append(out, readOption(t, rest[:n])...)
		largest, rest = max(largest, n), rest[n:]
	}
	if largest <= 248 {
		crossRead(t, b, out)
	}
	return out
}

func prefName(octet byte) string {
	return map[byte]string{0: "medium", 1: "high", 2: "reserved", 3: "low"}[octet>>3&3]
}

func readOption(t testing.TB, o []byte) (out []said) {
	t.Helper()
	lifetime := binary.BigEndian.Uint32(o[4:])
	prefix := func(octets []byte) netip.Prefix {
		var full [16]byte
		copy(full[:], octets)
		p := netip.PrefixFrom(netip.AddrFrom16(full), int(o[2]))
		if p.Masked() != p {
			t.Errorf("%v has bits behind its length", p)
		}
		return p
	}
	switch o[0] {
	case 3:
		if preferred := binary.BigEndian.Uint32(o[8:]); len(o) != 32 || o[3] != 0x80 || preferred != lifetime || binary.BigEndian.Uint32(o[12:]) != 0 {
			t.Errorf("prefix information % x", o)
		}
		return []said{{"prefix " + prefix(o[16:]).String(), lifetime}}
	case 5:
		return []said{{fmt.Sprint("mtu ", lifetime), infinite}}
	case 24:
		if want := map[bool]int{true: 16, false: 24}[o[2] <= 64]; len(o) != want || o[3]&^0x18 != 0 {
			t.Errorf("route information % x", o)
		}
		return []said{{"route " + prefix(o[8:]).String() + " " + prefName(o[3]), lifetime}}
	case 25:
		for server := range slices.Chunk(o[8:], 16) {
			out = append(out, said{"dns " + netip.AddrFrom16([16]byte(server)).String(), lifetime})
		}
		return out
	case 31:
		for names := o[8:]; len(names) > 0 && names[0] != 0; {
			var labels []string
			for names[0] != 0 {
				labels = append(labels, string(names[1:1+names[0]]))
				names = names[1+names[0]:]
			}
			names = names[1:]
			out = append(out, said{"search " + strings.Join(labels, "."), lifetime})
		}
		return out
	default:
		t.Errorf("option %d", o[0])
		return nil
	}
}

// crossRead reads the message by the library and compares.
func crossRead(t testing.TB, b []byte, want []said) {
	t.Helper()
	m, err := ndp.ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	ra, ok := m.(*ndp.RouterAdvertisement)
	if !ok || !ra.ManagedConfiguration || !ra.OtherConfiguration {
		t.Fatalf("%+v", m)
	}
	name := map[ndp.Preference]string{ndp.Medium: "medium", ndp.High: "high", ndp.Low: "low"}
	secs := func(d time.Duration) uint32 { return uint32(d / time.Second) }
	got := []said{{"router " + name[ra.RouterSelectionPreference], secs(ra.RouterLifetime)}}
	for _, o := range ra.Options {
		switch o := o.(type) {
		case *ndp.PrefixInformation:
			got = append(got, said{fmt.Sprintf("prefix %v/%d", o.Prefix, o.PrefixLength), secs(o.ValidLifetime)})
			if !o.OnLink || o.AutonomousAddressConfiguration {
				t.Errorf("%+v", o)
			}
		case *ndp.MTU:
			got = append(got, said{fmt.Sprint("mtu ", o.MTU), infinite})
		case *ndp.RouteInformation:
			got = append(got, said{fmt.Sprintf("route %v/%d %s", o.Prefix, o.PrefixLength, name[o.Preference]), secs(o.RouteLifetime)})
			if o.PrefixLength%8 != 0 {
				return // it reads whole octets alone
			}
		case *ndp.RecursiveDNSServer:
			for _, s := range o.Servers {
				got = append(got, said{"dns " + s.String(), secs(o.Lifetime)})
			}
		case *ndp.DNSSearchList:
			for _, d := range o.DomainNames {
				got = append(got, said{"search " + d, secs(o.Lifetime)})
			}
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(said{})); diff != "" {
		t.Errorf("the library reads otherwise (-by hand +library):\n%s", diff)
	}
}

// text is what messages say, one line each, without the lifetimes: those must be
// lifetime in all of them but the router's own.
func text(t testing.TB, lifetime uint32, all []Advertisement) []string {
	t.Helper()
	var out []string
	for _, a := range all {
		for i, s := range read(t, a) {
			switch {
			case i == 0:
				out = append(out, fmt.Sprintf("%v: %s %d", a.Src, s.what, s.lifetime))
			case s.lifetime != lifetime:
				t.Errorf("%v: %q for %d s", a.Src, s.what, s.lifetime)
			default:
				out = append(out, s.what)
			}
		}
	}
	return out
}
