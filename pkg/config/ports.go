package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Ports are ports of one transport protocol, from first to last.
type Ports struct {
	Protocol string `json:"protocol"` // tcp, udp or sctp
	First    uint16 `json:"first"`
	Last     uint16 `json:"last"` // the same as First for one alone
}

// String is the ports as they are given: 80/tcp, 8000-8010/tcp.
func (p Ports) String() string {
	if p.First == p.Last {
		return fmt.Sprintf("%d/%s", p.First, p.Protocol)
	}
	return fmt.Sprintf("%d-%d/%s", p.First, p.Last, p.Protocol)
}

const wantPorts = "ports such as 80/tcp, 53/udp or 8000-8010/tcp (tcp, udp or sctp; tcp where no protocol is said), none twice"

// setPorts takes commas within a value too: several ports are one word on a
// command line.
func setPorts(of func(*Config) *[]Ports) setter {
	return func(c *Config, values []string) bool {
		list := []Ports{}
		for _, value := range values {
			for _, text := range strings.Split(value, ",") {
				p, ok := parsePorts(strings.TrimSpace(text))
				if !ok || slices.ContainsFunc(list, p.overlaps) {
					return false
				}
				list = append(list, p)
			}
		}
		*of(c) = list
		return true
	}
}

func parsePorts(text string) (Ports, bool) {
	numbers, protocol, said := strings.Cut(text, "/")
	if !said {
		protocol = "tcp"
	}
	first, last, isRange := strings.Cut(numbers, "-")
	if !isRange {
		last = first
	}
	from, errFrom := strconv.ParseUint(first, 10, 16)
	to, errTo := strconv.ParseUint(last, 10, 16)
	ok := errFrom == nil && errTo == nil && from > 0 && from <= to && slices.Contains([]string{"tcp", "udp", "sctp"}, protocol)
	return Ports{Protocol: protocol, First: uint16(from), Last: uint16(to)}, ok
}

func (p Ports) overlaps(o Ports) bool {
	return p.Protocol == o.Protocol && p.First <= o.Last && o.First <= p.Last
}

const wantSources = "addresses or networks such as 127.0.0.6 or 10.0.0.0/8, each once"

func setSources(c *Config, values []string) bool {
	c.ExcludeFrom = make([]netip.Prefix, 0, len(values))
	for _, v := range values {
		p, err := netip.ParsePrefix(v)
		if addr, isAddr := netip.ParseAddr(v); isAddr == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || p.Masked() != p || p.Addr().Is4In6() || slices.Contains(c.ExcludeFrom, p) {
			return false
		}
		c.ExcludeFrom = append(c.ExcludeFrom, p)
	}
	return true
}

// NoNetwork is what is said in place of a guest's network where the guest is to
// have no address of that family.
const NoNetwork = "none"

// vmNetwork takes a network that has room for the gateway, which is its first
// address, and the guest, which is its second.
func vmNetwork(of func(*Config) *netip.Prefix, ipv4 bool) setter {
	return one(func(c *Config, v string) bool {
		*of(c) = netip.Prefix{}
		if v == NoNetwork {
			return true
		}
		p, err := netip.ParsePrefix(v)
		if err != nil || p.Masked() != p || p.Addr().Is4() != ipv4 || p.Addr().Is4In6() {
			return false
		}
		*of(c) = p
		return p.Addr().BitLen()-p.Bits() >= 2 && p.Bits() >= 8 && forHosts(p)
	})
}

// notForHosts are the IPv4 networks whose addresses no host on a network of its own
// has: "this network", loopback and link-local (RFC 6890), groups, and class E,
// which not every system takes.
var notForHosts = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
}

// forHosts6 are IPv6's global and unique local addresses (RFC 4291 §2.4, RFC 4193).
var forHosts6 = []netip.Prefix{netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("fc00::/7")}

func forHosts(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return !slices.ContainsFunc(notForHosts, p.Overlaps)
	}
	return slices.ContainsFunc(forHosts6, p.Overlaps)
}
