package apply

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func checkRedirect(s netstate.Snapshot, step plan.Redirect) []string {
	if step.Index != 0 {
		if drift := checkPod(s, step.Link, step.Index); drift != nil {
			return drift
		}
	}
	link, ok := s.LinkByName(step.Link)
	if !ok {
		return nil // said by the step that made it
	}
	i := slices.IndexFunc(s.Filters, func(f netstate.Filter) bool { return f.Link == link.Index && f.Name == step.Name })
	if i < 0 {
		return []string{fmt.Sprintf("the redirect from %q to %q is gone", step.Link, step.To)}
	}
	if to, ok := s.LinkByName(step.To); ok && s.Filters[i].To != to.Index {
		return []string{fmt.Sprintf("the redirect from %q leads to link %d, which %q is not any more", step.Link, s.Filters[i].To, step.To)}
	}
	return nil
}

func checkAddrs(s netstate.Snapshot, step plan.AddAddresses) []string {
	link, ok := s.LinkByName(step.Link)
	if !ok {
		return nil
	}
	var drift []string
	for _, want := range step.Addrs {
		if !hasAddr(s, link, want.Addr()) && !isLocal(s, link, want) {
			drift = append(drift, fmt.Sprintf("%q has lost its address %s", step.Link, want))
		}
	}
	return drift
}

func hasAddr(s netstate.Snapshot, link netstate.Link, addr netip.Addr) bool {
	return slices.ContainsFunc(s.AddrsOf(link.Index), func(a netstate.Addr) bool { return a.Prefix.Addr() == addr })
}

// isLocal reports whether what comes to an address by a link is the namespace's own:
// it is all that a link can have of a loopback address.
func isLocal(s netstate.Snapshot, link netstate.Link, p netip.Prefix) bool {
	return slices.ContainsFunc(s.RoutesOf(link.Index), func(r netstate.Route) bool { return r.Type == netstate.TypeLocal && r.Dst == p })
}

func checkOption(s netstate.Snapshot, step plan.SetOption) []string {
	if value, known := option(s, step); known && value != step.Value {
		return []string{fmt.Sprintf("the option %s of %q is %d, not %d", step.Option, step.Link, value, step.Value)}
	}
	return nil
}

// option is what an option is now, as far as a snapshot knows it.
func option(s netstate.Snapshot, step plan.SetOption) (value int, known bool) {
	if step.Link == plan.AllLinks {
		return number(s.Forwarding6), step.IPv6 && step.Option == plan.OptionForwarding
	}
	link, ok := s.LinkByName(step.Link)
	switch {
	case !ok:
		return 0, false
	case !step.IPv6 && step.Option == plan.OptionForwarding:
		return number(link.Forwarding), true
	case !step.IPv6 && step.Option == plan.OptionLocalnet:
		return number(link.RouteLocalnet), true
	case step.IPv6 && step.Option == plan.OptionAcceptRA:
		return link.AcceptRA, true
	}
	return 0, false
}

// optionBack says when an option has still the value that it was given. Somebody may
// have set it since; and while another interface's guest is translated, it stays as that
// needs it.
func optionBack(s netstate.Snapshot, step plan.SetOption) []string {
	if value, known := option(s, step); known && value == step.Value && value != step.Was && len(s.Tables) == 0 {
		return []string{fmt.Sprintf("the option %s of %q is %d, not %d as it was", step.Option, step.Link, value, step.Was)}
	}
	return nil
}

func number(on bool) int {
	if on {
		return 1
	}
	return 0
}

func checkTranslate(s netstate.Snapshot, step plan.Translate) []string {
	if drift := checkPod(s, step.Link, step.Index); drift != nil {
		return drift
	}
	var drift []string
	link, _ := s.LinkByName(step.Link)
	for _, own := range step.Translated() {
		if !hasAddr(s, link, own) {
			drift = append(drift, fmt.Sprintf("%q has not the address %s any more, behind which the guest is", step.Link, own))
		}
	}
	if s.Blind {
		return drift
	}
	i := slices.IndexFunc(s.Tables, func(t netstate.Table) bool { return t.Name == step.Table })
	switch {
	case i < 0:
		drift = append(drift, fmt.Sprintf("the table %q of nftables is gone", step.Table))
	case !sameTable(s.Tables[i], step):
		drift = append(drift, fmt.Sprintf("the table %q of nftables has other rules than it was made with", step.Table))
	}
	return drift
}

func sameTable(have netstate.Table, want plan.Translate) bool {
	return len(have.Chains) == len(want.Chains) && !slices.ContainsFunc(want.Chains, func(c plan.Chain) bool {
		return !slices.ContainsFunc(have.Chains, func(h netstate.Chain) bool { return h.Name == c.Name && slices.Equal(h.Rules, c.Texts()) })
	})
}
