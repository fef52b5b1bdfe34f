package resolvconf

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestParse(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct {
		name, in string
		want     Config
		warn     []string // each a part of the warning in that place
	}{
		{name: "nothing"},
		{
			name: "as the kubelet writes it",
			in:   "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
			want: Config{addrs("10.96.0.10"), []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}},
		},
		{
			name: "comments, tabs, blank lines and several spaces",
			in:   "# head\n; other\n\n\tnameserver\t10.0.0.1   # the first\nsearch\ta.example \t b.example ; c.example\n",
			want: Config{addrs("10.0.0.1"), []string{"a.example", "b.example"}},
		},
		{
			name: "both families, in order, each once",
			in:   "nameserver fd00::a\nnameserver 10.0.0.1\nnameserver FD00::A\nnameserver 10.0.0.1",
			want: Config{Nameservers: addrs("fd00::a", "10.0.0.1")},
		},
		{
			name: "several search lines and a domain line are joined",
			in:   "domain a.example\nsearch b.example a.example\nsearch c.example\n",
			want: Config{Search: []string{"a.example", "b.example", "c.example"}},
			warn: []string{"3 search or domain lines"},
		},
		{
			name: "mixed case and trailing dots",
			in:   "SEARCH Default.SVC.Cluster.Local. Example.COM\n",
			want: Config{Search: []string{"default.svc.cluster.local", "example.com"}},
		},
		{
			name: "names that are no domain names cost only themselves",
			in:   "search DHCP 10.0.0.1 -x.example x-.example a..b " + long + ".example ok.example foo,com _tcp.example .\n",
			want: Config{Search: []string{"dhcp", "ok.example", "_tcp.example"}},
			warn: []string{"10.0.0.1 is an IP address", "hyphen", "hyphen", "empty label", "longer than 63", `','`},
		},
		{
			name: "nameservers that are none",
			in:   "nameserver\nnameserver dns.example\nnameserver fe80::1%eth0\nnameserver 0.0.0.0\nnameserver ff02::1\nnameserver ::ffff:10.0.0.9\n",
			want: Config{Nameservers: addrs("10.0.0.9")},
			warn: []string{"without an address", "no IP address", "one link", "no host's", "no host's"},
		},
		{
			name: "leading zeros are decimal",
			in:   "nameserver 010.000.0.08\n",
			want: Config{Nameservers: addrs("10.0.0.8")},
		},
		{
			name: "loopback resolvers are kept: whether a guest reaches them is not decided here",
			in:   "nameserver 127.0.0.53\n",
			want: Config{Nameservers: addrs("127.0.0.53")},
		},
		{
			name: "what is not text, and unknown keywords",
			in:   "\xff\xfe\nlookup file bind\n",
			warn: []string{"line 1: not text", `line 2: unknown keyword "lookup"`},
		},
		{
			name: "carriage returns",
			in:   "nameserver 10.0.0.1\r\nsearch a.example\r\n",
			want: Config{addrs("10.0.0.1"), []string{"a.example"}},
		},
		{
			name: "a name of more than 253 characters",
			in:   "search " + strings.Repeat("abcdefg.", 32) + "example\n",
			warn: []string{"longer than 253"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, warnings := Parse([]byte(tt.in))
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			if len(warnings) != len(tt.warn) {
				t.Fatalf("warnings = %q, want %d", warnings, len(tt.warn))
			}
			for i, part := range tt.warn {
				if !strings.Contains(warnings[i], part) {
					t.Errorf("warning %d = %q, want it to say %q", i, warnings[i], part)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("search a.example b.example\nnameserver 10.0.0.1\n"))
	f.Add([]byte("nameserver fe80::1%eth0\nsearch -a \xff\n; x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, _ := Parse(text)
		for _, a := range c.Nameservers {
			if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
				t.Errorf("nameserver %v", a)
			}
		}
		for _, name := range c.Search {
			again, err := Domain(name)
			if err != nil || again != name {
				t.Errorf("search name %q is not stable: %q, %v", name, again, err)
			}
		}
	})
}
