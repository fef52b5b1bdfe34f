package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/podwire/podwire/pkg/netstate"
)

// Step is one change to the pod's network. Doing a step that is done is a no-op,
// and so is undoing one that is not: a run that was killed anywhere is finished,
// or taken back, by running it again.
type Step interface {
	// String is the step in the words of ip(8) and tc(8), one command a line.
	String() string
	// Kind is the step's name in the state file and in logs.
	Kind() string
	// On is the link that the step makes or changes.
	On() string
}

// Owner is who may open a tap without privileges.
type Owner struct {
	UID int `json:"uid"`
	GID int `json:"gid"` // -1 for any
}

// CreateTap makes the persistent tap that the virtual machine opens.
type CreateTap struct {
	Name   string       `json:"name"`
	MAC    netstate.MAC `json:"mac"` // must not be the guest's, or the bridge would keep the guest's frames
	MTU    int          `json:"mtu"`
	Owner  *Owner       `json:"owner,omitempty"` // nil: root alone
	Queues int          `json:"queues"`          // 1, or more for IFF_MULTI_QUEUE; the hypervisor must open it likewise
}

// CreateBridge makes the bridge and brings it up, without addresses, without
// spanning tree, without multicast snooping.
type CreateBridge struct {
	Name string       `json:"name"`
	MAC  netstate.MAC `json:"mac"`
	MTU  int          `json:"mtu"`
}

// AddFilter drops matching frames that enter a link. A packet socket on the link
// hears them nevertheless: the kernel hands frames to sockets first.
type AddFilter struct {
	Link string  `json:"link"`
	Name string  `json:"name"` // tells podwire's filters from others'
	Drop []Match `json:"drop"`
	// KeepHook says that the link's ingress hook (clsact or ingress qdisc) was
	// there before and is not podwire's to remove.
	KeepHook bool `json:"keepHook,omitempty"`
	// TxQLen is the length of the link's queue, which stays; nil where it does not
	// matter. A kernel makes 1000 of 0, which some CNI plugins set, along with a
	// link's first hook.
	TxQLen *int `json:"txqlen,omitempty"`
}

// TakeAddresses takes a link's addresses away, and with them the routes and
// permanent neighbours that the kernel forgets. Undoing it puts all of them
// back as they are listed here.
type TakeAddresses struct {
	Link      string              `json:"link"`
	Index     int                 `json:"index"`
	Addrs     []netstate.Addr     `json:"addrs,omitempty"`
	Routes    []netstate.Route    `json:"routes,omitempty"`
	Neighbors []netstate.Neighbor `json:"neighbors,omitempty"` // permanent ones
	// Uptime is when the lifetimes in Addrs were read: what has run off since
	// is not given back. In nanoseconds of CLOCK_BOOTTIME.
	Uptime int64 `json:"uptime"`
	// AddrGenMode is what the link had; while the addresses are away it is none,
	// or the link would make itself a link-local address again.
	AddrGenMode string `json:"addrGenMode,omitempty"`
}

// SetMAC gives a link another MAC address.
type SetMAC struct {
	Link string       `json:"link"`
	MAC  netstate.MAC `json:"mac"`
	Was  netstate.MAC `json:"was"`
}

// AttachPort makes a link a port of the bridge, with learning off, and brings it
// up.
type AttachPort struct {
	Link   string `json:"link"`
	Bridge string `json:"bridge"`
	WasUp  bool   `json:"wasUp,omitempty"`
}

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

	MatchTo MatchKind = "to" // IP packets for Addr, of either family
)

// Match is a kind of frame.
type Match struct {
	Kind MatchKind  `json:"match"`
	Addr netip.Addr `json:"addr,omitzero"`
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
	default:
		return string(m.Kind)
	}
}

// Kind implements Step.
func (CreateTap) Kind() string { return "create-tap" }

// Kind implements Step.
func (CreateBridge) Kind() string { return "create-bridge" }

// Kind implements Step.
func (AddFilter) Kind() string { return "add-filter" }

// Kind implements Step.
func (TakeAddresses) Kind() string { return "take-addresses" }

// Kind implements Step.
func (SetMAC) Kind() string { return "set-mac" }

// Kind implements Step.
func (AttachPort) Kind() string { return "attach-port" }

// On implements Step.
func (s CreateTap) On() string { return s.Name }

// On implements Step.
func (s CreateBridge) On() string { return s.Name }

// On implements Step.
func (s AddFilter) On() string { return s.Link }

// On implements Step.
func (s TakeAddresses) On() string { return s.Link }

// On implements Step.
func (s SetMAC) On() string { return s.Link }

// On implements Step.
func (s AttachPort) On() string { return s.Link }

func (s CreateTap) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tuntap add dev %s mode tap vnet_hdr", s.Name)
	if s.Queues > 1 {
		b.WriteString(" multi_queue")
	}
	owner := Owner{UID: 0, GID: -1}
	if s.Owner != nil {
		owner = *s.Owner
	}
	fmt.Fprintf(&b, " user %d", owner.UID)
	if owner.GID >= 0 {
		fmt.Fprintf(&b, " group %d", owner.GID)
	}
	fmt.Fprintf(&b, "\nlink set %s address %s mtu %d addrgenmode none", s.Name, s.MAC, s.MTU)
	return b.String()
}

func (s CreateBridge) String() string {
	return fmt.Sprintf("link add %s address %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"+
		"link set %s mtu %d addrgenmode none up", s.Name, s.MAC, s.Name, s.MTU)
}

func (s AddFilter) String() string {
	lines := make([]string, len(s.Drop))
	for i, m := range s.Drop {
		lines[i] = fmt.Sprintf("filter add dev %s ingress drop %s", s.Link, m)
	}
	return strings.Join(lines, "\n")
}

func (s TakeAddresses) String() string {
	var lines []string
	if s.AddrGenMode != "" && s.AddrGenMode != "none" {
		lines = append(lines, fmt.Sprintf("link set %s addrgenmode none", s.Link))
	}
	for _, r := range s.Routes {
		if r.Table != netstate.TableLocal {
			lines = append(lines, "route del "+routeText(r, s.Link))
		}
	}
	for _, n := range s.Neighbors {
		lines = append(lines, fmt.Sprintf("neigh del %s lladdr %s dev %s", n.Addr, n.MAC, s.Link))
	}
	for _, a := range s.Addrs {
		lines = append(lines, fmt.Sprintf("addr del %s dev %s", a.Prefix, s.Link))
	}
	return strings.Join(lines, "\n")
}

func (s SetMAC) String() string {
	return fmt.Sprintf("link set %s address %s", s.Link, s.MAC)
}

func (s AttachPort) String() string {
	return fmt.Sprintf("link set %s master %s up\nbridge link set dev %s learning off", s.Link, s.Bridge, s.Link)
}

// routeText is a route as ip(8) would print it, so far as a reader needs it.
func routeText(r netstate.Route, link string) string {
	dst := r.Dst.String()
	switch {
	case r.Default():
		dst = "default"
	case r.Dst.IsSingleIP():
		dst = r.Dst.Addr().String()
	}
	text := dst
	if r.Via.IsValid() {
		if r.Via.Is6() && r.Dst.Addr().Is4() {
			text += " via inet6 " + r.Via.String()
		} else {
			text += " via " + r.Via.String()
		}
	}
	text += " dev " + link
	if r.Table != netstate.TableMain {
		text += fmt.Sprintf(" table %d", r.Table)
	}
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	return text
}
