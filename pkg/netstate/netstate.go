package netstate

import (
	"encoding/binary"
	"net/netip"
)

// Forever is the lifetime, in seconds, of an address that does not expire
// (INFINITY_LIFE_TIME in Linux's addrconf).
const Forever = ^uint32(0)

// MaxTapMTU is the most that a tap takes, in octets: 65535 less the Ethernet header.
const MaxTapMTU = 65521

// Values of rtnetlink that podwire branches on, from linux/rtnetlink.h and
// linux/neighbour.h. They are repeated here so that pure packages need no
// import of the kernel's.
const (
	TableMain  = 254
	TableLocal = 255

	ScopeLink = 253

	ProtocolKernel = 2 // RTPROT_KERNEL: the kernel made the route by itself

	TypeUnicast     = 1
	TypeLocal       = 2
	TypeBlackhole   = 6
	TypeUnreachable = 7
	TypeProhibit    = 8

	NeighborReachable = 0x02
	NeighborPermanent = 0x80

	AddrTemporary = 0x01 // IFA_F_TEMPORARY: made of random numbers, for a while (RFC 8981)
	AddrDADFailed = 0x08 // IFA_F_DADFAILED: another host has it
	AddrTentative = 0x40 // IFA_F_TENTATIVE: whether another host has it is being asked

	// RouteOnlink is RTNH_F_ONLINK: the gateway is on the link although no
	// route says so.
	RouteOnlink = 4

	attrMetrics = 8 // RTA_METRICS, which holds attributes itself
	metricMTU   = 2 // RTAX_MTU
)

// Identity names one network namespace on one boot of one machine.
type Identity struct {
	Cookie uint64 `json:"cookie,omitempty"` // SO_NETNS_COOKIE; 0 on kernels before 5.14
	Inode  uint64 `json:"inode"`            // of /proc/self/ns/net
	BootID string `json:"bootID"`           // /proc/sys/kernel/random/boot_id
}

// Same reports whether both name the same namespace. The cookie is never
// reused within a boot; the inode may be, so it decides only where a kernel has
// no cookie.
func (id Identity) Same(other Identity) bool {
	if id.BootID != other.BootID {
		return false
	}
	if id.Cookie != 0 && other.Cookie != 0 {
		return id.Cookie == other.Cookie
	}
	return id.Inode == other.Inode
}

// Attr is a netlink attribute that podwire carries without reading it, so that
// what it puts back is what it found, also where a newer kernel knows more.
type Attr struct {
	Type uint16 `json:"type"`
	Data []byte `json:"data,omitempty"`
}

// Link is a network interface.
type Link struct {
	Index         int    `json:"index"`
	Name          string `json:"name"`
	Kind          string `json:"kind,omitempty"` // IFLA_INFO_KIND: veth, bridge, tun; empty for loopback and hardware
	MAC           MAC    `json:"mac,omitzero"`
	MTU           int    `json:"mtu"`              // octets
	TxQLen        int    `json:"txqlen,omitempty"` // frames
	Up            bool   `json:"up,omitempty"`
	Loopback      bool   `json:"loopback,omitempty"`
	Master        int    `json:"master,omitempty"`        // index of the bridge it is a port of
	NoLearning    bool   `json:"noLearning,omitempty"`    // as a bridge port: IFLA_BRPORT_LEARNING is 0
	Forwarding    bool   `json:"forwarding,omitempty"`    // IPv4 packets that come by it are forwarded
	RouteLocalnet bool   `json:"routeLocalnet,omitempty"` // IPv4's 127.0.0.0/8 may come and go by it
	AcceptRA      int    `json:"acceptRA,omitempty"`      // IPv6: 0 never, 1 unless it forwards, 2 always
	AddrGenMode   string `json:"addrGenMode,omitempty"`   // eui64, none, stable_secret, random; empty where the link has no IPv6
}

// Addr is an address of a link.
type Addr struct {
	Link         int          `json:"link"`
	Prefix       netip.Prefix `json:"prefix"`        // the local address, not masked, with its prefix length
	Peer         netip.Addr   `json:"peer,omitzero"` // set where it differs from the local address
	Broadcast    netip.Addr   `json:"brd,omitzero"`  // IFA_BROADCAST
	Label        string       `json:"label,omitempty"`
	Scope        uint8        `json:"scope,omitempty"`
	Flags        uint32       `json:"flags,omitempty"` // IFA_F_*
	ValidLft     uint32       `json:"validLft"`        // seconds, Forever for none
	PreferredLft uint32       `json:"preferredLft"`    // seconds, Forever for none
	Attrs        []Attr       `json:"attrs,omitempty"`
}

// Global reports whether the address is one that a guest can be given: neither
// link-local nor loopback nor multicast.
func (a Addr) Global() bool { return a.Prefix.Addr().IsGlobalUnicast() }

// Route is an entry of a routing table.
type Route struct {
	Link     int          `json:"link,omitempty"` // 0 for multipath, blackhole and their like
	Dst      netip.Prefix `json:"dst"`            // 0.0.0.0/0 or ::/0 for the default route
	Via      netip.Addr   `json:"via,omitzero"`   // the gateway; of the other family for "via inet6"
	PrefSrc  netip.Addr   `json:"src,omitzero"`
	Priority uint32       `json:"metric,omitempty"`
	Table    uint32       `json:"table"`
	Protocol uint8        `json:"protocol,omitempty"`
	Scope    uint8        `json:"scope,omitempty"`
	Type     uint8        `json:"type"`
	TOS      uint8        `json:"tos,omitempty"`
	Flags    uint32       `json:"flags,omitempty"` // RTNH_F_*, without what the kernel reports of the link's state
	NextHops []NextHop    `json:"nextHops,omitempty"`
	Attrs    []Attr       `json:"attrs,omitempty"`
}

// MTU is the largest packet that may go by the route, in octets, where the route
// says so; else 0. Some CNI plugins set it in place of the link's.
func (r Route) MTU() int {
	for _, a := range r.Attrs {
		if a.Type != attrMetrics {
			continue
		}
		// struct rtattr: length, with these four octets, and type; padded to four.
		for b := a.Data; len(b) >= 8; {
			size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
			if kind == metricMTU && size == 8 {
				return int(binary.NativeEndian.Uint32(b[4:]))
			}
			b = b[min(max(size+3, 4)&^3, len(b)):]
		}
	}
	return 0
}

// NextHop is one of several ways of a multipath route.
type NextHop struct {
	Link   int        `json:"link"`
	Via    netip.Addr `json:"via,omitzero"`
	Weight int        `json:"weight"` // 1 and more
}

// Uses reports whether the route leaves by the link with this index.
func (r Route) Uses(link int) bool {
	if r.Link == link {
		return true
	}
	for _, hop := range r.NextHops {
		if hop.Link == link {
			return true
		}
	}
	return false
}

// Default reports whether the route is its family's default route.
func (r Route) Default() bool { return r.Dst.Bits() == 0 }

// Neighbor is an entry of the ARP or ND table.
type Neighbor struct {
	Link  int        `json:"link"`
	Addr  netip.Addr `json:"addr"`
	MAC   MAC        `json:"mac,omitzero"`
	State uint16     `json:"state"` // NUD_*
	Flags uint8      `json:"flags,omitempty"`
}

// Permanent reports whether somebody set the entry by hand.
func (n Neighbor) Permanent() bool { return n.State&NeighborPermanent != 0 }

// Rule is a policy routing rule. podwire changes none; it names those that a
// guest cannot be told about.
type Rule struct {
	Priority uint32 `json:"priority"`
	IPv6     bool   `json:"ipv6,omitempty"`
	Table    uint32 `json:"table"`
	Text     string `json:"text"` // as `ip rule` prints it
}

// Qdisc is a queueing discipline.
type Qdisc struct {
	Link   int    `json:"link"`
	Kind   string `json:"kind"`
	Handle uint32 `json:"handle"`
	Parent uint32 `json:"parent"`
}

// Filter is one of podwire's own filters on a hook of a link, by the name of the
// step that made it.
type Filter struct {
	Link int    `json:"link"`
	Name string `json:"name"`
	To   int    `json:"to,omitempty"` // index of the link that frames are redirected to
}

// Table is one of podwire's own tables of nftables, of the family inet.
type Table struct {
	Name   string  `json:"name"`
	Chains []Chain `json:"chains"` // in the order of their names
}

// Chain is a chain of a Table, with its rules in podwire's own words.
type Chain struct {
	Name  string   `json:"name"`
	Rules []string `json:"rules"`
}
