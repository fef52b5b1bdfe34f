package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
	"github.com/podwire/podwire/pkg/serve"
)

// Result is what inspect, plan, setup, prestart and status print with -o json.
// It is a contract: fields are added, never renamed.
type Result struct {
	Interfaces []InterfaceResult `json:"interfaces"`
}

// InterfaceResult is one pod interface of a Result.
type InterfaceResult struct {
	PodInterface string         `json:"podInterface"`
	Binding      config.Binding `json:"binding"`
	Bridge       string         `json:"bridge,omitempty"`
	Tap          string         `json:"tap"`
	MAC          string         `json:"mac"`
	MTU          int            `json:"mtu"` // octets
	Addresses    []string       `json:"addresses"`
	Gateways     []netip.Addr   `json:"gateways"`
	Routes       []lease.Route  `json:"routes"`
	DNS          []netip.Addr   `json:"dns"`
	Search       []string       `json:"search"`
	Hostname     string         `json:"hostname"`
	Domain       string         `json:"domain,omitempty"`
	Queues       int            `json:"queues"`
	LeaseTime    string         `json:"leaseTime"`              // infinite, or such as 1h0m0s
	Server       netip.Addr     `json:"server"`                 // the DHCPv4 server identifier
	Network      string         `json:"network,omitempty"`      // what the pod's network-status annotation calls it
	Routers      []lease.Router `json:"routers,omitempty"`      // who advertises to an IPv6 guest
	Upstream     []netip.Addr   `json:"upstream,omitempty"`     // where its DNS questions are relayed to
	PodAddresses []string       `json:"podAddresses,omitempty"` // behind which a masqueraded guest is
	Guard        bool           `json:"guard,omitempty"`        // it is kept to its own MAC and addresses
	Plain        bool           `json:"plain,omitempty"`        // without addresses: joined to its network, and told nothing
	Warnings     []string       `json:"warnings,omitempty"`

	// Of plan alone: each step in the words of ip(8), which may be several lines,
	// and what is to be said of an interface that is wired already.
	Steps   []string `json:"steps,omitempty"`
	Remarks []string `json:"remarks,omitempty"`

	*StatusResult
}

// StatusResult is what status adds.
type StatusResult struct {
	Applied bool              `json:"applied"`
	Drift   []string          `json:"drift"`
	Serving bool              `json:"serving"`
	Guest   *serve.Guest      `json:"guest,omitempty"`
	PID     int               `json:"pid,omitempty"` // of the server, as it sees itself
	Counts  map[string]uint64 `json:"counts,omitempty"`
	Limits  []string          `json:"limits,omitempty"` // what does not work in such a pod
	// Degraded is what the server cannot do any more, in words; absent where it is well.
	Degraded []string `json:"degraded,omitempty"`
	// Confinement is what the server has given up; absent where it is not confined.
	Confinement *serve.Confinement `json:"confinement,omitempty"`
}

func interfaceResult(r record.Record) InterfaceResult {
	l, i := r.Lease, r.Interface
	out := InterfaceResult{
		PodInterface: i.PodInterface, Binding: i.Binding, Bridge: i.Bridge, Tap: i.Tap,
		MAC: i.MAC.String(), MTU: i.MTU, Queues: i.Queues,
		Addresses: []string{}, Gateways: orEmpty(l.Gateways()), Routes: orEmpty(l.Routes),
		DNS: orEmpty(l.DNS), Search: orEmpty(l.Search), Hostname: l.Hostname, Domain: l.Domain,
		LeaseTime: "infinite", Server: l.Server.ID, Warnings: r.Warnings,
		Network: r.Network, Routers: l.Routers, Upstream: l.Upstream, Plain: !l.Served(),
	}
	for _, p := range l.Addrs {
		out.Addresses = append(out.Addresses, p.String())
	}
	for _, step := range r.Steps {
		switch step := step.(type) {
		case plan.Translate:
			for _, addr := range step.Translated() {
				out.PodAddresses = append(out.PodAddresses, addr.String())
			}
		case plan.AddFilter:
			out.Guard = out.Guard || step.Guard != nil
		}
	}
	if l.Time != 0 {
		out.LeaseTime = l.Time.String()
	}
	return out
}

// orEmpty keeps an empty list apart from null in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printInterfaces is the text form of a Result.
func printInterfaces(w io.Writer, interfaces []InterfaceResult) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for n, i := range interfaces {
		if n > 0 {
			fmt.Fprintln(t)
		}
		printInterface(t, i)
		if i.StatusResult != nil {
			printStatus(t, i)
		}
	}
	return t.Flush()
}

func printInterface(w io.Writer, i InterfaceResult) {
	row := func(key string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			fmt.Fprintf(w, "%s\t%s\n", key, strings.Join(values, " "))
		}
	}
	row("interface", i.PodInterface)
	row("network", i.Network)
	row("binding", bindingText(i))
	row("mac", i.MAC)
	row("mtu", fmt.Sprint(i.MTU))
	if i.Guard {
		row("guard", guardText(i))
	}
	row("addresses", i.Addresses...)
	for n, r := range i.Routes {
		key := ""
		if n == 0 {
			key = "routes"
		}
		fmt.Fprintf(w, "%s\t%s\n", key, routeText(r))
	}
	for _, r := range i.Routers {
		row("router", routerText(r))
	}
	row("dns", texts(i.DNS)...)
	row("relayed to", texts(i.Upstream)...)
	row("search", i.Search...)
	row("hostname", i.Hostname)
	row("domain", i.Domain)
	row("lease time", i.LeaseTime)
	for _, warning := range i.Warnings {
		row("warning", warning)
	}
}

// bindingText names the binding, and what was made for it.
func bindingText(i InterfaceResult) string {
	text := string(i.Binding)
	if i.Bridge != "" {
		text += ", bridge " + i.Bridge
	}
	if i.Tap != i.PodInterface {
		text += ", tap " + i.Tap
	}
	if len(i.PodAddresses) > 0 {
		text += ", behind " + strings.Join(i.PodAddresses, ", ")
	}
	return text
}

// guardText is what a guest may send.
func guardText(i InterfaceResult) string {
	if i.Plain {
		return "on: the guest sends from its own MAC, and is no router or DHCP server to others"
	}
	return "on: the guest sends from its own MAC and addresses, and is no router or DHCP server to others"
}

func printStatus(w io.Writer, i InterfaceResult) {
	s := i.StatusResult
	wired := "yes"
	if !s.Applied {
		wired = "no: its setup or teardown was cut off; run it again"
	}
	fmt.Fprintf(w, "wired\t%s\n", wired)
	for _, d := range s.Drift {
		fmt.Fprintf(w, "drift\t%s\n", d)
	}
	for _, l := range s.Limits {
		fmt.Fprintf(w, "limit\t%s\n", l)
	}
	if i.Plain {
		fmt.Fprintf(w, "serving\tnot needed: it has no address to tell of\n")
		return
	}
	if !s.Serving {
		fmt.Fprintf(w, "serving\tno; start \"podwire serve\"\n")
		return
	}
	fmt.Fprintf(w, "serving\tyes, process %d\n", s.PID)
	for _, d := range s.Degraded {
		fmt.Fprintf(w, "degraded\t%s\n", d)
	}
	fmt.Fprintf(w, "confined\t%s\n", confinementText(s.Confinement))
	if g := s.Guest; g != nil {
		answer := g.Answer
		if answer == "" {
			answer = "no answer"
		}
		fmt.Fprintf(w, "guest\t%s, last %s → %s at %s\n", nameOf(*g), g.Message, answer, g.At.Format("2006-01-02 15:04:05"))
	} else {
		fmt.Fprintf(w, "guest\tnot heard of yet\n")
	}
	for _, what := range slices.Sorted(maps.Keys(s.Counts)) {
		fmt.Fprintf(w, "count\t%s %d\n", what, s.Counts[what])
	}
}

func routeText(r lease.Route) string {
	text := r.Dst.String()
	if r.Default() {
		text = "default"
	}
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.Metric != 0 {
		text += fmt.Sprintf(" metric %d", r.Metric)
	}
	return text
}

// routerText is who advertises, and for which of the pod's gateways where they are
// not the same.
func routerText(r lease.Router) string {
	var others []string
	for _, gateway := range r.Gateways {
		if gateway != r.Addr {
			others = append(others, gateway.String())
		}
	}
	switch {
	case len(others) > 0:
		return fmt.Sprintf("%s for %s", r.Addr, strings.Join(others, ", "))
	case len(r.Gateways) == 0:
		return fmt.Sprintf("%s (podwire itself: there is no gateway)", r.Addr)
	default:
		return r.Addr.String()
	}
}

func texts(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}

// nameOf is what the guest calls itself.
func nameOf(g serve.Guest) string {
	if g.Hostname == "" {
		return "without a name"
	}
	return g.Hostname
}
