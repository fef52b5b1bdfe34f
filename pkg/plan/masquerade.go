package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Options that packets need to be forwarded, by their names below
// /proc/sys/net/*/conf.
const (
	OptionForwarding = "forwarding"
	OptionLocalnet   = "route_localnet" // IPv4's 127.0.0.0/8 may come and go by the link
	OptionAcceptRA   = "accept_ra"      // of IPv6

	acceptRAUnlessForwarding = 1
	acceptRAAlways           = 2

	protocolRA = 9 // RTPROT_RA: a router has advertised it
)

// masqueradeSteps makes the pod's kernel the gateway of a network that has the tap
// for its only link. The last step alone changes what reaches the pod.
func masqueradeSteps(s netstate.Snapshot, link netstate.Link, l lease.Lease, i Interface, c config.Config) Steps {
	tap := createTap(link, i, c)
	tap.MAC, tap.Up = lease.GatewayMAC, true
	steps := Steps{
		tap,
		AddFilter{Link: i.Tap, Name: filterTap, Drop: append(append(kept(l), hidden(l)...), impersonating(l)...)},
	}
	steps = append(steps, guarded(AddFilter{Link: i.Tap}, l, c)...)
	steps = append(steps, AddAddresses{Link: i.Tap, Addrs: gatewayAddrs(l)})
	if hasGateway(l, true) {
		steps = append(steps,
			SetOption{Link: i.Tap, Option: OptionForwarding, Value: 1},
			SetOption{Link: i.Tap, Option: OptionLocalnet, Value: 1}) // so that what goes to 127.0.0.1 can be the guest's
		for _, from := range unforwarded(s, link, l) {
			steps = append(steps, SetOption{Link: from.Name, Option: OptionForwarding, Value: 1})
		}
	}
	if hasGateway(l, false) && !s.Forwarding6 {
		steps = append(steps, forwardIPv6(s)...)
	}
	return append(steps, translate(s, link, l, i, c))
}

// forwardIPv6 makes a router of the whole namespace: IPv6 has no such option of a
// single link. A router forgets what it has heard from other routers, unless it is
// told not to.
func forwardIPv6(s netstate.Snapshot) Steps {
	var steps Steps
	for _, link := range s.Links {
		heard := slices.ContainsFunc(s.RoutesOf(link.Index), func(r netstate.Route) bool {
			return r.Dst.Addr().Is6() && r.Protocol == protocolRA
		})
		if heard && link.AcceptRA == acceptRAUnlessForwarding {
			steps = append(steps, SetOption{
				IPv6: true, Link: link.Name, Option: OptionAcceptRA, Value: acceptRAAlways, Was: link.AcceptRA,
			})
		}
	}
	return append(steps, SetOption{IPv6: true, Link: AllLinks, Option: OptionForwarding, Value: 1})
}

// unforwarded are the links by which IPv4 answers for the guest come, and are not
// forwarded yet: the pod interface, and others by which the pod goes somewhere.
func unforwarded(s netstate.Snapshot, link netstate.Link, l lease.Lease) []netstate.Link {
	if !hasGateway(l, true) {
		return nil
	}
	var out []netstate.Link
	for _, other := range s.Links {
		ofPod := !other.Loopback && !strings.HasPrefix(other.Name, TapPrefix) &&
			slices.ContainsFunc(s.AddrsOf(other.Index), func(a netstate.Addr) bool { return a.Global() && a.Prefix.Addr().Is4() })
		if !other.Forwarding && (other.Index == link.Index || ofPod) {
			out = append(out, other)
		}
	}
	return out
}

// KnownOption reports whether an option is one that a plan sets. Its name is part of a
// path.
func KnownOption(s SetOption) bool {
	if s.IPv6 {
		return s.Link == AllLinks && s.Option == OptionForwarding || s.Link != AllLinks && s.Option == OptionAcceptRA
	}
	return s.Link != AllLinks && (s.Option == OptionForwarding || s.Option == OptionLocalnet)
}

// impersonating are the frames by which a guest would make itself the pod's router
// or server.
func impersonating(l lease.Lease) []Match {
	frames := []Match{{Kind: MatchDHCPServer}}
	if hasGateway(l, false) {
		frames = append(frames, Match{Kind: MatchDHCP6Server}, Match{Kind: MatchRA})
	}
	return frames
}

func hasGateway(l lease.Lease, ipv4 bool) bool { return gateway(l, ipv4).IsValid() }

// gateway is the pod's own address on the guest's network, with its length.
func gateway(l lease.Lease, ipv4 bool) netip.Prefix {
	for _, g := range l.Server.Gateways {
		if g.Addr().Is4() == ipv4 {
			return g
		}
	}
	return netip.Prefix{}
}

// gatewayAddrs are those of the tap. An IPv6 guest knows its router by the
// link-local one; its answers to who dialled ::1 become the pod's own by the last,
// which with IPv4 is an option of the link.
func gatewayAddrs(l lease.Lease) []netip.Prefix {
	addrs := l.Server.Gateways[:len(l.Server.Gateways):len(l.Server.Gateways)]
	if hasGateway(l, false) {
		addrs = append(addrs, netip.PrefixFrom(lease.GatewayMAC.LinkLocal(), 64), localhost6)
	}
	return addrs
}
