package config

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestAnnotationsAreSettings(t *testing.T) {
	got := Default()
	settings, err := FromAnnotations(map[string]string{
		"podwire.io/wire":        "true",
		"podwire.io/tap-owner":   "107:107",
		"podwire.io/dns":         "10.96.0.10, 10.96.0.11",
		"podwire.io/dhcp-option": "240=a,b\n241=c",
		"podwire.io/lease-time":  "1h",
		"podwire.io/binding":     "masquerade",
		"podwire.io/port":        "80, 53/udp\n8000-8010/tcp",

		"podwire.io/vm-network-cidr": "none",
		"example.com/mtu":            "9",
		"podwire.iox/mtu":            "9",
	}, "wire")
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Apply(settings...); err != nil {
		t.Fatal(err)
	}
	want := Default()
	if err := want.Apply(
		Setting{"tap-owner", "", []string{"107:107"}}, Setting{"dns", "", []string{"10.96.0.10", "10.96.0.11"}},
		Setting{"dhcp-option", "", []string{"240=a,b", "241=c"}}, Setting{"lease-time", "", []string{"3600"}},
		Setting{"binding", "", []string{"masquerade"}}, Setting{"port", "", []string{"80/tcp", "53/udp", "8000-8010/tcp"}},
		Setting{"vm-network-cidr", "", []string{"none"}},
	); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(Config{}, "Given")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAnnotationsAreAsStrictAsFlags: one line that names what, and what is allowed.
func TestAnnotationsAreAsStrictAsFlags(t *testing.T) {
	tests := []struct{ name, value, says string }{
		{"mtu", "1e3", `annotation podwire.io/mtu: "1e3": want a number of octets from 68 to 65535`},
		{"tap-owner", "qemu", `annotation podwire.io/tap-owner: "qemu": want a numeric user`},
		{"dns", "", `annotation podwire.io/dns: "": want IP addresses of hosts, each once`},
		{"port", "http", `annotation podwire.io/port: "http": want ports such as 80/tcp`},
		{"vm-ipv6-network-cidr", "10.0.2.0/24", `"10.0.2.0/24": want an IPv6 network of at least four addresses`},
		{"binding", "macvtap", `"macvtap": want bridge, masquerade or tc`},
		{"color", "red", `annotation podwire.io/color: "red": want one of podwire's annotations: wire, binding, mac, mtu`},
		{"hostname", strings.Repeat("x", 5000), `want at most 4096 characters`},
		{"state-dir", "/etc", "want one of podwire's annotations: "},
		{"resolv-conf", "/etc/shadow", "want one of podwire's annotations: "},
		{"netns", "/proc/1/ns/net", "want one of podwire's annotations: "},
		{"", "x", "want one of podwire's annotations: "},
	}
	for _, tt := range tests {
		c := Default()
		settings, err := FromAnnotations(map[string]string{AnnotationPrefix + tt.name: tt.value}, "wire")
		if err == nil {
			err = c.Apply(settings...)
		}
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Error(), tt.says) || strings.Contains(e.Error(), "\n") || len(e.Error()) > 400 {
			t.Errorf("%s %q: %v, want %q", tt.name, tt.value, err, tt.says)
		}
	}
}

// TestNoPathIsAPods: whatever names a place of the node, or where podwire works, is
// not for a pod, nor are settings to come by accident.
func TestNoPathIsAPods(t *testing.T) {
	for _, f := range Fields() {
		allowed := slices.Contains(ofPod, f.Name)
		if want := f.Group == Setup && f.Name != "resolv-conf" || f.Name == "binding"; allowed != want {
			t.Errorf("%s: allowed = %v, want %v", f.Name, allowed, want)
		}
	}
	if len(PodFields()) != len(ofPod) {
		t.Errorf("%d fields for %d names", len(PodFields()), len(ofPod))
	}
}

func TestObjectsAreSettings(t *testing.T) {
	c := Default()
	settings, err := FromObject("settings", json.RawMessage(`{"mtu": 1400, "dns": ["10.0.0.1", "10.0.0.2"]}`))
	if err == nil {
		err = c.Apply(settings...)
	}
	if err != nil || c.MTU != 1400 || len(c.DNS) != 2 {
		t.Errorf("mtu %d, dns %v, %v", c.MTU, c.DNS, err)
	}
	for text, says := range map[string]string{
		`[]`:                        `settings: "[]": want an object of settings`,
		`{"mtu": {}}`:               `settings: mtu: `,
		`{"mtu": "x"}`:              `settings: mtu: "x": want a number`,
		`{"resolv-conf": "/etc/x"}`: `settings: "resolv-conf": want a setting: binding, mac`,
	} {
		c := Default()
		settings, err := FromObject("settings", json.RawMessage(text))
		if err == nil {
			err = c.Apply(settings...)
		}
		if err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func FuzzAnnotations(f *testing.F) {
	f.Add("mtu", "1400")
	f.Add("dns", "10.0.0.1,,")
	f.Add("port", "80,53/udp,8000-8010/tcp")
	f.Add("exclude-from", "10.0.0.0/8 fd00::1")
	f.Add("vm-ipv6-network-cidr", "fd10:0:2::/120")
	f.Add("pci-address", "0000:01:00.0")
	f.Fuzz(func(t *testing.T, name, value string) {
		c := Default()
		settings, err := FromAnnotations(map[string]string{AnnotationPrefix + name: value})
		if err == nil {
			err = c.Apply(settings...)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("not one line: %q", err)
		}
	})
}
