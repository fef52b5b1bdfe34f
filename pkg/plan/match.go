package plan

import (
	"fmt"
	"net/netip"

	"github.com/podwire/podwire/pkg/netstate"
)

// MatchKind is what a filter looks for.
type MatchKind string

// The frames that podwire keeps from crossing between guest and pod network.
const (
	MatchAll        MatchKind = "all"         // every frame
	MatchDHCPClient MatchKind = "dhcp-client" // IPv4 UDP to port 67
	MatchDHCPServer MatchKind = "dhcp-server" // IPv4 UDP from port 67 to port 68
	MatchARPWhoHas  MatchKind = "arp-who-has" // ARP requests for Addr, from anyone
	MatchARPProbe   MatchKind = "arp-probe"   // ARP requests for Addr with sender 0.0.0.0 (RFC 5227 §1.1)

	MatchDHCP6Client MatchKind = "dhcpv6-client"        // IPv6 UDP to port 547
	MatchDHCP6Server MatchKind = "dhcpv6-server"        // IPv6 UDP from port 547 to port 546
	MatchRS          MatchKind = "router-solicitation"  // ICMPv6 type 133 (RFC 4861 §4.1)
	MatchRA          MatchKind = "router-advertisement" // ICMPv6 type 134 (RFC 4861 §4.2)
	MatchNDWhoHas    MatchKind = "nd-who-has"           // neighbor solicitations for Addr (RFC 4861 §4.3), from anyone
	MatchNDProbe     MatchKind = "nd-probe"             // neighbor solicitations for Addr from :: (RFC 4862 §5.4.2)
	MatchNDSays      MatchKind = "nd-says"              // neighbor advertisements of Addr (RFC 4861 §4.4)

	MatchTo   MatchKind = "to"   // IP packets for Addr, of either family
	MatchFrom MatchKind = "from" // frames whose source is MAC
)

// Match is a kind of frame.
type Match struct {
	Kind MatchKind    `json:"match"`
	Addr netip.Addr   `json:"addr,omitzero"`
	MAC  netstate.MAC `json:"mac,omitzero"`
}

// String returns the match in the words of tcpdump(1).
func (m Match) String() string {
	switch m.Kind {
	case MatchAll:
		return "all"
	case MatchDHCPClient:
		return "udp dst port 67"
	case MatchDHCPServer:
		return "udp src port 67 dst port 68"
	case MatchARPWhoHas:
		return fmt.Sprintf("arp who-has %s", m.Addr)
	case MatchARPProbe:
		return fmt.Sprintf("arp who-has %s tell 0.0.0.0", m.Addr)
	case MatchDHCP6Client:
		return "ip6 and udp dst port 547"
	case MatchDHCP6Server:
		return "ip6 and udp src port 547 dst port 546"
	case MatchRS:
		return "icmp6 router-solicitation"
	case MatchRA:
		return "icmp6 router-advertisement"
	case MatchNDWhoHas:
		return fmt.Sprintf("icmp6 neighbor-solicitation who has %s", m.Addr)
	case MatchNDProbe:
		return fmt.Sprintf("icmp6 neighbor-solicitation who has %s from ::", m.Addr)
	case MatchNDSays:
		return fmt.Sprintf("icmp6 neighbor-advertisement of %s", m.Addr)
	case MatchTo:
		return fmt.Sprintf("dst host %s", m.Addr)
	case MatchFrom:
		return fmt.Sprintf("ether src %s", m.MAC)
	default:
		return string(m.Kind)
	}
}
