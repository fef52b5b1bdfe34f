package plan

import (
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// TablePrefix begins the name of every table of podwire's.
const TablePrefix = "podwire-"

// TableName is the name of the table of a pod interface.
func TableName(podInterface string) string { return TablePrefix + podInterface }

// Places of the chains among those of others at the same hook. What translates
// comes just behind a service mesh's, so that this sees a connection first.
const (
	priorityRaw    = -300 // before conntrack, and so before anything is translated
	priorityDNAT   = -95
	priorityFilter = 0
	prioritySNAT   = 100

	inbound = "inbound" // the chain of what may be for the guest
)

var (
	localhost4   = netip.MustParsePrefix("127.0.0.1/32")
	localhost6   = netip.MustParsePrefix("::1/128")
	loopback4    = netip.MustParsePrefix("127.0.0.0/8")
	linkLocalNet = netip.MustParsePrefix("fe80::/10")
)

// network is one family of a guest behind its gateway.
type network struct {
	guest   netip.Addr
	gateway netip.Addr
	subnet  netip.Prefix
	pod     []netip.Prefix // the pod interface's own addresses, alone
	// local is the pod's localhost as it is dialled, and loopback as it dials.
	local, loopback netip.Prefix
}

func networks(s netstate.Snapshot, link netstate.Link, l lease.Lease) []network {
	var out []network
	for _, p := range l.Addrs {
		ipv4 := p.Addr().Is4()
		n := network{guest: p.Addr(), gateway: gateway(l, ipv4).Addr(), subnet: p.Masked(), local: localhost6, loopback: localhost6}
		if ipv4 {
			n.local, n.loopback = localhost4, loopback4
		}
		for _, a := range s.AddrsOf(link.Index) {
			if addr := a.Prefix.Addr(); a.Global() && addr.Is4() == ipv4 {
				n.pod = append(n.pod, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
		out = append(out, n)
	}
	return out
}

func translate(s netstate.Snapshot, link netstate.Link, l lease.Lease, i Interface, c config.Config) Translate {
	raw := Chain{Name: "raw", Type: "filter", Hook: "prerouting", Priority: priorityRaw}
	arriving := Chain{Name: "arriving", Type: "nat", Hook: "prerouting", Priority: priorityDNAT}
	local := Chain{Name: "local", Type: "nat", Hook: "output", Priority: priorityDNAT}
	outgoing := Chain{Name: "outgoing", Type: "filter", Hook: "output", Priority: priorityFilter}
	leaving := Chain{Name: "leaving", Type: "nat", Hook: "postrouting", Priority: prioritySNAT}
	raw.Rules = append(raw.Rules, Rule{In: "lo", Do: Return})
	for _, n := range networks(s, link, l) {
		raw.Rules = append(raw.Rules, n.raw(i.Tap)...)
		if len(l.Server.DNS) > 0 {
			local.Rules = append(local.Rules, n.relayed()...)
		}
		for _, own := range n.pod {
			arriving.Rules = append(arriving.Rules, Rule{Dst: own, Do: Jump, Chain: inbound})
			local.Rules = append(local.Rules, Rule{Dst: own, Do: Jump, Chain: inbound})
		}
		if hasDefault(l) { // of several guests, localhost is the one's that stands for the pod
			local.Rules = append(local.Rules, Rule{Dst: n.local, Do: Jump, Chain: inbound})
		}
		outgoing.Rules = append(outgoing.Rules, Rule{Out: i.Tap, Redirects: family(n.guest), Do: Drop})
		leaving.Rules = append(leaving.Rules, n.leaving(i.Tap)...)
	}
	for _, ipv4 := range []bool{true, false} {
		if !hasGateway(l, ipv4) { // what the guest sends of it nevertheless would leave untranslated
			raw.Rules = append(raw.Rules, Rule{In: i.Tap, Family: familyName(ipv4), Do: Drop})
		}
	}
	forward := Chain{Name: "forward", Type: "filter", Hook: "forward", Priority: priorityFilter, Rules: forwarded(s, link, l)}
	return Translate{
		Link: link.Name, Index: link.Index, Table: TableName(link.Name),
		Chains: []Chain{{Name: inbound, Rules: inboundRules(l, c)}, raw, arriving, local, forward, outgoing, leaving},
	}
}

func hasDefault(l lease.Lease) bool { return slices.ContainsFunc(l.Routes, lease.Route.Default) }

// forwarded keeps the pod from being a router for others than its guests, where it
// was none before.
func forwarded(s netstate.Snapshot, link netstate.Link, l lease.Lease) []Rule {
	var rules []Rule
	for _, from := range unforwarded(s, link, l) {
		rules = append(rules, Rule{In: from.Name, NotOut: TapPrefix + "*", Family: familyName(true), Do: Drop})
	}
	if hasGateway(l, false) && !s.Forwarding6 {
		rules = append(rules, Rule{NotIn: TapPrefix + "*", NotOut: TapPrefix + "*", Family: familyName(false), Do: Drop})
	}
	return rules
}

// raw keeps to its own network what would leave it untranslated, and what comes for it
// untranslated; and from the pod's localhost what the guest sends there: for the sake
// of those who dial it, the kernel lets such packets come by the tap.
func (n network) raw(tap string) []Rule {
	rules := []Rule{
		{In: tap, Src: n.subnet, Not: true, Do: Drop},
		{In: tap, Dst: n.loopback, Do: Drop},
		{NotIn: tap, Dst: n.subnet, Do: Drop},
	}
	if n.guest.Is6() {
		rules = append([]Rule{{In: tap, Src: linkLocalNet, Do: Return}, {In: tap, Src: unspecified6, Do: Return}}, rules...)
	}
	return rules
}

// unspecified6 is the source of a guest that has no address yet.
var unspecified6 = netip.MustParsePrefix("::/128")

// relayed keeps for the pod the questions of podwire's own DNS to a nameserver on
// its localhost, where all else is the guest's. Which nameservers are asked may change
// later, and the rules do not.
func (n network) relayed() []Rule {
	rules := make([]Rule, 0, 2)
	for _, protocol := range []string{"udp", "tcp"} {
		ports := config.Ports{Protocol: protocol, First: portDNS, Last: portDNS}
		rules = append(rules, Rule{Dst: n.local, Ports: &ports, Do: Return})
	}
	return rules
}

const portDNS = 53

// leaving gives the guest's packets the pod's address, and the gateway's to those
// that come back to the guest from itself or from the pod's localhost: it could not
// answer them otherwise.
func (n network) leaving(tap string) []Rule {
	return []Rule{
		{Out: tap, Src: n.loopback, Do: SNAT, To: n.gateway},
		{Out: tap, Src: n.subnet, Do: SNAT, To: n.gateway},
		{Src: n.subnet, Do: MasqueradeIt},
	}
}

// inboundRules say what of that which is for the pod is the guest's. A connection
// that the pod had before stays its own: its segments open none.
func inboundRules(l lease.Lease, c config.Config) []Rule {
	var rules []Rule
	for _, from := range c.ExcludeFrom {
		if hasGateway(l, from.Addr().Is4()) {
			rules = append(rules, Rule{Src: from, Do: Return})
		}
	}
	for _, ports := range c.ExcludePorts {
		rules = append(rules, Rule{Ports: &ports, Do: Return})
	}
	rules = append(rules, Rule{MidStream: true, Do: Return})
	for _, guest := range l.Addrs {
		if len(c.Ports) == 0 {
			rules = append(rules, Rule{Do: DNAT, To: guest.Addr()})
		}
		for _, ports := range c.Ports {
			rules = append(rules, Rule{Ports: &ports, Do: DNAT, To: guest.Addr()})
		}
	}
	return rules
}

// Translated are the pod's addresses behind which the guest is.
func (s Translate) Translated() []netip.Addr {
	var out []netip.Addr
	for _, c := range s.Chains {
		for _, r := range c.Rules {
			if c.Hook == "prerouting" && r.Chain == inbound {
				out = append(out, r.Dst.Addr())
			}
		}
	}
	return out
}
