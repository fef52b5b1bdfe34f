package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
)

// Validate refuses what could not have been given. It is for settings that come from a
// file of podwire's own, which somebody may have edited: those are parsed again, each
// value for itself, by what parses a flag. The error is an *Error.
func (c Config) Validate() error {
	var again Config
	for _, s := range c.recorded() {
		for _, v := range s.Values {
			if err := again.Apply(Setting{Field: s.Field, Source: "config: " + s.Field, Values: []string{v}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// recorded are the settings that a file keeps, in the words of flags; those that are
// not set are left out, and switches, which cannot be wrong.
func (c Config) recorded() []Setting {
	var out []Setting
	add := func(field string, values ...string) {
		values = slices.DeleteFunc(values, func(v string) bool { return v == "" || v == "0" })
		out = append(out, Setting{Field: field, Values: values})
	}
	if len(c.Binding) > 0 && c.Binding != Macvtap {
		add("binding", string(c.Binding))
	}
	if !c.MAC.IsZero() {
		add("mac", c.MAC.String())
	}
	if c.TapOwner != nil {
		add("tap-owner", c.TapOwner.String())
	}
	if c.LeaseTime != Infinite {
		add("lease-time", c.LeaseTime.String())
	}
	add("interface", slices.Clone(c.Interfaces)...)
	add("network-status", c.NetworkStatus)
	add("port", texts(c.Ports)...)
	add("exclude-port", texts(c.ExcludePorts)...)
	add("exclude-from", texts(c.ExcludeFrom)...)
	add("vm-network-cidr", ifSet(c.VMNetwork))
	add("vm-ipv6-network-cidr", ifSet(c.VMNetwork6))
	add("mtu", strconv.Itoa(c.MTU))
	add("queues", strconv.Itoa(c.Queues))
	add("model", c.Model)
	add("vhost", c.Vhost)
	add("pci-address", c.PCIAddress)
	add("hostname", c.Hostname)
	add("domain", c.Domain)
	add("search", slices.Clone(c.Search)...)
	add("dns", texts(c.DNS)...)
	add("ntp", texts(c.NTP)...)
	add("tftp-server", c.TFTPServer)
	add("boot-file", c.BootFile)
	for _, code := range slices.Sorted(maps.Keys(c.Options)) {
		add("dhcp-option", fmt.Sprintf("%d=%s", code, c.Options[code]))
	}
	add("resolv-conf", c.ResolvConf)
	return out
}

// String is the owner as it is given.
func (o Owner) String() string {
	if o.GID < 0 {
		return strconv.Itoa(o.UID)
	}
	return fmt.Sprintf("%d:%d", o.UID, o.GID)
}

func texts[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}

// ifSet is empty for a family that the guest does without.
func ifSet(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}
