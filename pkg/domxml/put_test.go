package domxml

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/podwire/podwire/internal/golden"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"libvirt.org/go/libvirtxml"
)

func pod(name string, last byte) plan.Interface {
	return plan.Interface{
		PodInterface: name, Binding: config.Bridge, Bridge: plan.BridgeName(name), Tap: plan.TapName(name),
		MAC: netstate.MAC{0x0a, 0x58, 0x0a, 0xf4, 0x01, last}, MTU: 1450, Queues: 1,
	}
}

// macvtap is an interface that is its own tap.
func macvtap(name string, last byte) plan.Interface {
	i := pod(name, last)
	i.Binding, i.Bridge, i.Tap, i.Queues = config.Macvtap, "", name, 0
	return i
}

// plain are interfaces whose cards are as the user has them.
func plain(interfaces ...plan.Interface) []Device {
	var devices []Device
	for _, i := range interfaces {
		devices = append(devices, Device{Interface: i})
	}
	return devices
}

func mustPut(t *testing.T, domain string, interfaces ...plan.Interface) string {
	t.Helper()
	return mustPutDevices(t, domain, plain(interfaces...)...)
}

func mustPutDevices(t *testing.T, domain string, devices ...Device) string {
	t.Helper()
	out, err := Put(domain, devices)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Every domain of testdata gets two interfaces, the second with two queues.
// A second run, and a run with the domain that the first gave, change nothing.
func TestPutGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/put/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	second := pod("net1", 8)
	second.Queues = 2
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := mustPut(t, string(in), pod("eth0", 7), second)
			golden.Check(t, "put/"+strings.TrimSuffix(filepath.Base(file), ".xml")+".golden", got)
			if again := mustPut(t, got, pod("eth0", 7), second); again != got {
				t.Errorf("a second run changes the domain:\n%s", cmp.Diff(got, again))
			}
			// libvirtxml knows no DOCTYPE; libvirt does.
			if strings.Contains(got, "<!DOCTYPE") {
				return
			}
			if err := new(libvirtxml.Domain).Unmarshal(got); err != nil {
				t.Errorf("libvirtxml cannot read the result: %v", err)
			}
		})
	}
}

func TestPutLeavesAllElseAlone(t *testing.T) {
	element, err := Element(pod("eth0", 7), Card{})
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.ReplaceAll(strings.ReplaceAll(element, "\n", ""), "  ", "")
	in := func(prefix, newline string) string {
		return newline + prefix + strings.ReplaceAll(element, "\n", newline+prefix)
	}
	tests := []struct{ name, domain, want string }{
		{
			"one row stays one row", `<domain><devices><a/></devices></domain>`,
			`<domain><devices><a/>` + flat + `</devices></domain>`,
		},
		{
			"no devices in one row", `<domain><name>a</name></domain>`,
			`<domain><name>a</name><devices>` + flat + `</devices></domain>`,
		},
		{
			"an empty domain", `<domain/>`,
			"<domain>\n  <devices>" + in("    ", "\n") + "\n  </devices>\n</domain>",
		},
		{
			"spaces in a closed tag", "<domain>\n <devices />\n</domain>",
			"<domain>\n <devices >" + in("   ", "\n") + "\n </devices>\n</domain>",
		},
		{
			"an open and empty element", "<domain>\n  <devices></devices>\n</domain>",
			"<domain>\n  <devices>" + in("    ", "\n") + "\n  </devices>\n</domain>",
		},
		{
			"carriage returns", "<domain>\r\n  <devices>\r\n    <a/>\r\n  </devices>\r\n</domain>\r\n",
			"<domain>\r\n  <devices>\r\n    <a/>" + in("    ", "\r\n") + "\r\n  </devices>\r\n</domain>\r\n",
		},
		{
			"an end tag beside the last child", "<domain>\n<devices>\n  <a/></devices></domain>",
			"<domain>\n<devices>\n  <a/>" + in("  ", "\n") + "\n</devices></domain>",
		},
		{
			"an element before <devices> on its line",
			"<domain>\n  <name>vm</name><devices>\n    <a/></devices>\n</domain>",
			"<domain>\n  <name>vm</name><devices>\n    <a/>" + in("    ", "\n") + "\n  </devices>\n</domain>",
		},
		{
			"all before the last child in one line",
			"<domain><name>vm</name><devices>\n  <a/></devices></domain>",
			"<domain><name>vm</name><devices>\n  <a/>" + in("  ", "\n") + "\n</devices></domain>",
		},
		{
			"a comment beside the last child", "<domain>\n<devices>\n  <a/> <!-- b -->\n</devices></domain>",
			"<domain>\n<devices>\n  <a/> <!-- b -->" + in("  ", "\n") + "\n</devices></domain>",
		},
		{
			"a byte order mark", byteOrderMark + `<?xml version="1.0"?><domain><devices/></domain>`,
			byteOrderMark + `<?xml version="1.0"?><domain><devices>` + flat + `</devices></domain>`,
		},
		{
			"plain ASCII is UTF-8", `<?xml version="1.0" encoding="US-ASCII"?><domain><devices/></domain>`,
			`<?xml version="1.0" encoding="US-ASCII"?><domain><devices>` + flat + `</devices></domain>`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mustPut(t, tt.domain, pod("eth0", 7))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPutCompletesTheUsersElement(t *testing.T) {
	const ours = `<mac address='0a:58:0a:f4:01:07'/><target dev='tap-eth0' managed='no'/>`
	tests := []struct {
		name        string
		queues      int
		inner, want string // of <interface>
	}{
		{
			"its own choices win", 1,
			`<target dev='tap-eth0'/><model type='e1000'/><rom bar='on'/><alias name='ua-mine'/>`,
			`<target dev='tap-eth0' managed='no'/><model type='e1000'/><rom bar='on'/><alias name='ua-mine'/>` +
				`<mac address='0a:58:0a:f4:01:07'/><mtu size='1450'/>`,
		},
		{
			"queues are the tap's", 4, ours + `<driver iommu='on'/>`,
			ours + `<driver queues='4' iommu='on'/>` + `<model type='virtio'/><mtu size='1450'/><rom enabled='no'/><alias name='ua-eth0'/>`,
		},
		{
			"other queues are changed", 4, ours + `<driver queues = "2"  iommu='on'/>`,
			ours + `<driver queues = "4"  iommu='on'/>` + `<model type='virtio'/><mtu size='1450'/><rom enabled='no'/><alias name='ua-eth0'/>`,
		},
		{
			"one queue is none", 1, ours + `<driver queues='1'/>`,
			ours + `<driver/>` + `<model type='virtio'/><mtu size='1450'/><rom enabled='no'/><alias name='ua-eth0'/>`,
		},
		{
			"a boot order needs the option ROM", 1, ours + `<boot order='2'/>`,
			ours + `<boot order='2'/>` + `<model type='virtio'/><mtu size='1450'/><alias name='ua-eth0'/>`,
		},
		{
			"sources of other types go", 1, `<source bridge='br0'><x/></source>` + ours + ` <virtualport/>`,
			ours + `<model type='virtio'/><mtu size='1450'/><rom enabled='no'/><alias name='ua-eth0'/>`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := pod("eth0", 7)
			i.Queues = tt.queues
			wrap := func(typ, inner string) string {
				return `<domain><devices><interface type='` + typ + `'>` + inner + `</interface></devices></domain>`
			}
			got := mustPut(t, wrap("bridge", tt.inner), i)
			if diff := cmp.Diff(wrap("ethernet", tt.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := mustPut(t, got, i); again != got {
				t.Errorf("a second run changes the domain:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestPutWithoutInterfacesChangesNothing(t *testing.T) {
	const domain = "<domain >\r\n\t<!-- x --></domain>"
	if got := mustPut(t, domain); got != domain {
		t.Errorf("got %q", got)
	}
}

func TestPutRefuses(t *testing.T) {
	good := pod("eth0", 7)
	noTap, noMAC, many := good, good, good
	noTap.Tap, noMAC.MAC, many.Queues = "", netstate.MAC{}, 2
	const domain = `<domain><devices/></domain>`
	ifaces := func(inner string) string { return `<domain><devices>` + inner + `</devices></domain>` }
	tests := []struct {
		name, domain string
		devices      []Device
		want         string
	}{
		{"nothing", "", nil, "reading the domain: it holds no element"},
		{"text", "hello", nil, "reading the domain: it is not XML: there is text outside of the root element"},
		{"half a domain", "<domain>\n<devices>", nil, "reading the domain: XML syntax error on line 2: unexpected EOF"},
		{"another document", "<network  a='1'\n/>", nil, "reading the domain: the root element is not <domain>, but <network a='1' />"},
		{"another namespace", "<domain xmlns='urn:x'/>", nil, "reading the domain: the root element is not <domain>, but <domain xmlns='urn:x'/>"},
		{"two roots", "<domain/><domain/>", nil, "reading the domain: it has a second root element, <domain/>"},
		{
			"another encoding", `<?xml version="1.0" encoding="ISO-8859-1"?><domain/>`, nil,
			`reading the domain: it is in "ISO-8859-1", and must be in UTF-8 (iconv converts it)`,
		},
		{"wide characters", "\xff\xfe<\x00d\x00", nil, `reading the domain: it is in "UTF-16", and must be in UTF-8 (iconv converts it)`},
		{"undeclared entities", "<domain>&x;</domain>", nil, "reading the domain: XML syntax error on line 1: invalid character entity &x;"},
		{"an attribute twice", "<domain type='a' type='b'/>", nil, `reading the domain: XML syntax error on line 1: attribute "type" is there twice`},
		{"no tap", domain, plain(noTap), `putting interface "eth0" into the domain: it has no tap`},
		{"no MAC", domain, plain(noMAC), `putting interface "eth0" into the domain: "" is no MAC address for a guest`},
		{"one tap twice", domain, plain(good, good), `putting interface "eth0" into the domain: tap "tap-eth0" is already another's`},
		{
			"two elements", ifaces(strings.Repeat(`<interface><target dev='tap-eth0'/></interface>`, 2)),
			plain(good),
			`putting interface "eth0" into the domain: two of the domain's interfaces have the target "tap-eth0"`,
		},
		{
			"queues without virtio", ifaces(`<interface><target dev='tap-eth0'/><model type='e1000'/></interface>`),
			plain(many),
			`putting interface "eth0" into the domain: a card of model "e1000" cannot have 2 queues; give the tap one, or the card the model virtio`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Put(tt.domain, tt.devices)
			if err == nil {
				t.Fatalf("no error, but %q", out)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
