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
	for name, d := range map[string]Device{
		"one":     {Interface: pod("eth0", 7)},
		"many":    {Interface: many},
		"card":    {many, Card{Model: "virtio-non-transitional", Vhost: "on", PCIAddress: "0000:01:1f.7"}},
		"e1000e":  {pod("eth0", 7), Card{Model: "e1000e", Vhost: "off"}},
		"macvtap": {Interface: macvtap("net1", 9)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Element(d.Interface, d.Card)
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, "element/"+name+".golden", got+"\n")
			want, err := d.device()
			if err != nil {
				t.Fatal(err)
			}
			var back libvirtxml.DomainInterface
			if err := back.Unmarshal(got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*want, back, cmpopts.IgnoreFields(back, "XMLName")); diff != "" {
				t.Errorf("libvirtxml reads it otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestElementRefusesWhatLibvirtWould(t *testing.T) {
	mtu, queues, group, many := pod("eth0", 7), pod("eth0", 7), pod("eth0", 7), pod("eth0", 7)
	mtu.MTU, queues.Queues, group.MAC[0], many.Queues = -1, -1, 1, 4
	for _, tt := range []struct {
		iface plan.Interface
		card  Card
		want  string
	}{
		{mtu, Card{}, `MTU -1`},
		{queues, Card{}, `-1 queues`},
		{group, Card{}, `"01:58:0a:f4:01:07" is no MAC address for a guest`},
		{many, Card{Model: "e1000e"}, `a card of model "e1000e" cannot have 4 queues; give the tap one, or the card the model virtio`},
		{pod("eth0", 7), Card{Model: "rtl8139", Vhost: "on"}, `a card of model "rtl8139" knows no vhost; leave that out, or give the card the model virtio`},
		{pod("eth0", 7), Card{Model: "'/><x"}, `"'/><x" is no model of a network card`},
		{pod("eth0", 7), Card{Vhost: "yes"}, `vhost is "yes", and neither on nor off`},
		{pod("eth0", 7), Card{PCIAddress: "01:00.0"}, `"01:00.0" is no PCI address for a card, such as 0000:01:00.0`},
		{pod("eth0", 7), Card{PCIAddress: "0000:00:20.0"}, `"0000:00:20.0" is no PCI address for a card, such as 0000:01:00.0`},
		{pod("eth0", 7), Card{PCIAddress: "0000:00:00.0"}, `"0000:00:00.0" is no PCI address for a card, such as 0000:01:00.0`},
	} {
		_, err := Element(tt.iface, tt.card)
		if want := `describing interface "eth0" for libvirt: ` + tt.want; err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
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
