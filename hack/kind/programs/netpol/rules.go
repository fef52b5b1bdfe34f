package main

import (
	"fmt"
	"slices"
	"strings"
)

// rules returns what nft is to load: the table anew, in one transaction.
//
// What a pod receives and sends passes the node's forward hook, on a bridge as
// well; what the node itself sends (the kubelet's probes) does not, and no policy
// may stop it.
func (c cluster) rules(node string) string {
	var chains, jumps strings.Builder
	pods := slices.Clone(c.pods)
	slices.SortFunc(pods, func(a, b pod) int { return strings.Compare(a.id(), b.id()) })
	number := 0
	for _, pod := range pods {
		if pod.Spec.NodeName != node || len(pod.addresses()) == 0 {
			continue
		}
		for _, direction := range []string{"Ingress", "Egress"} {
			body, restricted := c.allowed(pod, direction)
			if !restricted {
				continue
			}
			number++
			fmt.Fprintf(&chains, "\tchain pod%d {\n%s\t\tdrop\n\t}\n", number, body)
			for _, address := range pod.addresses() {
				fmt.Fprintf(&jumps, "\t\t%s %s jump pod%d comment %q\n",
					match(address, own(direction)), address, number, direction+" "+pod.id())
			}
		}
	}
	return "add table inet podwire-netpol\ndelete table inet podwire-netpol\ntable inet podwire-netpol {\n" +
		chains.String() + "\tchain forward {\n\t\ttype filter hook forward priority filter\n" +
		"\t\tct state established,related accept\n" +
		"\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n" + jumps.String() + "\t}\n}\n"
}

func (p pod) id() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// own is the side of a packet on which the pod's address stands, other the other's.
func own(direction string) string {
	if direction == "Ingress" {
		return "daddr"
	}
	return "saddr"
}

func other(direction string) string {
	if direction == "Ingress" {
		return "saddr"
	}
	return "daddr"
}

func match(address, side string) string {
	if strings.Contains(address, ":") {
		return "ip6 " + side
	}
	return "ip " + side
}

// allowed returns the rules for what a pod may receive or send, and whether any
// policy restricts it. A rule that matches returns: the packet may still be
// stopped at its other end.
func (c cluster) allowed(p pod, direction string) (body string, restricted bool) {
	var b strings.Builder
	for _, policy := range c.policies {
		if !policy.applies(p) || !policy.restricts(direction) {
			continue
		}
		restricted = true
		rules := policy.Spec.Ingress
		if direction == "Egress" {
			rules = policy.Spec.Egress
		}
		for _, r := range rules {
			for _, from := range c.peers(r, policy.Metadata.Namespace, direction) {
				for _, on := range ports(r.Ports) {
					fmt.Fprintf(&b, "\t\t%s\n", strings.Join(strings.Fields(from+" "+on+" return"), " "))
				}
			}
		}
	}
	return b.String(), restricted
}

// peers returns a match for each of a rule's peers; the match of all is empty.
func (c cluster) peers(r rule, home, direction string) []string {
	side := other(direction)
	peers := slices.Concat(r.From, r.To)
	if len(peers) == 0 {
		return []string{""}
	}
	var all []string
	for _, p := range peers {
		if p.IPBlock == nil {
			for _, address := range c.selected(p, home) {
				all = append(all, match(address, side)+" "+address)
			}
			continue
		}
		block := match(p.IPBlock.CIDR, side) + " " + p.IPBlock.CIDR
		if len(p.IPBlock.Except) > 0 {
			block += " " + match(p.IPBlock.CIDR, side) + " != { " + strings.Join(p.IPBlock.Except, ", ") + " }"
		}
		all = append(all, block)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ports returns a match for each port of a rule; the match of all is empty.
func ports(ports []port) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var all []string
	for _, p := range ports {
		protocol := strings.ToLower(p.Protocol)
		if protocol == "" {
			protocol = "tcp"
		}
		number := string(p.Port)
		switch {
		case number == "" || number == "null":
			all = append(all, "meta l4proto "+protocol)
		case strings.HasPrefix(number, `"`): // a name
		case p.EndPort > 0:
			all = append(all, fmt.Sprintf("%s dport %s-%d", protocol, number, p.EndPort))
		default:
			all = append(all, protocol+" dport "+number)
		}
	}
	return all
}
