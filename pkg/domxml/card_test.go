package domxml

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is said of a card beats the user's element; what is not said is the user's.
func TestPutSetsTheCard(t *testing.T) {
	const (
		target = `<mac address='0a:58:0a:f4:01:07'/><target dev='tap-eth0' managed='no'/>`
		rest   = `<mtu size='1450'/><rom enabled='no'/><alias name='ua-eth0'/>`
		added  = `<address type='pci' domain='0x0000' bus='0x01' slot='0x02' function='0x3'/>`
	)
	at := Card{PCIAddress: "0000:01:02.3"}
	tests := []struct {
		name        string
		queues      int
		card        Card
		inner, want string // of <interface>, after the target and before the rest
	}{
		{"a model, over the user's", 1, Card{Model: "e1000e"}, `<model type = "virtio"/>`, `<model type = "e1000e"/>`},
		{"a model, where the user has none", 1, Card{Model: "e1000e"}, ``, `<model type='e1000e'/>`},
		{"a model, where the user's has no name", 1, Card{Model: "e1000e"}, `<model/>`, `<model type='e1000e'/>`},
		{
			"a model that can have the queues that the user's could not", 4,
			Card{Model: "virtio"},
			`<model type='e1000'/><driver queues='2'/>`, `<model type='virtio'/><driver queues='4'/>`,
		},
		{
			"no vhost, over the user's", 1,
			Card{Vhost: "off"},
			`<model type='virtio'/><driver name='vhost' iommu='on'/>`, `<model type='virtio'/><driver name='qemu' iommu='on'/>`,
		},
		{
			"vhost, where the user has no driver", 4,
			Card{Vhost: "on"},
			`<model type='virtio'/>`,
			`<model type='virtio'/><driver name='vhost' queues='4'/>`,
		},
		{"the user's own driver stays", 1, Card{}, `<model type='virtio'/><driver name='qemu'/>`, `<model type='virtio'/><driver name='qemu'/>`},
		{"an address, where the user has none", 1, at, `<model type='virtio'/>`, `<model type='virtio'/>` + added},
		{
			"an address, over the user's", 1, at, `<model type='virtio'/><address type='pci' bus='1' slot='0x07' multifunction='on'/>`,
			`<model type='virtio'/><address domain='0x0000' function='0x3' type='pci' bus='0x01' slot='0x02' multifunction='on'/>`,
		},
		{"an address, over one of another kind", 1, at, `<model type='virtio'/><address type='ccw' cssid='0xfe'/>`, `<model type='virtio'/>` + added},
		{"the address that it has", 1, at, `<model type='virtio'/>` + added, `<model type='virtio'/>` + added},
		{"the user's own address stays", 1, Card{}, `<model type='virtio'/><address type='pci' slot='9'/>`, `<model type='virtio'/><address type='pci' slot='9'/>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := pod("eth0", 7)
			i.Queues = tt.queues
			wrap := func(inner string) string {
				return `<domain><devices><interface type='ethernet'>` + target + rest + inner + `</interface></devices></domain>`
			}
			got := mustPutDevices(t, wrap(tt.inner), Device{i, tt.card})
			if diff := cmp.Diff(wrap(tt.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := mustPutDevices(t, got, Device{i, tt.card}); again != got {
				t.Errorf("a second run changes the domain:\n%s", cmp.Diff(got, again))
			}
		})
	}
}

// A macvtap is opened as often as the domain wants queues, so that those are the
// user's.
func TestPutLeavesTheQueuesOfAMacvtap(t *testing.T) {
	for queues, want := range map[int]string{0: "3", 1: "3", 4: "4"} {
		i := macvtap("net1", 7)
		i.Queues = queues
		const domain = `<domain><devices><interface type='direct'><source dev='eth1'/><target dev='net1'/><driver queues='3'/></interface></devices></domain>`
		root, err := parseDomain(mustPut(t, domain, i))
		if err != nil {
			t.Fatal(err)
		}
		card, err := find(root, "net1")
		if err != nil || card == nil {
			t.Fatalf("no element: %v", err)
		}
		if got := card.child("driver").attrs["queues"]; got != want {
			t.Errorf("with %d queues of podwire's: %s, want %s", queues, got, want)
		}
		if card.child("target").attrs["managed"] != "no" || card.attrs["type"] != "ethernet" || card.child("source") != nil {
			t.Errorf("not handed over as it is: %+v", card)
		}
	}
}

func TestPutRefusesAnAddressTwice(t *testing.T) {
	at := func(address string) Card { return Card{PCIAddress: address} }
	eth0, net1 := pod("eth0", 7), pod("net1", 8)
	disk := `<disk type='file'><source/><address type='pci' domain='0' bus='0x00' slot='5' function='0x0'/></disk>`
	nic := `<interface type='ethernet'><target dev='tap-net1'/><address type='pci' slot='0x06'/></interface>`
	hostdev := `<hostdev type='pci'><source><address domain='0' bus='0' slot='7' function='0'/></source></hostdev>`
	const doing = `putting interface "eth0" into the domain: `
	tests := []struct {
		name    string
		devices []Device
		want    string
	}{
		{"another device", []Device{{eth0, at("0000:00:05.0")}}, doing + `the PCI address 0000:00:05.0 is that of <disk type='file'>`},
		{"another card", []Device{{eth0, at("0000:00:06.0")}}, doing + `the PCI address 0000:00:06.0 is that of <interface type='ethernet'>`},
		{"another function", []Device{{eth0, at("0000:00:05.1")}}, ""},
		{"a card that moves", []Device{{eth0, at("0000:00:06.0")}, {net1, at("0000:00:08.0")}}, ""},
		{"a card that moves first", []Device{{net1, at("0000:00:08.0")}, {eth0, at("0000:00:06.0")}}, ""},
		{"an address of the node's, and not the guest's", []Device{{eth0, at("0000:00:07.0")}}, ""},
		{
			"two cards",
			[]Device{{net1, at("0000:00:09.0")}, {eth0, at("0000:00:09.0")}},
			doing + `the PCI address 0000:00:09.0 is that of interface "net1"; let libvirt choose, or set up each by itself`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			domain := `<domain><devices>` + disk + nic + hostdev + `</devices></domain>`
			_, err := Put(domain, tt.devices)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTapsAreThoseThatLibvirtOnlyOpens(t *testing.T) {
	got, err := Taps(`<domain><devices><interface type='ethernet'><target dev='net1' managed='no'/></interface>
  <interface type='direct'><target dev='macvtap0'/></interface><interface type='ethernet'><target/></interface>
  <interface type='ethernet'/><interface type='ethernet'><target dev="tap-eth0"/></interface></devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"net1", "tap-eth0"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Taps("<network/>"); err == nil {
		t.Error("a network was taken for a domain")
	}
}
