package plan

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/lease"
)

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
