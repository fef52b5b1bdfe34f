package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Group is a set of settings that some commands take.
type Group int

// The groups: those of every command, those that shape the wiring and the lease,
// and those of single commands.
const (
	Common Group = iota
	Setup
	DryRun
	Serve
	Launcher
)

// Field is one setting.
type Field struct {
	Name   string // of the flag, and of the key in the file
	Short  string // one letter, or nothing
	Group  Group
	Arg    string // what the value is called in the help; empty for a switch
	Usage  string
	List   bool // may be given more than once
	Values []string
	env    string // of the environment, where it is not the flag's name
	// set gives the setting its value; want says what is allowed when it returns
	// false.
	set  func(c *Config, values []string) bool
	want string
}

// Env is the name of the setting's environment variable.
func (f Field) Env() string {
	if f.env != "" {
		return f.env
	}
	return "PODWIRE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// Switch reports whether the setting is on or off and takes no value as a flag.
func (f Field) Switch() bool { return f.Arg == "" }

// Fields returns all settings, in the order of the help.
func Fields() []Field { return fields }

var bindings = []string{string(Bridge), string(Masquerade), string(TC)}

var fields = []Field{
	{
		Name: "interface", Short: "i", Arg: "NAME", List: true,
		Usage: "pod interface to wire (default: the one with the default route, else the only one with a global address)",
		set:   setInterfaces, want: "the name of a network interface: 1 to 15 characters without '/', ':', '%', ',' or white space, each name once",
	},
	{
		Name: "all", Usage: "every interface of the pod, in place of one: those of --network-status, else every veth and device of the pod",
		set: boolean(func(c *Config) *bool { return &c.All }), want: "true or false",
	},
	{
		Name: "network-status", Arg: "FILE",
		Usage: "file with the pod's annotation k8s.v1.cni.cncf.io/network-status (downward API): which interfaces there are, and which is of the default network",
		set:   absolute(func(c *Config) *string { return &c.NetworkStatus }), want: "an absolute path of at most 4095 characters",
	},
	{
		Name: "binding", Arg: "bridge|masquerade|tc", Usage: "how the pod interface is joined to the VM: see docs/bindings.md (a macvtap is handed over as it is)",
		Values: bindings, set: oneOf(func(c *Config) *string { return (*string)(&c.Binding) }, bindings...), want: "bridge, masquerade or tc",
	},
	{
		Name: "state-dir", Arg: "DIR", Usage: "where the state of each interface is kept; a tmpfs that lives as long as the pod",
		set: setStateDir, want: "an absolute path of at most 86 characters",
	},
	{
		Name: "netns", Arg: "PATH", Usage: "work inside this network namespace, such as /run/netns/pod or /proc/PID/ns/net",
		set: absolute(func(c *Config) *string { return &c.NetNS }), want: "an absolute path of at most 4095 characters",
	},
	{
		Name: "output", Short: "o", Arg: "text|json", Usage: "form of the results on standard output", Values: []string{"text", "json"},
		set: oneOf(func(c *Config) *string { return &c.Output }, "text", "json"), want: "text or json",
	},
	{
		Name: "log-format", Arg: "text|json", Usage: "form of the log on standard error", Values: []string{"text", "json"},
		set: oneOf(func(c *Config) *string { return &c.LogFormat }, "text", "json"), want: "text or json",
	},
	{
		Name: "log-level", Arg: "LEVEL", Usage: "least level that is logged: debug, info, warn or error", Values: []string{"debug", "info", "warn", "error"},
		set: oneOf(func(c *Config) *string { return &c.LogLevel }, "debug", "info", "warn", "error"), want: "debug, info, warn or error",
	},
	{
		Name: "timeout", Arg: "DURATION", Usage: "how long to wait: for another podwire's lock, for the server to answer, for libvirt",
		set: duration(func(c *Config) *durationOf { return (*durationOf)(&c.Timeout) }, minTimeout, maxTimeout), want: "a duration from 1s to 24h, such as 30s",
	},
	{
		Name: "mac", Group: Setup, Arg: "MAC", Usage: "MAC address of the guest (default: the pod interface's own)",
		set: setMAC, want: "a unicast MAC address such as 0a:58:0a:f4:01:07, not beginning with fe (libvirt refuses those)",
	},
	{
		Name: "mtu", Group: Setup, Arg: "OCTETS", Usage: "MTU of the guest, at most the pod interface's (default: the pod interface's)",
		set: integer(func(c *Config) *int { return &c.MTU }, 68, 65535), want: "a number of octets from 68 to 65535",
	},
	{
		Name: "tap-owner", Group: Setup, Arg: "UID[:GID]", Usage: "who may open the tap without privileges (default: root alone)",
		set: setOwner, want: "a numeric user, or user:group, such as 107:107",
	},
	{
		Name: "queues", Group: Setup, Arg: "N", Usage: "queues of the tap; the hypervisor must open as many",
		set: integer(func(c *Config) *int { return &c.Queues }, 1, 256), want: "a number from 1 to 256",
	},
	{
		Name: "guard", Group: Setup, Usage: "keep the guest to its own MAC and addresses, and from being a router or DHCP server to others: what else it sends ends at its tap",
		set: boolean(func(c *Config) *bool { return &c.Guard }), want: "true or false",
	},
	{
		// Kubernetes sets PODWIRE_PORT in every pod of a namespace that has a service
		// named podwire.
		Name: "port", Group: Setup, Arg: "PORTS", List: true, env: "PODWIRE_PORTS",
		Usage: "with masquerade: ports that reach the guest, such as 80/tcp, 53/udp, 8000-8010/tcp (default: all)",
		set:   setPorts(func(c *Config) *[]Ports { return &c.Ports }), want: wantPorts,
	},
	{
		Name: "exclude-port", Group: Setup, Arg: "PORTS", List: true,
		Usage: "with masquerade: ports that stay the pod's own, such as a sidecar's",
		set:   setPorts(func(c *Config) *[]Ports { return &c.ExcludePorts }), want: wantPorts,
	},
	{
		Name: "exclude-from", Group: Setup, Arg: "CIDR", List: true,
		Usage: "with masquerade: sources whose connections stay the pod's own",
		set:   setSources, want: wantSources,
	},
	{
		Name: "vm-network-cidr", Group: Setup, Arg: "CIDR", Usage: "with masquerade: the guest's IPv4 network; its first address is the gateway, its second the guest's; none for no IPv4 (default 10.0.2.0/24)",
		set: vmNetwork(func(c *Config) *netip.Prefix { return &c.VMNetwork }, true), want: "an IPv4 network of at least four addresses, such as 10.0.2.0/24, or none",
	},
	{
		Name: "vm-ipv6-network-cidr", Group: Setup, Arg: "CIDR", Usage: "with masquerade: the guest's IPv6 network, likewise (default fd10:0:2::/120)",
		set: vmNetwork(func(c *Config) *netip.Prefix { return &c.VMNetwork6 }, false), want: "an IPv6 network of at least four addresses, such as fd10:0:2::/120, or none",
	},
	{
		Name: "model", Group: Setup, Arg: "MODEL", Usage: "model of the domain's network card, such as virtio-non-transitional or e1000e (default virtio)",
		set: setModel, want: "a libvirt network card model: letters, digits and hyphens",
	},
	{
		Name: "vhost", Group: Setup, Arg: "on|off", Usage: "have the node's kernel move the frames (needs /dev/vhost-net), or the hypervisor (default: the kernel where it can)", Values: []string{"on", "off"},
		set: oneOf(func(c *Config) *string { return &c.Vhost }, "on", "off"), want: "on or off",
	},
	{
		Name: "pci-address", Group: Setup, Arg: "ADDRESS", Usage: "PCI address of the domain's network card, such as 0000:01:00.0 (default: libvirt's choice)",
		set: setPCIAddress, want: "a PCI address such as 0000:01:00.0",
	},
	{
		Name: "hostname", Group: Setup, Arg: "NAME", Usage: "the guest's host name (default: the pod's)",
		set: domainName(func(c *Config) *string { return &c.Hostname }), want: "a host name: labels of letters, digits and inner hyphens, at most 253 characters",
	},
	{
		Name: "domain", Group: Setup, Arg: "NAME", Usage: "the guest's domain (default: that of the host name, else the first search domain)",
		set: domainName(func(c *Config) *string { return &c.Domain }), want: "a domain name of at most 253 characters",
	},
	{
		Name: "search", Group: Setup, Arg: "NAME", List: true, Usage: "search domain (default: those of resolv.conf)",
		set: setSearch, want: "domain names of at most 253 characters, each once",
	},
	{
		Name: "dns", Group: Setup, Arg: "IP", List: true, Usage: "nameserver (default: those of resolv.conf)",
		set: addresses(func(c *Config) *addrList { return (*addrList)(&c.DNS) }), want: "IP addresses of hosts, each once",
	},
	{
		Name: "dns-forward", Group: Setup,
		Usage: "relay the guest's DNS questions to nameservers that only the pod reaches, such as 127.0.0.11 (serve then needs CAP_NET_ADMIN and /dev/net/tun too)",
		set:   boolean(func(c *Config) *bool { return &c.DNSForward }), want: "true or false",
	},
	{
		Name: "ntp", Group: Setup, Arg: "IP", List: true, Usage: "NTP server",
		set: addresses(func(c *Config) *addrList { return (*addrList)(&c.NTP) }), want: "IP addresses of hosts, each once",
	},
	{
		Name: "tftp-server", Group: Setup, Arg: "NAME", Usage: "TFTP server for a network boot (DHCP option 66)",
		set: text(func(c *Config) *string { return &c.TFTPServer }), want: "a name or address of at most 255 printable characters",
	},
	{
		Name: "boot-file", Group: Setup, Arg: "NAME", Usage: "file for a network boot (DHCP option 67; DHCPv6 option 59, as a URL)",
		set: text(func(c *Config) *string { return &c.BootFile }), want: "at most 255 printable characters",
	},
	{
		Name: "dhcp-option", Group: Setup, Arg: "CODE=VALUE", List: true, Usage: "a private DHCP option, 224 to 254, with a text as its value",
		set: setOptions, want: "CODE=VALUE, each CODE once, from 224 to 254, VALUE of 1 to 255 printable characters",
	},
	{
		Name: "lease-time", Group: Setup, Arg: "DURATION", Usage: "how long a lease lasts: infinite, seconds, or such as 1h (default infinite)",
		set: setLeaseTime, want: "infinite, or whole seconds from 2s to 136 years, such as 3600 or 1h",
	},
	{
		Name: "resolv-conf", Group: Setup, Arg: "FILE", Usage: "where nameservers and search domains are read",
		set: absolute(func(c *Config) *string { return &c.ResolvConf }), want: "an absolute path of at most 4095 characters",
	},
	{
		Name: "dry-run", Group: DryRun, Usage: "print what would be done, and do nothing",
		set: boolean(func(c *Config) *bool { return &c.DryRun }), want: "true or false",
	},
	{
		Name: "ready-file", Group: Serve, Arg: "FILE", Usage: "file that exists as long as the server answers",
		set: absolute(func(c *Config) *string { return &c.ReadyFile }), want: "an absolute path of at most 4095 characters",
	},
	{
		Name: "confine", Group: Serve, Arg: "on|off",
		Usage:  "have the server give up all privileges once its sockets are open (capabilities, system calls, files); off to debug it",
		Values: []string{"on", "off"}, set: oneOf(func(c *Config) *string { return &c.Confine }, "on", "off"), want: "on or off",
	},
	{
		Name: "connect", Group: Launcher, Arg: "URI", Usage: "libvirt to connect to",
		set: text(func(c *Config) *string { return &c.Connect }), want: "a libvirt URI such as qemu:///system",
	},
	{
		Name: "start-libvirtd", Group: Launcher, Usage: "start a libvirtd for the VM, and end it with the launcher",
		set: boolean(func(c *Config) *bool { return &c.StartLibvirtd }), want: "true or false",
	},
	{
		Name: "prewired", Group: Launcher, Usage: "others wire the pod and serve its guest (an init container and a sidecar, or the CNI plugin): wait for their state, and run the VM alone",
		set: boolean(func(c *Config) *bool { return &c.Prewired }), want: "true or false",
	},
	{
		Name: "grace-period", Group: Launcher, Arg: "DURATION", Usage: "how long the guest has to shut down after SIGTERM",
		set: duration(func(c *Config) *durationOf { return (*durationOf)(&c.GracePeriod) }, 0, maxTimeout), want: "a duration from 0s to 24h, such as 30s",
	},
}

func fieldByName(name string) (Field, bool) {
	i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return fields[i], true
}

// Error is a setting that cannot be taken: which, what was given, what is
// allowed. It is one line.
type Error struct {
	Source string // "--mtu", "PODWIRE_MTU" or "podwire.yaml: mtu"
	Value  string
	Want   string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s: want %s", e.Source, quoted(e.Value), e.Want)
}

// maxQuoted is how much of a value an error quotes, in characters.
const maxQuoted = 60

func quoted(value string) string { return strconv.Quote(shortened(value)) }

// readable is what somebody else named, in an error's one line: without what a
// terminal would obey.
func readable(text string) string {
	escaped := strconv.Quote(shortened(text))
	return strings.ReplaceAll(escaped[1:len(escaped)-1], `\"`, `"`)
}

func shortened(text string) string {
	n := 0
	for i := range text {
		if n++; n > maxQuoted {
			return text[:i] + "…"
		}
	}
	return text
}
