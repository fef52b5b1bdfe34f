package domxml

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/podwire/podwire/internal/golden"
	"github.com/podwire/podwire/pkg/plan"
	"libvirt.org/go/libvirtxml"
)

func TestElementGolden(t *testing.T) {
	many := pod("eth0.100", 8)
	many.Queues = 4
	for name, iface := range map[string]plan.Interface{"one": pod("eth0", 7), "many": many} {
		t.Run(name, func(t *testing.T) {
			got, err := Element(iface)
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, "element/"+name+".golden", got+"\n")
			var back libvirtxml.DomainInterface
			if err := back.Unmarshal(got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*device(iface), back, cmpopts.IgnoreFields(back, "XMLName")); diff != "" {
				t.Errorf("libvirtxml reads it otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestElementRefusesWhatLibvirtWould(t *testing.T) {
	mtu, queues, group := pod("eth0", 7), pod("eth0", 7), pod("eth0", 7)
	mtu.MTU, queues.Queues, group.MAC[0] = -1, -1, 1
	for _, tt := range []struct {
		iface plan.Interface
		want  string
	}{
		{mtu, `describing interface "eth0" for libvirt: MTU -1`},
		{queues, `describing interface "eth0" for libvirt: -1 queues`},
		{group, `describing interface "eth0" for libvirt: "01:58:0a:f4:01:07" is no MAC address for a guest`},
	} {
		if _, err := Element(tt.iface); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestAliasHasOnlyWhatLibvirtTakes(t *testing.T) {
	for name, want := range map[string]string{
		"eth0":     "ua-eth0",
		"net_1-a":  "ua-net_1-a",
		"eth0.100": "ua-eth0_100-959ba6d7",
		"ö":        "ua-_-6dbd11fd",
	} {
		if got := alias(name); got != want {
			t.Errorf("alias(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestNameAndUUID(t *testing.T) {
	const domain = "<domain><metadata><name>x</name></metadata><name>a &amp; <![CDATA[b]]></name><uuid> 4DEA22B3-1D52-D8F3-2516-782E98AB3FA0\n</uuid></domain>"
	name, err := Name(domain)
	if err != nil || name != "a & b" {
		t.Errorf("Name = %q, %v", name, err)
	}
	uuid, err := UUID(domain)
	if err != nil || uuid != "4dea22b3-1d52-d8f3-2516-782e98ab3fa0" {
		t.Errorf("UUID = %q, %v", uuid, err)
	}
	if _, err := Name("<domain><name> </name></domain>"); err == nil || err.Error() != "reading the domain: it has no <name>" {
		t.Errorf("a domain without a name: %v", err)
	}
	if uuid, err := UUID("<domain/>"); err != nil || uuid != "" {
		t.Errorf("no UUID: %q, %v", uuid, err)
	}
}
