package dhcp6

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/podwire/podwire/pkg/lease"
)

func TestOptionsAreSentWhenAskedFor(t *testing.T) {
	tests := []struct {
		name    string
		lease   lease.Lease
		options []opt
		want    []uint16
	}{
		{"all that there is", podLease(), []opt{ask(59, 56, 39, 32, 31, 24, 23)}, []uint16{23, 59, 39, 56, 56, 31, 24}},
		{"each once", podLease(), []opt{ask(23, 23), ask(23)}, []uint16{23}},
		{"nothing that the lease has not, and no empty lists", plainLease(), []opt{ask(59, 56, 39, 32, 31, 24, 23)}, nil},
		{"nothing else, §21.7", podLease(), []opt{ask(22, 82, 1, 3, 7, 13)}, nil},
		{"DNS without a list", podLease(), nil, []uint16{23, 24}},
		{"an empty list is none", podLease(), []opt{ask()}, []uint16{23, 24}},
		{"a host name to whom sent one", podLease(), []opt{fqdn(0, ""), ask(23)}, []uint16{23, 39}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, m := answer(t, tt.lease, wire(request, append([]opt{client, server}, tt.options...)...))
			if diff := cmp.Diff(tt.want, codes(m)[2:]); len(tt.want) > 0 && diff != "" || len(codes(m)) != 2+len(tt.want) {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestValues(t *testing.T) {
	_, m := answer(t, podLease(), wire(inform, ask(23, 24, 31, 56, 59)))
	for code, want := range map[dhcpv6.OptionCode]string{
		23: "fd00000000000000000000000000000a" + "fd00000000000000000000000000000b",                                                         // RFC 3646 §3
		31: "fd000000000000000000000000000123" + "fd000000000000000000000000000124",                                                         // RFC 4075 §4
		24: text("\x07default\x03svc\x07cluster\x05local\x00") + text("\x03svc\x07cluster\x05local\x00") + text("\x07cluster\x05local\x00"), // RFC 3646 §4
		59: text("http://boot.example/vm.efi"),                                                                                              // RFC 5970 §3.1
	} {
		if got := hex.EncodeToString(value(t, m, code)); got != want {
			t.Errorf("option %d is %s, want %s", code, got, want)
		}
	}
	var ntp []string
	for _, o := range m.Options.Get(56) {
		ntp = append(ntp, hex.EncodeToString(o.ToBytes()))
	}
	want := []string{"00010010fd000000000000000000000000000123", "00010010fd000000000000000000000000000124"} // RFC 5908 §4
	if diff := cmp.Diff(want, ntp); diff != "" {
		t.Errorf("NTP (-want +got):\n%s", diff)
	}
}

func text(s string) string { return hex.EncodeToString([]byte(s)) }

func TestSearchList(t *testing.T) {
	for _, tt := range []struct {
		name   string
		search []string
		domain string
		want   []string
	}{
		{"as it stands in the lease", []string{"b.example", "a.example"}, "c.example", []string{"b.example", "a.example"}},
		{"the domain where there is no list", nil, "c.example", []string{"c.example"}},
		{"without what is no name", []string{"a..b", "ok.example", ".", "", strings.Repeat("a", 64)}, "", []string{"ok.example"}},
		{"nothing", nil, "", nil},
		{"nothing but no names", []string{"a b"}, "c.example", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Search, l.Domain = tt.search, tt.domain
			_, m := answer(t, l, wire(inform, ask(24)))
			var got []string
			if list := m.Options.DomainSearchList(); list != nil {
				got = list.Labels
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// RFC 4704 §4.1 and §6: N set, S clear, O where the client wanted S; §4.2: a name
// without its domain has no empty label at its end.
func TestHostName(t *testing.T) {
	long := strings.Repeat("a.", 120) + "example"
	for _, tt := range []struct {
		name, host, domain string
		sent               opt
		want               string
	}{
		{"with its domain", "vm", "example", ask(39), "\x04\x02vm\x07example\x00"},
		{"full already", "vm.sub", "example", ask(39), "\x04\x02vm\x03sub\x00"},
		{"the domain is not known", "vm", "", ask(39), "\x04\x02vm"},
		{"the domain is none", "vm", "a..b", ask(39), "\x04\x02vm"},
		{"too long with its domain", "a-host-name", long, ask(39), "\x04\x0ba-host-name"},
		{"the client would have the server update the DNS", "vm", "", fqdn(1, "\x05other"), "\x06\x02vm"},
		{"the client updates the DNS", "vm", "", fqdn(4, "\x05other"), "\x04\x02vm"},
		{"the lease has none", "", "example", fqdn(1, "\x05other"), ""},
		{"the lease's is no name", "my vm", "example", ask(39), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Hostname, l.Domain = tt.host, tt.domain
			_, m := answer(t, l, wire(inform, tt.sent, ask(39)))
			if got := m.Options.Get(39); tt.want == "" && len(got) > 0 {
				t.Errorf("got %v", got)
			} else if tt.want != "" && string(value(t, m, 39)) != tt.want {
				t.Errorf("got %q, want %q", value(t, m, 39), tt.want)
			}
		})
	}
}

func TestBootURL(t *testing.T) {
	for _, tt := range []struct{ name, server, file, want string }{
		{"a URL", "", "http://boot.example/vm.efi", "http://boot.example/vm.efi"},
		{"a URL on an IPv6 address, whatever the server", "fd00::1", "tftp://[fd00::69]/x", "tftp://[fd00::69]/x"},
		{"a URL on an IPv4 address is for DHCPv4", "", "http://10.0.0.1:8080/vm.efi", ""},
		{"what is no URL", "", "http://[fd00::/x", ""},
		{"server and file", "boot.example", "pxelinux.0", "tftp://boot.example/pxelinux.0"},
		{"a path from the root", "boot.example", "/efi/vm.efi", "tftp://boot.example/efi/vm.efi"},
		{"an IPv6 server goes into brackets", "fd00::69", "pxelinux.0", "tftp://[fd00::69]/pxelinux.0"},
		{"an IPv4 server is for DHCPv4", "10.0.0.69", "pxelinux.0", ""},
		{"also in IPv6 form", "::ffff:10.0.0.69", "pxelinux.0", ""},
		{"a server that is no name", "my server", "pxelinux.0", ""},
		{"a file without a server", "", "pxelinux.0", ""},
		{"a server without a file", "boot.example", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.TFTPServer, l.BootFile = tt.server, tt.file
			_, m := answer(t, l, wire(inform, ask(59)))
			if got := m.Options.BootFileURL(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// RFC 8415 §21.23: never less than 600 seconds, and of use without a lease only.
func TestRefreshTime(t *testing.T) {
	for _, tt := range []struct {
		name string
		time time.Duration
		kind dhcpv6.MessageType
		want time.Duration
	}{
		{"the lease time", time.Hour, inform, time.Hour},
		{"at least ten minutes", time.Minute, inform, 10 * time.Minute},
		{"not for an infinite lease", 0, inform, 0},
		{"not beside addresses", time.Hour, request, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := plainLease()
			l.Time = tt.time
			_, m := answer(t, l, wire(tt.kind, client, server, ask(32)))
			if got := m.Options.InformationRefreshTime(0); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// An address of the other family in a list, even in disguise, is not for it.
func TestListsHoldIPv6Alone(t *testing.T) {
	l := plainLease()
	l.DNS = []netip.Addr{addr("10.0.0.1"), addr("::ffff:10.0.0.1")}
	l.NTP = l.DNS
	_, m := answer(t, l, wire(inform, ask(23, 31, 56)))
	if diff := cmp.Diff([]uint16{2}, codes(m)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
