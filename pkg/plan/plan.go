package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Names of podwire's filters, which Check looks for.
const (
	filterBridge = "local"
	filterTap    = "guest"
	filterPod    = "pod"
)

// Plan is what is to be done to one pod interface.
type Plan struct {
	Interface Interface `json:"interface"`
	Steps     Steps     `json:"steps"`
}

// New returns the plan for a pod interface and the lease that discover found for
// it. It fails where a name that podwire needs is somebody else's.
func New(s netstate.Snapshot, link netstate.Link, l lease.Lease, c config.Config) (Plan, error) {
	i := Interface{
		PodInterface: link.Name,
		Binding:      Bridge,
		Bridge:       BridgeName(link.Name),
		Tap:          TapName(link.Name),
		MAC:          l.MAC,
		MTU:          l.MTU,
		Queues:       c.Queues,
	}
	names := []string{i.Bridge, i.Tap}
	if len(l.Server.DNS) > 0 {
		names = append(names, TunnelName(link.Name))
	}
	for _, name := range names {
		if other, taken := s.LinkByName(name); taken {
			return Plan{}, fmt.Errorf("a link %q (%s) is there already and is not podwire's by its state; delete it, or finish what made it",
				name, other.Kind)
		}
	}
	return Plan{Interface: i, Steps: bridgeSteps(s, link, l, i, c)}, nil
}

// bridgeSteps first builds all that disturbs nothing, and last moves the pod
// interface: until TakeAddresses the pod works as before.
func bridgeSteps(s netstate.Snapshot, link netstate.Link, l lease.Lease, i Interface, c config.Config) Steps {
	steps := Steps{
		CreateTap{Name: i.Tap, MAC: link.MAC.Derive("tap"), MTU: tapMTU(link, c), Owner: owner(c.TapOwner), Queues: c.Queues},
		CreateBridge{Name: i.Bridge, MAC: link.MAC.Derive("bridge"), MTU: link.MTU},
		// The pod's own stack must hear nothing through the bridge: it would answer
		// ARP for the pod's other addresses, and make itself an address of a
		// router's advertisement even with address generation off.
		AddFilter{Link: i.Bridge, Name: filterBridge, Drop: []Match{{Kind: MatchAll}}},
	}
	if drop := kept(l); len(drop) > 0 {
		steps = append(steps, AddFilter{Link: i.Tap, Name: filterTap, Drop: append(drop, hidden(l)...)})
	}
	steps = append(steps,
		AttachPort{Link: i.Tap, Bridge: i.Bridge},
		takeAddresses(s, link),
		SetMAC{Link: link.Name, MAC: link.MAC.Derive("port"), Was: link.MAC},
	)
	if drop := foreign(l); len(drop) > 0 {
		steps = append(steps, AddFilter{
			Link: link.Name, Name: filterPod, Drop: drop, KeepHook: hasIngressHook(s, link), TxQLen: &link.TxQLen,
		})
	}
	return append(steps, AttachPort{Link: link.Name, Bridge: i.Bridge, WasUp: link.Up})
}

// tapMTU is the link's, unless somebody asked for another: where the guest is told
// less because of its routes, its neighbours on the link may still send more.
func tapMTU(link netstate.Link, c config.Config) int {
	if c.MTU != 0 {
		return c.MTU
	}
	return min(link.MTU, netstate.MaxTapMTU)
}

// Answered are the frames of the guest that podwire answers: what the server's
// packet socket listens for.
func Answered(l lease.Lease) []Match {
	var answered []Match
	if _, ok := l.IPv4(); ok {
		answered = append(answered, Match{Kind: MatchDHCPClient}, Match{Kind: MatchARPWhoHas, Addr: l.Server.ID})
	}
	if l.Server.LinkLocal.IsValid() {
		answered = append(answered, Match{Kind: MatchDHCP6Client}, Match{Kind: MatchRS}, Match{Kind: MatchNDWhoHas, Addr: l.Server.LinkLocal},
			// With the probe for its own address a guest shows that it came up.
			Match{Kind: MatchNDProbe, Addr: l.MAC.LinkLocal()})
	}
	if len(answered) == 0 {
		return nil
	}
	for _, n := range l.Neighbors {
		answered = append(answered, whoHas(n.Addr))
	}
	for _, addr := range l.Server.DNS {
		if addr.Is6() { // the IPv4 one is Server.ID
			answered = append(answered, whoHas(addr))
		}
		answered = append(answered, Match{Kind: MatchTo, Addr: addr})
	}
	return answered
}

// Gateways are the frames of the pod's network by which the gateways behind the
// lease's stand-ins say their MAC.
func Gateways(l lease.Lease) []Match {
	var says []Match
	for _, n := range l.Neighbors {
		if n.StandsFor.IsValid() {
			says = append(says, Match{Kind: MatchNDSays, Addr: n.StandsFor})
		}
	}
	return says
}

// kept are the answered frames that go no further than the tap: all but those for
// the stand-in of an IPv6 gateway. That is the address which the gateway most
// likely has, so that it answers too, also while no server runs. In a pod without
// IPv4 somebody else on its network would answer the guest's DHCPv4.
func kept(l lease.Lease) []Match {
	kept := slices.DeleteFunc(Answered(l), func(m Match) bool {
		return m.Kind == MatchNDWhoHas && slices.ContainsFunc(l.Neighbors, func(n lease.Neighbor) bool {
			return n.Addr == m.Addr && n.StandsFor.IsValid()
		})
	})
	if dhcp := (Match{Kind: MatchDHCPClient}); l.Served() && !slices.Contains(kept, dhcp) {
		kept = slices.Insert(kept, 0, dhcp)
	}
	return kept
}

func whoHas(addr netip.Addr) Match {
	if addr.Is4() {
		return Match{Kind: MatchARPWhoHas, Addr: addr}
	}
	return Match{Kind: MatchNDWhoHas, Addr: addr}
}

// hidden are the frames that end at the tap without an answer: the guest's
// probes for its own addresses. Some networks' responders answer for every
// address, others send the guest its own frames back, and the guest would take its
// address for somebody else's. Announcements, whose sender is the address itself,
// pass.
func hidden(l lease.Lease) []Match {
	var hidden []Match
	for _, p := range l.AddrsOf(true) {
		hidden = append(hidden, Match{Kind: MatchARPProbe, Addr: p.Addr()})
	}
	for _, p := range l.AddrsOf(false) {
		hidden = append(hidden, Match{Kind: MatchNDProbe, Addr: p.Addr()})
	}
	return hidden
}

// foreign are the frames of the pod's network that must not reach a guest to which
// podwire says the same itself, or would if there were anything to say.
func foreign(l lease.Lease) []Match {
	var foreign []Match
	if l.Served() {
		foreign = append(foreign, Match{Kind: MatchDHCPServer})
	}
	if l.Server.LinkLocal.IsValid() {
		foreign = append(foreign, Match{Kind: MatchDHCP6Server}, Match{Kind: MatchRA})
	}
	return foreign
}

func takeAddresses(s netstate.Snapshot, link netstate.Link) TakeAddresses {
	step := TakeAddresses{
		Link:        link.Name,
		Index:       link.Index,
		Addrs:       s.AddrsOf(link.Index),
		Routes:      s.RoutesOf(link.Index),
		Uptime:      int64(s.Uptime),
		AddrGenMode: link.AddrGenMode,
	}
	for _, n := range s.NeighborsOf(link.Index) {
		if n.Permanent() {
			step.Neighbors = append(step.Neighbors, n)
		}
	}
	return step
}

func hasIngressHook(s netstate.Snapshot, link netstate.Link) bool {
	for _, q := range s.Qdiscs {
		if q.Link == link.Index && (q.Kind == "clsact" || q.Kind == "ingress") {
			return true
		}
	}
	return false
}

func owner(o *config.Owner) *Owner {
	if o == nil {
		return nil
	}
	return &Owner{UID: o.UID, GID: o.GID}
}
