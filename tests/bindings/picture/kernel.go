// Package picture draws a wired pod from what the kernel says of it: of its links,
// addresses, filters and tables, and of those of the node and of the guest, as ip(8),
// tc(8) and nft(8) print them as JSON. It is pure, and knows nothing of what podwire
// meant to do.
//
// It is no general tool: it draws pods that have one interface, and leaves out what
// every Linux host has, such as lo.
package picture

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Kernel is what the kernel says, as JSON.
type Kernel struct {
	Node    json.RawMessage            `json:"node"`    // ip -j -d address, on the node
	Pod     json.RawMessage            `json:"pod"`     // the same in the pod
	Guest   json.RawMessage            `json:"guest"`   // the same in the guest
	Routes  json.RawMessage            `json:"routes"`  // ip -j -4 route in the pod
	Routes6 json.RawMessage            `json:"routes6"` // ip -j -6 route in the pod
	Filters map[string]json.RawMessage `json:"filters"` // tc -j filter show dev LINK ingress, by link, in the pod
	Sending map[string]json.RawMessage `json:"sending"` // the same of egress
	Tables  json.RawMessage            `json:"tables"`  // nft -j list ruleset in the pod
}

// link is a link of ip -j -d address.
type link struct {
	Index   int    `json:"ifindex"`
	Name    string `json:"ifname"`
	Peer    int    `json:"link_index"` // of a veth, in another namespace
	MAC     string `json:"address"`
	MTU     int    `json:"mtu"`
	Master  string `json:"master"`
	Type    string `json:"link_type"`
	Details struct {
		Kind string `json:"info_kind"`
		Data struct {
			Type string `json:"type"` // of a tun device: tap
		} `json:"info_data"`
		Slave struct {
			Learning bool `json:"learning"`
		} `json:"info_slave_data"`
	} `json:"linkinfo"`
	Addrs []struct {
		Local  netip.Addr `json:"local"`
		Length int        `json:"prefixlen"`
	} `json:"addr_info"`
}

// route is a route of ip -j route.
type route struct {
	Dst string `json:"dst"`
	Via string `json:"gateway"`
	Dev string `json:"dev"`
}

// filter is one of tc -j filter.
type filter struct {
	Pref    int    `json:"pref"`
	Kind    string `json:"kind"`
	Options *struct {
		DirectAction bool `json:"direct-action"`
		Actions      []struct {
			Kind      string `json:"kind"`
			Action    string `json:"mirred_action"`
			Direction string `json:"direction"`
			To        string `json:"to_dev"`
		} `json:"actions"`
	} `json:"options"`
}

// state is what Kernel says, read.
type state struct {
	node, pod, guest []link
	routes           []route
	filters, sending map[string][]filter
	tables           []object
}

func read(k Kernel) (s state, err error) {
	into := func(text json.RawMessage, what string, to any) {
		if len(text) == 0 || err != nil {
			return
		}
		if failed := json.Unmarshal(text, to); failed != nil {
			err = fmt.Errorf("reading %s: %w", what, failed)
		}
	}
	into(k.Node, "the node's links", &s.node)
	into(k.Pod, "the pod's links", &s.pod)
	into(k.Guest, "the guest's links", &s.guest)
	var routes6 []route
	into(k.Routes, "the pod's routes", &s.routes)
	into(k.Routes6, "the pod's IPv6 routes", &routes6)
	s.routes = append(s.routes, routes6...)
	hook := func(texts map[string]json.RawMessage) map[string][]filter {
		out := map[string][]filter{}
		for dev, text := range texts {
			var filters []filter
			into(text, "the filters of "+dev, &filters)
			out[dev] = filters
		}
		return out
	}
	s.filters, s.sending = hook(k.Filters), hook(k.Sending)
	var ruleset struct{ Nftables []object }
	into(k.Tables, "the tables", &ruleset)
	s.tables = ruleset.Nftables
	return s, err
}
