package config

import (
	stdcmp "cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/pkg/netstate"
)

func TestSettingsThatExcludeOneAnother(t *testing.T) {
	tests := []struct {
		name  string
		given string // flags, as --name=value
		says  string // nothing where they go together
	}{
		{name: "nothing"},
		{name: "one of each", given: "--interface=eth0 --mac=02:00:00:00:00:01 --pci-address=0000:01:00.0"},
		{name: "all and some", given: "--all=true --interface=eth0", says: "--all and --interface exclude one another"},
		{name: "not all and some", given: "--all=false --interface=eth0"},
		{name: "a MAC for two", given: "--interface=eth0,net1 --mac=02:00:00:00:00:01", says: "--mac is one guest's address, and there are 2 interfaces"},
		{name: "a MAC for all", given: "--all=true --mac=02:00:00:00:00:01", says: "--mac is one guest's address, and --all may be"},
		{name: "a PCI address for two", given: "--interface=eth0,net1 --pci-address=0000:01:00.0", says: "--pci-address is one network card's, and there are 2"},
		{name: "a PCI address for all", given: "--all=true --pci-address=0000:01:00.0", says: "--pci-address is one network card's, and --all"},
		{name: "a model for two", given: "--interface=eth0,net1 --model=virtio-transitional --vhost=off --queues=4"},
		{name: "queues of another model", given: "--model=e1000e --queues=4", says: "--queues 4 is for a card of a virtio model"},
		{name: "vhost of another model", given: "--model=e1000e --vhost=on", says: "--vhost on is for a card of a virtio model"},
		{name: "masquerade's, with it", given: "--binding=masquerade --port=80 --exclude-port=81 --exclude-from=10.0.0.1 --vm-network-cidr=none --vm-ipv6-network-cidr=fd99::/64"},
		{name: "ports", given: "--port=80,81", says: `--port: "80,81": want the binding masquerade with it, not bridge`},
		{name: "excluded ports", given: "--binding=tc --exclude-port=80", says: `--exclude-port: "80": want the binding masquerade with it, not tc`},
		{name: "excluded sources", given: "--exclude-from=10.0.0.1", says: "--exclude-from: "},
		{name: "an IPv4 network", given: "--vm-network-cidr=10.0.2.0/24", says: "--vm-network-cidr: "},
		{name: "an IPv6 network", given: "--vm-ipv6-network-cidr=none", says: "--vm-ipv6-network-cidr: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			for _, flag := range strings.Fields(tt.given) {
				name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
				f, ok := fieldByName(name)
				if err := c.Apply(FromFlag(f, []string{value})); !ok || err != nil {
					t.Fatalf("%s: %v", flag, err)
				}
			}
			err := stdcmp.Or(c.Check(), c.CheckBinding(c.Given...))
			switch {
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.says != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.says) || strings.Contains(err.Error(), "\n")):
				t.Errorf("err = %v, want one line that begins with %q", err, tt.says)
			}
		})
	}
}

// TestOthersSettingsAreNotBlamed: a node's ports for masquerade keep no pod from
// another binding; a pod's own do.
func TestOthersSettingsAreNotBlamed(t *testing.T) {
	c := Default()
	node := Setting{"port", "settings: port", []string{"80"}}
	pod := Setting{"binding", "annotation podwire.io/binding", []string{"tc"}}
	if err := c.Apply(node, pod); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckBinding(pod); err != nil {
		t.Errorf("the pod's are refused: %v", err)
	}
	if err := c.CheckBinding(node, pod); err == nil {
		t.Error("the node's are taken")
	}
}

func TestMasqueradeKnowsItsSettings(t *testing.T) {
	for _, f := range Fields() {
		if said := strings.HasPrefix(f.Usage, "with masquerade: "); said != slices.Contains(ofMasquerade, f.Name) {
			t.Errorf("%s: the help says that it is masquerade's: %v", f.Name, said)
		}
	}
}

// TestConfigKeepsInAFile: what an interface was wired with is read again as it was.
func TestConfigKeepsInAFile(t *testing.T) {
	settings := map[string][]string{
		"binding": {"masquerade"}, "port": {"80", "8000-8010/udp"}, "exclude-port": {"15001"}, "exclude-from": {"127.0.0.6", "fd00::/8"},
		"model": {"e1000e"}, "vhost": {"off"}, "pci-address": {"0000:01:00.0"}, "queues": {"4"}, "tap-owner": {"107"}, "mac": {"02:00:00:00:00:01"},
	}
	for name, network := range map[string][]string{
		"the usual networks": nil, "no IPv4": {"vm-network-cidr", "none"}, "no IPv6": {"vm-ipv6-network-cidr", "none"},
		"of one's own": {"vm-network-cidr", "172.20.0.0/30"},
	} {
		t.Run(name, func(t *testing.T) {
			was := Default()
			for field, values := range settings {
				if err := was.Apply(Setting{field, "", values}); err != nil {
					t.Fatal(err)
				}
			}
			if network != nil {
				if err := was.Apply(Setting{network[0], "", network[1:]}); err != nil {
					t.Fatal(err)
				}
			}
			text, err := json.Marshal(was)
			if err != nil {
				t.Fatal(err)
			}
			var is Config
			if err := json.Unmarshal(text, &is); err != nil {
				t.Fatal(err)
			}
			of := func(c Config) []any {
				return []any{
					c.Binding, c.Ports, c.ExcludePorts, c.ExcludeFrom, c.VMNetwork, c.VMNetwork6, c.MAC, c.TapOwner, c.Queues, c.Model, c.Vhost, c.PCIAddress, c.ResolvConf,
				}
			}
			if diff := cmp.Diff(of(was), of(is), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("(-was +is):\n%s", diff)
			}
		})
	}
}

func TestPortsAreWrittenAsTheyAreGiven(t *testing.T) {
	for _, text := range []string{"80/tcp", "53/udp", "8000-8010/sctp", "1-65535/tcp"} {
		if p, ok := parsePorts(text); !ok || p.String() != text {
			t.Errorf("%q: %v, %v", text, p, ok)
		}
	}
}

func TestBindingOfALink(t *testing.T) {
	for _, b := range []Binding{Bridge, TC, Masquerade} {
		for kind, want := range map[string]Binding{"": b, "veth": b, "macvlan": b, "macvtap": Macvtap} {
			if got := b.For(netstate.Link{Kind: kind}); got != want {
				t.Errorf("%s for a %q is %s, want %s", b, kind, got, want)
			}
		}
	}
}
