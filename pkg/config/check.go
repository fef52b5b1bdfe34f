package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ofMasquerade are the settings that mean nothing without that binding.
var ofMasquerade = []string{"port", "exclude-port", "exclude-from", "vm-network-cidr", "vm-ipv6-network-cidr"}

// Check refuses settings that are good, each for itself, and exclude one another. The
// error is one line.
func (c Config) Check() error {
	var several string
	switch {
	case c.All && len(c.Interfaces) > 0:
		return errors.New("--all and --interface exclude one another")
	case c.All:
		several = "--all may be several interfaces"
	case len(c.Interfaces) > 1:
		several = fmt.Sprintf("there are %d interfaces", len(c.Interfaces))
	}
	switch {
	case several != "" && !c.MAC.IsZero():
		return fmt.Errorf("--mac is one guest's address, and %s", several)
	case several != "" && c.PCIAddress != "":
		return fmt.Errorf("--pci-address is one network card's, and %s", several)
	}
	return c.checkCard()
}

// CheckBinding refuses, of settings that were given, those that mean nothing with
// the binding that c has. The error is an *Error.
func (c Config) CheckBinding(given ...Setting) error {
	for _, s := range given {
		if c.Binding != Masquerade && slices.Contains(ofMasquerade, s.Field) {
			return &Error{Source: s.Source, Value: strings.Join(s.Values, ","), Want: fmt.Sprintf("the binding masquerade with it, not %s", c.Binding)}
		}
	}
	return nil
}
