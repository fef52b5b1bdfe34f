package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/netstate"
)

func TestValues(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		field string
		good  []string
		bad   []string
	}{
		{"interface", []string{"eth0", "net1.5", "a23456789012345"}, []string{"", ".", "..", "a/b", "a b", "a:b", "eth%d", "a234567890123456", "eth0\n"}},
		{"binding", []string{"bridge", "tc", "masquerade"}, []string{"", "Bridge", "slirp", "macvtap"}},
		{"all", []string{"true", "False", "Yes", "no", "on", "OFF"}, []string{"", "y", "maybe"}},
		{"network-status", []string{"/etc/podinfo/network-status"}, []string{"", "network-status"}},
		{"dns-forward", []string{"true", "False", "Yes", "no", "on", "OFF"}, []string{"", "y", "maybe"}},
		{"guard", []string{"true", "False", "Yes", "no", "on", "OFF"}, []string{"", "y", "maybe"}},
		{"state-dir", []string{"/run/podwire"}, []string{"", "run", "/" + long, "/a\x00b"}},
		{"netns", []string{"/proc/1/ns/net"}, []string{"", "pod"}},
		{"output", []string{"text", "json"}, []string{"yaml", ""}},
		{"log-format", []string{"text", "json"}, []string{"xml"}},
		{"log-level", []string{"debug", "info", "warn", "error"}, []string{"trace", "INFO", "9"}},
		{"mac", []string{"02:00:00:00:00:01", "0A-58-0A-F4-01-07"}, []string{"", "02:00:00:00:00", "03:00:00:00:00:01", "fe:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:00:00:01"}},
		{"mtu", []string{"68", "1500", "65535"}, []string{"67", "65536", "-1", "1e3", "", "1500 ", "99999999999999999999"}},
		{"tap-owner", []string{"107", "107:107", "0:0"}, []string{"", "qemu", "107:", ":107", "-1", "4294967295", "1:2:3"}},
		{"queues", []string{"1", "256"}, []string{"0", "257", "x"}},
		{
			"port",
			[]string{"80", "80/tcp", "53/udp", "36412/sctp", "8000-8010/tcp", "80, 443/tcp,53/udp", "1-65535", "53/tcp,53/udp"},
			[]string{"", "0", "65536", "80/", "80/TCP", "80/icmp", "/tcp", "-", "80-", "-80", "90-80", "http", "80/tcp/udp", "80,80/tcp", "80-90,85", "+80", "80;443"},
		},
		{"exclude-port", []string{"15001", "15000-15090/tcp"}, []string{"", "0/udp", "15001,15001"}},
		{
			"exclude-from",
			[]string{"127.0.0.6", "10.0.0.0/8", "fd00::/8", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0/0"},
			[]string{"", "localhost", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0.0-10.0.0.9"},
		},
		{
			"vm-network-cidr",
			[]string{"10.0.2.0/24", "172.20.0.0/30", "10.0.0.0/8", "100.64.0.0/10", "none"},
			[]string{
				"", "None", "10.0.2.0", "10.0.2.1/24", "10.0.2.0/31", "10.0.2.0/32", "10.0.0.0/7", "fd10:0:2::/120", "::ffff:10.0.2.0/120",
				"0.0.0.0/8", "0.1.0.0/16", "127.0.0.0/8", "127.9.0.0/16", "169.254.0.0/16", "169.0.0.0/8", "224.0.0.0/24", "240.0.0.0/24", "255.255.255.252/30",
			},
		},
		{
			"vm-ipv6-network-cidr",
			[]string{"fd10:0:2::/120", "2001:db8::/64", "fd00::/8", "fd00::/126", "none"},
			[]string{"", "10.0.2.0/24", "fd10:0:2::1/120", "fd00::/127", "fd00::/128", "fc00::/7", "fe80::/64", "ff00::/64", "::/64", "::1:0/112", "64:ff9b::/96", "fd00::%eth0/64"},
		},
		{"model", []string{"virtio", "virtio-non-transitional", "e1000e", "rtl8139"}, []string{"", "-x", "Virtio", "a b", "a'b", "a/b", long}},
		{"vhost", []string{"on", "off"}, []string{"", "true", "vhost"}},
		{
			"pci-address",
			[]string{"0000:01:00.0", "0000:00:1f.7", "ABCD:ff:00.0", "0001:00:00.0"},
			[]string{"", "01:00.0", "0000:01:00", "0000:01:20.0", "0000:01:00.8", "0000:1:00.0", "0000:01:00.0 ", "0000:01:00.0.0", "0000:00:00.0", "000g:01:00.0"},
		},
		{"hostname", []string{"vm-0", "VM.Example"}, []string{"", "-vm", "v m", long, "10.0.0.1"}},
		{"domain", []string{"a.example"}, []string{"a..b"}},
		{"search", []string{"a.example"}, []string{"", "a_b!c"}},
		{"dns", []string{"10.0.0.1", "fd00::1"}, []string{"", "dns", "fe80::1%eth0", "0.0.0.0", "224.0.0.1", "10.0.0.1/24"}},
		{"ntp", []string{"10.0.0.1"}, []string{"pool.example"}},
		{"tftp-server", []string{"10.0.0.1", "boot.example"}, []string{"", long, "a\nb"}},
		{"boot-file", []string{"/pxelinux.0"}, []string{"", long}},
		{"dhcp-option", []string{"224=x", "254=a=b,c"}, []string{"", "x", "223=x", "255=x", "240=", "240", "a=b", "240=" + long}},
		{"lease-time", []string{"infinite", "3600", "1h", "2s"}, []string{"", "0", "1s", "1500ms", "-1h", "4294967295", "forever"}},
		{"resolv-conf", []string{"/etc/resolv.conf"}, []string{"", "resolv.conf"}},
		{"timeout", []string{"1s", "30", "24h"}, []string{"0", "25h", "500ms", "soon"}},
		{"dry-run", []string{"true", "false", "1"}, []string{"", "2"}},
		{"guard", []string{"true", "False", "Yes", "no", "on", "OFF"}, []string{"", "y", "maybe"}},
		{"confine", []string{"on", "off"}, []string{"", "true", "landlock"}},
		{"ready-file", []string{"/run/ready"}, []string{"ready"}},
		{"connect", []string{"qemu:///system"}, []string{""}},
		{"start-libvirtd", []string{"true"}, []string{"maybe"}},
		{"prewired", []string{"true", "False", "Yes", "no", "on", "OFF"}, []string{"", "y", "maybe"}},
		{"grace-period", []string{"0", "0s", "2m"}, []string{"-1s", "x"}},
	}
	covered := map[string]bool{}
	for _, tt := range tests {
		covered[tt.field] = true
		for _, value := range tt.good {
			c := Default()
			if err := c.Apply(Setting{tt.field, "--" + tt.field, []string{value}}); err != nil {
				t.Errorf("%s %q: %v", tt.field, value, err)
			}
		}
		for _, value := range tt.bad {
			c := Default()
			err := c.Apply(Setting{tt.field, "--" + tt.field, []string{value}})
			var e *Error
			switch {
			case !errors.As(err, &e):
				t.Errorf("%s %q: err = %v, want an *Error", tt.field, value, err)
			case strings.Contains(e.Error(), "\n") || !strings.HasPrefix(e.Error(), "--"+tt.field+": ") || len(e.Error()) > 700:
				t.Errorf("%s: %q is no good line", tt.field, e.Error())
			}
		}
	}
	for _, f := range Fields() {
		if !covered[f.Name] {
			t.Errorf("no values are tried for %q", f.Name)
		}
	}
}

func TestParsedValues(t *testing.T) {
	c := Default()
	err := c.Apply(
		Setting{"interface", "--interface", []string{"eth0", "net1"}},
		Setting{"mac", "--mac", []string{"0A-58-0a-f4-01-07"}},
		Setting{"tap-owner", "--tap-owner", []string{"107"}},
		Setting{"search", "--search", []string{"A.Example.", "b.example"}},
		Setting{"dns", "--dns", []string{"::ffff:10.0.0.1"}},
		Setting{"dhcp-option", "--dhcp-option", []string{"240=a,b", "241==x"}},
		Setting{"lease-time", "--lease-time", []string{"3600"}},
		Setting{"timeout", "--timeout", []string{"1m"}},
		Setting{"port", "--port", []string{"80", "8000-8010/udp,443/tcp"}},
		Setting{"exclude-port", "--exclude-port", []string{"36412/sctp"}},
		Setting{"exclude-from", "--exclude-from", []string{"::ffff:127.0.0.6", "fd00::/8"}},
		Setting{"vm-network-cidr", "--vm-network-cidr", []string{"172.20.0.0/16"}},
		Setting{"vm-ipv6-network-cidr", "--vm-ipv6-network-cidr", []string{"none"}},
		Setting{"pci-address", "--pci-address", []string{"0000:0A:1F.0"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Interfaces = []string{"eth0", "net1"}
	want.MAC = netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 1, 7}
	want.TapOwner = &Owner{UID: 107, GID: -1}
	want.Search = []string{"a.example", "b.example"}
	want.DNS = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	want.Options = map[uint8]string{240: "a,b", 241: "=x"}
	want.LeaseTime = time.Hour
	want.Timeout = time.Minute
	want.Ports = []Ports{{"tcp", 80, 80}, {"udp", 8000, 8010}, {"tcp", 443, 443}}
	want.ExcludePorts = []Ports{{"sctp", 36412, 36412}}
	want.ExcludeFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.6/32"), netip.MustParsePrefix("fd00::/8")}
	want.VMNetwork, want.VMNetwork6 = netip.MustParsePrefix("172.20.0.0/16"), netip.Prefix{}
	want.PCIAddress = "0000:0a:1f.0"
	if !c.Gave("mac") || c.Gave("mtu") {
		t.Errorf("given: %v", c.Given)
	}
	c.Given = nil
	if diff := cmp.Diff(want, c, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDuplicatesAreRefused(t *testing.T) {
	for field, values := range map[string][]string{
		"interface": {"eth0", "eth0"}, "dhcp-option": {"240=a", "240=b"}, "mtu": {"1400", "1500"},
		"port": {"80", "80-90"}, "vm-network-cidr": {"10.0.2.0/24", "none"},
	} {
		c := Default()
		if err := c.Apply(Setting{field, "--" + field, values}); err == nil {
			t.Errorf("%s %q was taken", field, values)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := FromEnv([]string{
		"PATH=/bin", "PODWIRE_MTU=1400", "PODWIRE_DNS=10.0.0.1, 10.0.0.2", "PODWIRE_HOSTNAME=",
		"PODWIRE_SERVICE_HOST=10.96.3.4", "PODWIRE_PORT=tcp://10.96.3.4:80", "PODWIRE_PORT_80_TCP=x", "PODWIRE_PORTS=80, 53/udp",
		"PODWIRE_VM_IPV6_NETWORK_CIDR=none", "PODWIRE_DHCP_OPTION=240=a, b\n241=c",
	})
	want := []Setting{
		{"mtu", "PODWIRE_MTU", []string{"1400"}},
		{"port", "PODWIRE_PORTS", []string{"80", "53/udp"}},
		{"vm-ipv6-network-cidr", "PODWIRE_VM_IPV6_NETWORK_CIDR", []string{"none"}},
		{"dns", "PODWIRE_DNS", []string{"10.0.0.1", "10.0.0.2"}},
		{"dhcp-option", "PODWIRE_DHCP_OPTION", []string{"240=a, b", "241=c"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFlag(t *testing.T) {
	f, _ := fieldByName("dns")
	if diff := cmp.Diff(Setting{"dns", "--dns", []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}},
		FromFlag(f, []string{"10.0.0.1,10.0.0.2", "10.0.0.3"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f, _ = fieldByName("mtu")
	c := Default()
	if err := c.Apply(FromFlag(f, []string{""})); err == nil {
		t.Error("an empty --mtu was taken")
	}
}

func TestFile(t *testing.T) {
	settings, err := FromFile("/etc/podwire.yaml", []byte("mtu: 1400\ninterface: eth0\ndns: [10.0.0.1, fd00::1]\nlease-time: 1h\ndry-run: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	if err := c.Apply(settings...); err != nil {
		t.Fatal(err)
	}
	if c.MTU != 1400 || c.Interfaces[0] != "eth0" || len(c.DNS) != 2 || c.LeaseTime != time.Hour || !c.DryRun {
		t.Errorf("config = %+v", c)
	}
	json, err := FromFile("podwire.json", []byte(`{"mtu": 1400}`))
	if err != nil || len(json) != 1 {
		t.Errorf("JSON: %v, %v", json, err)
	}
	if none, err := FromFile("empty.yaml", nil); err != nil || len(none) != 0 {
		t.Errorf("an empty file: %v, %v", none, err)
	}
}

func TestBadFiles(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"unknown field": {"mtuu: 1400", `podwire.yaml: "mtuu": want a setting: interface,`},
		"twice":         {"mtu: 1400\nmtu: 1500", "mtu"},
		"a mapping":     {"mtu: {a: 1}", "podwire.yaml: mtu: "},
		"null":          {"mtu:", "podwire.yaml: mtu: "},
		"a list":        {"- mtu", "want a mapping"},
		"not YAML":      {"\t{", "podwire.yaml: "},
		"wrong value":   {"mtu: big", `podwire.yaml: mtu: "big": want a number of octets`},
		"a fraction":    {"mtu: 1400.5", "want a number of octets"},
		"list for one":  {"mtu: [1, 2]", `"1,2": want one value: a number of octets`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			settings, err := FromFile("/etc/podwire.yaml", []byte(tt.text))
			if err == nil {
				c := Default()
				err = c.Apply(settings...)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("err = %v, want one line that says %q", err, tt.want)
			}
		})
	}
}

func TestALaterSettingBeatsAnEarlierOne(t *testing.T) {
	c := Default()
	err := c.Apply(
		Setting{"dns", "podwire.yaml: dns", []string{"10.0.0.1", "10.0.0.2"}},
		Setting{"dns", "PODWIRE_DNS", []string{"10.0.0.3"}},
		Setting{"mtu", "PODWIRE_MTU", []string{"1400"}},
		Setting{"mtu", "--mtu", []string{"1300"}},
	)
	if err != nil || len(c.DNS) != 1 || c.MTU != 1300 {
		t.Errorf("config = %+v, %v", c, err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("mtu: 1400\ndns: [10.0.0.1]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("binding: masquerade\nport: [80, 8000-8010/tcp]\nexclude-from: 10.0.0.0/8\nvm-network-cidr: none\npci-address: 0000:01:00.0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		settings, err := FromFile("f.yaml", text)
		if err == nil {
			c := Default()
			err = c.Apply(settings...)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is more than a line", err)
		}
	})
}

func TestWhatIsNotSaidAgainStays(t *testing.T) {
	first, second := Default(), Default()
	if err := first.Apply(Setting{"mtu", "--mtu", []string{"1400"}}, Setting{"hostname", "--hostname", []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if err := second.Apply(Setting{"hostname", "--hostname", []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	if c := second.Over(first); c.MTU != 1400 || c.Hostname != "b" {
		t.Errorf("MTU %d, host name %q", c.MTU, c.Hostname)
	}
	if first.Hostname != "a" {
		t.Error("the older settings changed")
	}
}
