package domxml

import (
	"fmt"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/plan"
	"libvirt.org/go/libvirtxml"
)

// Card is what a network card of the domain is to be. What is empty is as the
// user's element has it, or else virtio, and libvirt's choice.
type Card struct {
	Model      string // virtio, e1000e
	Vhost      string // on or off: whether the node's kernel moves the frames
	PCIAddress string // 0000:01:00.0
}

// Device is a wired interface and the network card that the domain gets for it.
type Device struct {
	plan.Interface
	Card
}

const defaultModel = "virtio"

// drivers are libvirt's names for who moves a virtio card's frames, by Card.Vhost.
var drivers = map[string]string{"": "", "on": "vhost", "off": "qemu"}

// validate makes sure that the settings are ones, and do not contradict one
// another. model is the card's, whoever chose it.
func (c Card) validate(model string, queues int) error {
	switch {
	case c.Model != "" && !config.IsModel(c.Model):
		return fmt.Errorf("%q is no model of a network card", c.Model)
	case c.Vhost != "" && drivers[c.Vhost] == "":
		return fmt.Errorf("vhost is %q, and neither on nor off", c.Vhost)
	case queues > 1 && !config.IsVirtio(model):
		return fmt.Errorf("a card of model %q cannot have %d queues; give the tap one, or the card the model virtio", model, queues)
	case c.Vhost == "on" && !config.IsVirtio(model):
		return fmt.Errorf("a card of model %q knows no vhost; leave that out, or give the card the model virtio", model)
	}
	return nil
}

// device is the card as libvirt knows it.
func (d Device) device() (*libvirtxml.DomainInterface, error) {
	card := &libvirtxml.DomainInterface{
		Source: &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: d.MAC.String()},
		Target: &libvirtxml.DomainInterfaceTarget{Dev: d.Tap, Managed: "no"},
		Model:  &libvirtxml.DomainInterfaceModel{Type: d.model()},
		ROM:    &libvirtxml.DomainROM{Enabled: "no"},
		Alias:  &libvirtxml.DomainAlias{Name: alias(d.PodInterface)},
		Driver: d.driver(),
	}
	if d.MTU > 0 {
		card.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(d.MTU)}
	}
	if d.PCIAddress != "" {
		at, err := parsePCI(d.PCIAddress)
		if err != nil {
			return nil, err
		}
		card.Address = &libvirtxml.DomainAddress{PCI: libvirtPCI(at)}
	}
	return card, nil
}

// model is the card's where the user's element says nothing.
func (d Device) model() string {
	if d.Model != "" {
		return d.Model
	}
	return defaultModel
}

// driver is nil where there is nothing to say. A tap with one queue is made without
// IFF_MULTI_QUEUE, and the kernel refuses to open it with the flag: so one queue
// must not be written either.
func (d Device) driver() *libvirtxml.DomainInterfaceDriver {
	if d.Queues <= 1 && d.Vhost == "" {
		return nil
	}
	driver := &libvirtxml.DomainInterfaceDriver{Name: drivers[d.Vhost]}
	if d.Queues > 1 {
		driver.Queues = uint(d.Queues)
	}
	return driver
}
