package dhcp4

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/podwire/podwire/pkg/lease"
)

// classless returns the routes of a reply's option 121 (or 249) in words, as the
// library reads them.
func classless(t *testing.T, v []byte) []string {
	t.Helper()
	var routes dhcpv4.Routes
	if err := routes.FromBytes(v); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range routes {
		out = append(out, fmt.Sprintf("%s via %s", r.Dest, r.Router))
	}
	return out
}

func TestClasslessRoutes(t *testing.T) {
	tests := []struct {
		name   string
		addr   string
		routes []lease.Route
		want   []string
	}{
		{"none", "10.244.1.7/24", nil, nil},
		{
			"the default route within the prefix", "10.244.1.7/24",
			[]lease.Route{via("0.0.0.0/0", "10.244.1.1")},
			[]string{"0.0.0.0/0 via 10.244.1.1"},
		},
		{
			"the connected one is left out", "10.244.1.7/24",
			[]lease.Route{direct("10.244.1.0/24"), via("0.0.0.0/0", "10.244.1.1")},
			[]string{"0.0.0.0/0 via 10.244.1.1"},
		},
		{
			"a wider or narrower one is not", "10.244.1.7/24",
			[]lease.Route{direct("10.244.0.0/16"), direct("10.244.1.128/25")},
			[]string{"10.244.0.0/16 via 0.0.0.0", "10.244.1.128/25 via 0.0.0.0"},
		},
		{
			"flannel", "10.244.1.7/24",
			[]lease.Route{via("10.244.0.0/16", "10.244.1.1"), via("0.0.0.0/0", "10.244.1.1")},
			[]string{"10.244.0.0/16 via 10.244.1.1", "0.0.0.0/0 via 10.244.1.1"},
		},
		{
			"Calico", "10.244.1.7/32",
			[]lease.Route{direct("169.254.1.1/32"), via("0.0.0.0/0", "169.254.1.1")},
			[]string{"169.254.1.1/32 via 0.0.0.0", "0.0.0.0/0 via 169.254.1.1"},
		},
		{
			"Calico without its host route", "10.244.1.7/32",
			[]lease.Route{via("0.0.0.0/0", "169.254.1.1")},
			[]string{"169.254.1.1/32 via 0.0.0.0", "0.0.0.0/0 via 169.254.1.1"},
		},
		{
			"kindnet: its own prefix is behind the gateway", "10.244.1.7/24",
			[]lease.Route{direct("10.244.1.1/32"), via("10.244.1.0/24", "10.244.1.1"), via("0.0.0.0/0", "10.244.1.1")},
			[]string{"10.244.1.1/32 via 0.0.0.0", "10.244.1.0/25 via 10.244.1.1", "10.244.1.128/25 via 10.244.1.1", "0.0.0.0/0 via 10.244.1.1"},
		},
		{
			"kindnet without its host route", "10.244.1.7/24",
			[]lease.Route{via("10.244.1.0/24", "10.244.1.1")},
			[]string{"10.244.1.1/32 via 0.0.0.0", "10.244.1.0/25 via 10.244.1.1", "10.244.1.128/25 via 10.244.1.1"},
		},
		{
			"a /31 has no halves to speak of", "10.0.0.0/31",
			[]lease.Route{via("10.0.0.0/31", "10.0.0.1"), via("0.0.0.0/0", "10.0.0.1")},
			[]string{"0.0.0.0/0 via 10.0.0.1"},
		},
		{
			"a gateway on a narrower link route needs no host route", "10.244.1.7/32",
			[]lease.Route{direct("10.99.0.0/24"), via("10.98.0.0/16", "10.99.0.1")},
			[]string{"10.99.0.0/24 via 0.0.0.0", "10.98.0.0/16 via 10.99.0.1"},
		},
		{
			"several gateways, each once", "10.244.1.7/32",
			[]lease.Route{via("10.1.0.0/16", "169.254.1.2"), via("10.2.0.0/16", "169.254.1.2"), via("0.0.0.0/0", "169.254.1.1")},
			[]string{"169.254.1.2/32 via 0.0.0.0", "169.254.1.1/32 via 0.0.0.0", "10.1.0.0/16 via 169.254.1.2", "10.2.0.0/16 via 169.254.1.2", "0.0.0.0/0 via 169.254.1.1"},
		},
		{
			"the default last and links first, however they come", "10.244.1.7/24",
			[]lease.Route{via("0.0.0.0/0", "10.244.1.1"), via("10.3.0.0/16", "10.244.1.2"), direct("10.4.0.0/16")},
			[]string{"10.4.0.0/16 via 0.0.0.0", "10.3.0.0/16 via 10.244.1.2", "0.0.0.0/0 via 10.244.1.1"},
		},
		{
			"to one destination the first", "10.244.1.7/24",
			[]lease.Route{via("0.0.0.0/0", "10.244.1.1"), via("0.0.0.0/0", "10.244.1.2"), via("10.3.0.0/16", "10.244.1.2"), direct("10.3.0.0/16")},
			[]string{"10.3.0.0/16 via 10.244.1.2", "0.0.0.0/0 via 10.244.1.1"},
		},
		{"a default route on the link", "10.244.1.7/24", []lease.Route{direct("0.0.0.0/0")}, []string{"0.0.0.0/0 via 0.0.0.0"}},
		{"a gateway of 0.0.0.0 is none", "10.244.1.7/24", []lease.Route{via("10.3.0.0/16", "0.0.0.0")}, []string{"10.3.0.0/16 via 0.0.0.0"}},
		{"no route to oneself", "10.244.1.7/24", []lease.Route{direct("10.244.1.7/32")}, nil},
		{"no IPv6, neither destination nor gateway", "10.244.1.7/24", []lease.Route{via("::/0", "fe80::1"), via("10.3.0.0/16", "fe80::1")}, nil},
		{
			"the significant octets of a destination that is not masked", "10.244.1.7/24",
			[]lease.Route{via("10.3.129.255/17", "10.244.1.1")},
			[]string{"10.3.128.0/17 via 10.244.1.1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Addrs, l.Routes = []netip.Prefix{prefix(tt.addr)}, tt.routes
			_, values := allOptions(t, answer(t, l, discover(params(121, 249))).Payload)
			if diff := cmp.Diff(tt.want, classless(t, values[optRoutes])); diff != "" {
				t.Errorf("121 (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(values[optRoutes], values[optRoutesWindows]); diff != "" {
				t.Errorf("249 differs from 121:\n%s", diff)
			}
			if want, got := netip.MustParsePrefix(tt.addr).Bits(), maskBits(values[optMask]); got != want {
				t.Errorf("mask /%d, want /%d", got, want)
			}
		})
	}
}

func maskBits(mask []byte) int {
	bits := 0
	for _, b := range mask {
		for ; b != 0; b <<= 1 {
			bits++
		}
	}
	return bits
}

func TestRoutesAreSentUnaskedWhereTheyAreNeeded(t *testing.T) {
	tests := []struct {
		name   string
		routes []lease.Route
		want   bool
	}{
		{"none", nil, false},
		{"one gateway within the prefix", []lease.Route{direct("10.244.1.0/24"), via("0.0.0.0/0", "10.244.1.1")}, false},
		{"a default route on the link", []lease.Route{direct("0.0.0.0/0")}, true},
		{"no default but another route", []lease.Route{via("10.3.0.0/16", "10.244.1.1")}, true},
		{"a further route", []lease.Route{via("10.3.0.0/16", "10.244.1.1"), via("0.0.0.0/0", "10.244.1.1")}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Routes = tt.routes
			_, values := allOptions(t, answer(t, l, discover(params(1, 3))).Payload)
			if _, got := values[optRoutes]; got != tt.want {
				t.Errorf("option 121 sent: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestMaskReachesTheGatewayOfAClientWithoutClasslessRoutes(t *testing.T) {
	tests := []struct {
		name, addr, gateway string
		params              []uint8
		want                int
		warns               bool
	}{
		{"a /32 for a client that asks for 121", "10.0.1.7/32", "10.0.1.1", []uint8{3, 121}, 32, false},
		{"or for 249", "10.0.1.7/32", "10.0.1.1", []uint8{3, 249}, 32, false},
		{"or sends no list", "10.0.1.7/32", "10.0.1.1", nil, 32, false},
		{"a /32 for another", "10.0.1.7/32", "10.0.1.1", []uint8{1, 3}, 28, true}, // /29 makes .7 its broadcast address
		{"neither end is a network address", "10.0.1.7/32", "10.0.1.8", []uint8{1, 3}, 28, true},
		{"nor is the gateway", "10.0.1.8/32", "10.0.1.15", []uint8{1, 3}, 27, true}, // .15 is the broadcast address of /28 and /29
		{"a prefix without its gateway", "10.0.1.7/28", "10.0.1.200", []uint8{1, 3}, 24, true},
		{"a prefix with its gateway stays", "10.0.1.7/24", "10.0.1.1", []uint8{1, 3}, 24, false},
		{"a /31 with its gateway stays", "10.0.1.0/31", "10.0.1.1", []uint8{1, 3}, 31, false},
		{"Calico: nothing short of everything", "10.0.1.7/32", "169.254.1.1", []uint8{1, 3}, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Addrs, l.Routes = []netip.Prefix{prefix(tt.addr)}, []lease.Route{via("0.0.0.0/0", tt.gateway)}
			a := answer(t, l, discover(params(tt.params...)))
			_, values := allOptions(t, a.Payload)
			if got := maskBits(values[optMask]); got != tt.want {
				t.Errorf("mask /%d, want /%d", got, tt.want)
			}
			if tt.warns != strings.Contains(a.Warning, "does not ask for classless routes") {
				t.Errorf("warning %q", a.Warning)
			}
			if _, sent := values[optRoutes]; tt.warns && sent {
				t.Error("121 sent although mask and gateway say it all")
			}
			if got, _ := netip.AddrFromSlice(values[optRouter]); got != addr(tt.gateway) {
				t.Errorf("gateway %v", got)
			}
		})
	}
}

func TestOwnAddressIsTheGatewayWhereAllIsOnLink(t *testing.T) {
	tests := []struct {
		name   string
		params []uint8
		want   string
	}{
		{"a client that asks for 121 gets the route as it is", []uint8{3, 121}, ""},
		{"another gets its own address", []uint8{1, 3}, "10.0.1.7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Addrs, l.Routes = []netip.Prefix{prefix("10.0.1.7/32")}, []lease.Route{direct("0.0.0.0/0")}
			a := answer(t, l, discover(params(tt.params...)))
			_, values := allOptions(t, a.Payload)
			got, _ := netip.AddrFromSlice(values[optRouter])
			if want, _ := netip.ParseAddr(tt.want); got != want {
				t.Errorf("gateway %v, want %q", got, tt.want)
			}
			if maskBits(values[optMask]) != 32 {
				t.Errorf("mask /%d", maskBits(values[optMask]))
			}
			if (tt.want != "") != strings.Contains(a.Warning, "its own address") {
				t.Errorf("warning %q", a.Warning)
			}
		})
	}
}

func TestGatewayIsTheFirstOfIPv4(t *testing.T) {
	l := plainLease()
	l.Routes = []lease.Route{via("::/0", "fe80::1"), direct("0.0.0.0/0"), via("0.0.0.0/0", "fe80::1"), via("0.0.0.0/0", "10.244.1.2"), via("0.0.0.0/0", "10.244.1.3")}
	_, values := allOptions(t, answer(t, l, discover()).Payload)
	if got, _ := netip.AddrFromSlice(values[optRouter]); got != addr("10.244.1.2") {
		t.Errorf("got %v", got)
	}
}
