// Package config holds podwire's settings: their names, what is allowed, and the
// order in which flags, the environment and a file beat one another.
//
// Each setting is described once, in Fields. A flag, the variable PODWIRE_<NAME>
// and a key of the file are three ways to give the same text to the same
// parser, so that all three refuse the same values with the same words. The
// package reads no files and no environment; it is handed both.
package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/podwire/podwire/pkg/netstate"
)

// Infinite is the lease time of a lease that never ends (RFC 2131 §3.3).
const Infinite = time.Duration(0)

// Config is all that can be set. The fields that shape a wired interface are
// kept in its state file; the others are of one command alone.
type Config struct {
	Interfaces    []string `json:"interfaces,omitempty"`
	All           bool     `json:"all,omitempty"`           // in place of Interfaces
	NetworkStatus string   `json:"networkStatus,omitempty"` // path of the annotation's file
	Binding       Binding  `json:"binding"`

	Ports        []Ports        `json:"ports,omitempty"` // of masquerade: those that reach the guest; all where empty
	ExcludePorts []Ports        `json:"excludePorts,omitempty"`
	ExcludeFrom  []netip.Prefix `json:"excludeFrom,omitempty"`
	VMNetwork    netip.Prefix   `json:"vmNetwork,omitzero"` // of masquerade: the guest's own; not set for none
	VMNetwork6   netip.Prefix   `json:"vmIPv6Network,omitzero"`

	MAC      netstate.MAC `json:"mac,omitzero"`  // the guest's; the pod interface's own where unset
	MTU      int          `json:"mtu,omitempty"` // octets; the pod interface's own where 0
	TapOwner *Owner       `json:"tapOwner,omitempty"`
	Queues   int          `json:"queues"`
	Guard    bool         `json:"guard,omitempty"` // hold the guest to its own MAC and addresses

	Model      string `json:"model,omitempty"`      // of the domain's network card; virtio where empty
	Vhost      string `json:"vhost,omitempty"`      // on or off; as the hypervisor likes where empty
	PCIAddress string `json:"pciAddress,omitempty"` // of the card, as 0000:01:00.0; the hypervisor's choice where empty

	Hostname   string           `json:"hostname,omitempty"`
	Domain     string           `json:"domain,omitempty"`
	Search     []string         `json:"search,omitempty"`
	DNS        []netip.Addr     `json:"dns,omitempty"`
	DNSForward bool             `json:"dnsForward,omitempty"`
	NTP        []netip.Addr     `json:"ntp,omitempty"`
	TFTPServer string           `json:"tftpServer,omitempty"`
	BootFile   string           `json:"bootFile,omitempty"`
	Options    map[uint8]string `json:"dhcpOptions,omitempty"`
	LeaseTime  time.Duration    `json:"leaseTime,omitempty"` // whole seconds, or Infinite
	ResolvConf string           `json:"resolvConf"`

	StateDir  string        `json:"-"`
	NetNS     string        `json:"-"` // path of a namespace; the own one where empty
	Output    string        `json:"-"` // text or json
	LogFormat string        `json:"-"` // text or json
	LogLevel  string        `json:"-"` // debug, info, warn or error
	Timeout   time.Duration `json:"-"`
	DryRun    bool          `json:"-"`
	ReadyFile string        `json:"-"`
	Confine   string        `json:"-"` // on or off

	Connect       string        `json:"-"` // libvirt's URI
	StartLibvirtd bool          `json:"-"`
	Prewired      bool          `json:"-"`
	GracePeriod   time.Duration `json:"-"`

	// Given are the settings that somebody gave, in the order in which they were
	// applied; all else is default.
	Given []Setting `json:"-"`
}

// Gave reports whether somebody gave a setting.
func (c Config) Gave(field string) bool {
	return slices.ContainsFunc(c.Given, func(s Setting) bool { return s.Field == field })
}

// Source is where a setting was said, as an error names it.
func (c Config) Source(field string) string {
	for _, s := range slices.Backward(c.Given) {
		if s.Field == field {
			return s.Source
		}
	}
	return "--" + field
}

// Over returns other with the settings that were given to c in place of its own:
// what is not said again stays as it was.
func (c Config) Over(other Config) Config {
	// They have been applied once, so that they are good.
	_ = other.Apply(c.Given...)
	return other
}

// Owner is a user, and a group or -1 for any.
type Owner struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

// Default returns the settings that hold where nothing is said.
func Default() Config {
	return Config{
		Binding:     Bridge,
		VMNetwork:   netip.MustParsePrefix("10.0.2.0/24"),
		VMNetwork6:  netip.MustParsePrefix("fd10:0:2::/120"),
		Queues:      1,
		ResolvConf:  "/etc/resolv.conf",
		StateDir:    "/run/podwire",
		Output:      "text",
		LogFormat:   "text",
		LogLevel:    "info",
		Timeout:     30 * time.Second,
		Confine:     "on",
		Connect:     "qemu:///system",
		GracePeriod: 30 * time.Second,
	}
}
