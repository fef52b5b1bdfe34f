package domxml

import (
	"fmt"
	"strconv"

	"github.com/podwire/podwire/pkg/config"
	"libvirt.org/go/libvirtxml"
)

// parsePCI reads an address as lspci(8) prints it.
func parsePCI(text string) (config.PCI, error) {
	at, ok := config.ParsePCI(text)
	if !ok {
		return at, fmt.Errorf("%q is no PCI address for a card, such as 0000:01:00.0", text)
	}
	return at, nil
}

func libvirtPCI(a config.PCI) *libvirtxml.DomainAddressPCI {
	return &libvirtxml.DomainAddressPCI{Domain: &a.Domain, Bus: &a.Bus, Slot: &a.Slot, Function: &a.Function}
}

// pciOf returns the PCI address that a device of the domain asks for.
func pciOf(device *node) (config.PCI, bool) {
	n := device.child("address")
	if n == nil || n.attrs["type"] != "pci" {
		return config.PCI{}, false
	}
	var a config.PCI
	for name, part := range map[string]*uint{"domain": &a.Domain, "bus": &a.Bus, "slot": &a.Slot, "function": &a.Function} {
		text, said := n.attrs[name]
		if !said {
			continue
		}
		// As libvirt reads them: in C's notation.
		value, err := strconv.ParseUint(text, 0, 32)
		if err != nil {
			return config.PCI{}, false
		}
		*part = uint(value)
	}
	return a, a != config.PCI{}
}

// unclash makes sure that each address that is given to a card is that card's alone.
// cards are the elements that the devices have in the domain, nil where they have
// none yet.
func (e *editor) unclash(root *node, devices []Device, cards []*node) error {
	owners := map[config.PCI]string{}
	ours := map[*node]bool{}
	for i, d := range devices {
		if d.PCIAddress == "" {
			continue
		}
		at, err := parsePCI(d.PCIAddress)
		if err != nil {
			return d.putting(err)
		}
		if other, taken := owners[at]; taken {
			return d.putting(fmt.Errorf("the PCI address %s is that of interface %q; let libvirt choose, or set up each by itself", at, other))
		}
		owners[at] = d.PodInterface
		ours[cards[i]] = true
	}
	for _, all := range root.all("devices") {
		for _, n := range all.children {
			at, has := pciOf(n)
			if name, wanted := owners[at]; has && wanted && !ours[n] {
				return fmt.Errorf("putting interface %q into the domain: the PCI address %s is that of %s", name, at, openTag(e.text, n))
			}
		}
	}
	return nil
}
