package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PCI is where a device is on PCI buses.
type PCI struct{ Domain, Bus, Slot, Function uint }

// String is the address as lspci(8) prints it with -D.
func (p PCI) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", p.Domain, p.Bus, p.Slot, p.Function)
}

// ParsePCI reads an address as String writes it. 0000:00:00 is the host bridge, which
// libvirt gives to no card.
func ParsePCI(text string) (p PCI, ok bool) {
	domain, rest, _ := strings.Cut(strings.ToLower(text), ":")
	bus, rest, _ := strings.Cut(rest, ":")
	slot, function, _ := strings.Cut(rest, ".")
	ok = hexNumber(domain, 4, 0xffff, &p.Domain) && hexNumber(bus, 2, 0xff, &p.Bus) &&
		hexNumber(slot, 2, 0x1f, &p.Slot) && hexNumber(function, 1, 7, &p.Function)
	return p, ok && p != PCI{Function: p.Function}
}

func hexNumber(s string, digits int, most uint64, into *uint) bool {
	n, err := strconv.ParseUint(s, 16, 16)
	*into = uint(n)
	return err == nil && len(s) == digits && n <= most
}

func setPCIAddress(c *Config, values []string) bool {
	return one(func(c *Config, v string) bool {
		p, ok := ParsePCI(v)
		c.PCIAddress = p.String()
		return ok
	})(c, values)
}

// IsModel reports whether a text can be the name of a network card's model. It is let
// into a domain's XML.
func IsModel(name string) bool {
	return name != "" && len(name) <= 32 && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func setModel(c *Config, values []string) bool {
	return one(func(c *Config, v string) bool {
		c.Model = v
		return IsModel(v)
	})(c, values)
}

// IsVirtio reports whether a model is one of virtio's: virtio itself,
// virtio-transitional, virtio-non-transitional.
func IsVirtio(model string) bool { return strings.HasPrefix(model, "virtio") }

// checkCard refuses what only a card of virtio's has, of another one.
func (c Config) checkCard() error {
	switch {
	case c.Model == "" || IsVirtio(c.Model):
		return nil
	case c.Queues > 1:
		return fmt.Errorf("--queues %d is for a card of a virtio model, and --model is %s", c.Queues, c.Model)
	case c.Vhost == "on":
		return errors.New("--vhost on is for a card of a virtio model, and --model is " + c.Model)
	}
	return nil
}
