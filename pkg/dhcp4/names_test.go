package dhcp4

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

func domains(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("team-%d.svc.cluster-%d.example.internal", i, i%3))
	}
	return out
}

func TestSearchListIsReadBackAsItWas(t *testing.T) {
	deep := []string{"a.b.c.d", "x.b.c.d", "y.x.b.c.d", "c.d", "d", "x.b.c.d", "a.b.c.d"}
	for name, names := range map[string][]string{
		"nothing": {}, "one": {"cluster.local"},
		"kubernetes":             {"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		"shared in several ways": deep, "thirty": domains(30),
		"beyond what a pointer reaches": domains(1000),
	} {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, compressed %v", name, compress), func(t *testing.T) {
				s := encodeSearch(names, compress)
				got, err := rfc1035label.FromBytes(s.data)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(names, got.Labels); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestEachStartOfASearchListIsOneByItself(t *testing.T) {
	names := domains(12)
	s := encodeSearch(names, true)
	for i, end := range s.ends {
		got, err := rfc1035label.FromBytes(s.data[:end])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(names[:i+1], got.Labels); diff != "" {
			t.Errorf("the first %d (-want +got):\n%s", i+1, diff)
		}
	}
}

func TestCompressionIsThatOfRFC1035(t *testing.T) {
	const plain = "03737663" + "05" + "6c6f63616c" + "00" // svc.local
	tests := []struct {
		name  string
		names []string
		want  string
	}{
		{"the ending of an earlier name", []string{"svc.local", "a.local"}, plain + "0161" + "c004"},
		{"all of an earlier name", []string{"svc.local", "svc.local", "local"}, plain + "c000" + "c004"},
		{"never by way of another pointer", []string{"svc.local", "a.local", "b.a.local"}, plain + "0161c004" + "01620161c004"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, hex.EncodeToString(encodeSearch(tt.names, true).data)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestShortSearchListsAreSentPlain(t *testing.T) {
	l := plainLease()
	l.Search = []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}
	_, values := allOptions(t, answer(t, l, discover()).Payload)
	if diff := cmp.Diff(encodeSearch(l.Search, false).data, values[optSearch]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"vm": true, "vm-0.default.svc.cluster.local": true, "_ldap.Example": true, strings.Repeat("a", 63): true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "a b": false, "a,b": false, "ä": false,
		strings.Repeat("a", 64): false, strings.Repeat("a.", 126) + "a": true, strings.Repeat("a.", 126) + "aa": false,
	} {
		if got := isName(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
