package netstate

import "time"

// Snapshot is all that podwire looks at in a network namespace, at one moment.
type Snapshot struct {
	NetNS     Identity      `json:"netns"`
	Uptime    time.Duration `json:"uptime"` // CLOCK_BOOTTIME when it was taken; unlike the time of day it never jumps
	Links     []Link        `json:"links"`
	Addrs     []Addr        `json:"addrs,omitempty"`
	Routes    []Route       `json:"routes,omitempty"`
	Neighbors []Neighbor    `json:"neighbors,omitempty"`
	Rules     []Rule        `json:"rules,omitempty"`
	Qdiscs    []Qdisc       `json:"qdiscs,omitempty"`
	Filters   []Filter      `json:"filters,omitempty"`
	Tables    []Table       `json:"tables,omitempty"`
	// Blind says that the tables were not seen, for want of CAP_NET_ADMIN.
	Blind bool `json:"blind,omitempty"`
	// Forwarding6 is net.ipv6.conf.all.forwarding: without it no IPv6 packet is
	// forwarded, whatever its link says.
	Forwarding6 bool `json:"forwarding6,omitempty"`
}

// LinkByName returns the link of that name.
func (s Snapshot) LinkByName(name string) (Link, bool) {
	for _, l := range s.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// LinkByIndex returns the link with that index.
func (s Snapshot) LinkByIndex(index int) (Link, bool) {
	for _, l := range s.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

// AddrsOf returns the addresses of a link, in the kernel's order.
func (s Snapshot) AddrsOf(link int) []Addr {
	return keep(s.Addrs, func(a Addr) bool { return a.Link == link })
}

// RoutesOf returns the routes that leave by a link, of all tables, in the
// kernel's order.
func (s Snapshot) RoutesOf(link int) []Route {
	return keep(s.Routes, func(r Route) bool { return r.Uses(link) })
}

// NeighborsOf returns the neighbours of a link.
func (s Snapshot) NeighborsOf(link int) []Neighbor {
	return keep(s.Neighbors, func(n Neighbor) bool { return n.Link == link })
}

// HasFilter reports whether the link carries podwire's filter of that name.
func (s Snapshot) HasFilter(link int, name string) bool {
	for _, f := range s.Filters {
		if f.Link == link && f.Name == name {
			return true
		}
	}
	return false
}

func keep[T any](all []T, want func(T) bool) []T {
	var out []T
	for _, v := range all {
		if want(v) {
			out = append(out, v)
		}
	}
	return out
}
