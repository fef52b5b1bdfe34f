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
	Up     bool         `json:"up,omitempty"`    // brought up at once; one that becomes a port comes up with that
}

// CreateBridge makes the bridge and brings it up, without addresses, without
// spanning tree, without multicast snooping.
type CreateBridge struct {
	Name string       `json:"name"`
	MAC  netstate.MAC `json:"mac"`
	MTU  int          `json:"mtu"`
}

// AddFilter drops matching frames that enter a link, or leave it. A packet socket on the link
// hears them nevertheless: the kernel hands frames to sockets first.
type AddFilter struct {
	Link string  `json:"link"`
	Name string  `json:"name"`           // tells podwire's filters from others'
	Pass []Match `json:"pass,omitempty"` // what passes although Drop describes it
	Drop []Match `json:"drop,omitempty"`
	// Guard, in place of Drop, says what a guest may send: all else is dropped.
	Guard *Guard `json:"guard,omitempty"`
	// Ahead says that a Redirect follows on the same hook: tc has both, in the order
	// of their names' places, and a filter of nftables would come too late.
	Ahead bool `json:"ahead,omitempty"`
	// Egress says that it is what the link sends.
	Egress bool `json:"egress,omitempty"`
	// Try says that a kernel that cannot may go without.
	Try bool `json:"try,omitempty"`
	// KeepHook says that the link's ingress hook (clsact or ingress qdisc) was
	// there before and is not podwire's to remove.
	KeepHook bool `json:"keepHook,omitempty"`
	// TxQLen is the length of the link's queue, which stays; nil where it does not
	// matter. A kernel makes 1000 of 0, which some CNI plugins set, along with a
	// link's first hook.
	TxQLen *int `json:"txqlen,omitempty"`
}

// Redirect hands frames that pass a hook of a link over to another link, whole:
// what is unfinished about them (a checksum, segments) stays so.
type Redirect struct {
	Link  string  `json:"link"`
	Index int     `json:"index,omitempty"` // of Link, where that is the pod's own
	Name  string  `json:"name"`            // tells podwire's filters from others'
	Match []Match `json:"match,omitempty"` // which frames; all where empty
	// Egress says that it is what Link sends; else it is what Link receives.
	Egress bool   `json:"egress,omitempty"`
	To     string `json:"to"`
	// Receive says that To receives the frames, as if they had come to it; else it
	// sends them.
	Receive  bool `json:"receive,omitempty"`
	KeepHook bool `json:"keepHook,omitempty"` // as of AddFilter
	TxQLen   *int `json:"txqlen,omitempty"`   // as of AddFilter
}

// AddAddresses gives a link of podwire's own addresses, which are in use at once. Of
// ::1, which only the loopback can have, it is that packets for it may come by the link.
type AddAddresses struct {
	Link  string         `json:"link"`
	Addrs []netip.Prefix `json:"addrs"`
}

// AllLinks is the link of an option that is the whole namespace's.
const AllLinks = "all"

// SetOption sets a network option of one link, or of the namespace.
type SetOption struct {
	IPv6   bool   `json:"ipv6,omitempty"`
	Link   string `json:"link"`   // or AllLinks
	Option string `json:"option"` // forwarding, route_localnet (IPv4), accept_ra (IPv6)
	Value  int    `json:"value"`
	Was    int    `json:"was"`
}

// Translate puts an nftables table of podwire's own in place, of the family inet.
type Translate struct {
	Link   string  `json:"link"`  // the pod interface
	Index  int     `json:"index"` // of Link
	Table  string  `json:"table"`
	Chains []Chain `json:"chains"`
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

// Kind implements Step.
func (Redirect) Kind() string { return "redirect" }

// Kind implements Step.
func (AddAddresses) Kind() string { return "add-addresses" }

// Kind implements Step.
func (SetOption) Kind() string { return "set-option" }

// Kind implements Step.
func (Translate) Kind() string { return "translate" }

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

// On implements Step.
func (s Redirect) On() string { return s.Link }

// On implements Step.
func (s AddAddresses) On() string { return s.Link }

// On implements Step.
func (s SetOption) On() string { return s.Link }

// On implements Step.
func (s Translate) On() string { return s.Link }

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
	if s.Up {
		b.WriteString(" up")
	}
	return b.String()
}

func (s CreateBridge) String() string {
	return fmt.Sprintf("link add %s address %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n"+
		"link set %s mtu %d addrgenmode none up", s.Name, s.MAC, s.Name, s.MTU)
}

func (s AddFilter) String() string {
	var lines []string
	hook := "ingress"
	if s.Egress {
		hook = "egress"
	}
	for _, m := range s.Pass {
		lines = append(lines, fmt.Sprintf("filter add dev %s %s pass %s", s.Link, hook, m))
	}
	for _, m := range s.Drop {
		lines = append(lines, fmt.Sprintf("filter add dev %s %s drop %s", s.Link, hook, m))
	}
	if s.Guard != nil {
		for _, text := range s.Guard.texts() {
			lines = append(lines, fmt.Sprintf("filter add dev %s %s drop %s", s.Link, hook, text))
		}
	}
	return strings.Join(lines, "\n")
}

func (s Redirect) String() string {
	hook, way := "ingress", "egress"
	if s.Egress {
		hook = "egress"
	}
	if s.Receive {
		way = "ingress"
	}
	match := s.Match
	if len(match) == 0 {
		match = []Match{{Kind: MatchAll}}
	}
	lines := make([]string, len(match))
	for i, m := range match {
		lines[i] = fmt.Sprintf("filter add dev %s %s match %s action mirred %s redirect dev %s", s.Link, hook, m, way, s.To)
	}
	return strings.Join(lines, "\n")
}

func (s AddAddresses) String() string {
	lines := make([]string, len(s.Addrs))
	for i, a := range s.Addrs {
		switch {
		case a.Addr().Is6() && a.Addr().IsLoopback():
			lines[i] = fmt.Sprintf("route add local %s dev %s", a.Addr(), s.Link)
		case a.Addr().Is6():
			lines[i] = fmt.Sprintf("addr add %s dev %s nodad", a, s.Link)
		default:
			lines[i] = fmt.Sprintf("addr add %s dev %s", a, s.Link)
		}
	}
	return strings.Join(lines, "\n")
}

func (s SetOption) String() string {
	family := "ipv4"
	if s.IPv6 {
		family = "ipv6"
	}
	return fmt.Sprintf("sysctl -w net/%s/conf/%s/%s=%d", family, s.Link, s.Option, s.Value)
}

func (s Translate) String() string {
	lines := []string{"nft add table inet " + s.Table}
	for _, c := range s.Chains {
		lines = append(lines, "nft add chain inet "+s.Table+" "+c.String())
		for _, r := range c.Rules {
			lines = append(lines, "nft add rule inet "+s.Table+" "+c.Name+" "+r.String())
		}
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
