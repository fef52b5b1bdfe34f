package apply

import (
	"fmt"
	"slices"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Check compares what the kernel holds with what the steps made, and returns
// what differs, each in words; nothing where all is as planned.
func Check(steps plan.Steps, s netstate.Snapshot) []string {
	var drift []string
	for _, step := range steps {
		drift = append(drift, check(step, s)...)
	}
	return drift
}

func check(step plan.Step, s netstate.Snapshot) []string {
	switch step := step.(type) {
	case plan.CreateTap:
		drift := checkLink(s, step.Name, "tun", step.MAC, step.MTU)
		if link, ok := s.LinkByName(step.Name); ok && step.Up {
			drift = append(drift, checkUp(link)...)
		}
		return drift
	case plan.CreateBridge:
		drift := checkLink(s, step.Name, "bridge", step.MAC, step.MTU)
		if link, ok := s.LinkByName(step.Name); ok {
			drift = append(drift, checkUp(link)...)
			drift = append(drift, checkNoAddrs(s, link)...)
		}
		return drift
	case plan.AddFilter:
		if link, ok := s.LinkByName(step.Link); ok && !s.HasFilter(link.Index, step.Name) && !step.Try {
			return []string{fmt.Sprintf("the filter %q on %q is gone", step.Name, step.Link)}
		}
	case plan.TakeAddresses:
		if drift := checkPod(s, step.Link, step.Index); drift != nil {
			return drift
		}
		return checkTaken(s, step)
	case plan.SetMAC:
		if link, ok := s.LinkByName(step.Link); ok && link.MAC != step.MAC {
			return []string{fmt.Sprintf("%q has the MAC %s, not %s", step.Link, link.MAC, step.MAC)}
		}
	case plan.AttachPort:
		return checkPort(s, step)
	case plan.Redirect:
		return checkRedirect(s, step)
	case plan.AddAddresses:
		return checkAddrs(s, step)
	case plan.SetOption:
		return checkOption(s, step)
	case plan.Translate:
		return checkTranslate(s, step)
	}
	return nil
}

// checkPod makes sure that the pod interface is the one that was wired.
func checkPod(s netstate.Snapshot, name string, index int) []string {
	link, ok := s.LinkByName(name)
	switch {
	case !ok:
		return []string{fmt.Sprintf("the pod interface %q is gone", name)}
	case link.Index != index:
		return []string{fmt.Sprintf("the pod interface %q is another link than it was (index %d, was %d)", name, link.Index, index)}
	}
	return nil
}

func checkLink(s netstate.Snapshot, name, kind string, mac netstate.MAC, mtu int) []string {
	link, ok := s.LinkByName(name)
	if !ok {
		return []string{fmt.Sprintf("%q is gone", name)}
	}
	var drift []string
	if link.Kind != kind {
		drift = append(drift, fmt.Sprintf("%q is a %s, not a %s", name, link.Kind, kind))
	}
	if link.MAC != mac {
		drift = append(drift, fmt.Sprintf("%q has the MAC %s, not %s", name, link.MAC, mac))
	}
	if link.MTU != mtu {
		drift = append(drift, fmt.Sprintf("%q has an MTU of %d, not %d", name, link.MTU, mtu))
	}
	return drift
}

func checkUp(link netstate.Link) []string {
	if link.Up {
		return nil
	}
	return []string{fmt.Sprintf("%q is down", link.Name)}
}

func checkNoAddrs(s netstate.Snapshot, link netstate.Link) []string {
	var drift []string
	for _, a := range s.AddrsOf(link.Index) {
		drift = append(drift, fmt.Sprintf("%q has the address %s again, which belongs to the guest's side", link.Name, a.Prefix))
	}
	return drift
}

// checkTaken tells what was put back from what the pod's network has given since.
func checkTaken(s netstate.Snapshot, step plan.TakeAddresses) []string {
	var drift []string
	for _, a := range s.AddrsOf(step.Index) {
		if slices.ContainsFunc(step.Addrs, func(taken netstate.Addr) bool { return taken.Prefix == a.Prefix }) {
			drift = append(drift, fmt.Sprintf("%q has the address %s again, which belongs to the guest's side", step.Link, a.Prefix))
		} else {
			drift = append(drift, fmt.Sprintf("%q has the new address %s", step.Link, a.Prefix))
		}
	}
	return drift
}

func checkPort(s netstate.Snapshot, step plan.AttachPort) []string {
	link, ok := s.LinkByName(step.Link)
	if !ok {
		return nil // said by the step that made it
	}
	drift := checkUp(link)
	if bridge, ok := s.LinkByName(step.Bridge); ok && link.Master != bridge.Index {
		drift = append(drift, fmt.Sprintf("%q is no port of %q", step.Link, step.Bridge))
	}
	if link.Master != 0 && !link.NoLearning {
		drift = append(drift, fmt.Sprintf("%q learns addresses", step.Link))
	}
	return slices.Clip(drift)
}

// Restored compares what the kernel holds after a teardown with what the steps
// took, and returns what is missing, in words. What had a lifetime may have run
// off meanwhile and is not missed.
func Restored(steps plan.Steps, s netstate.Snapshot) []string {
	var missing []string
	for _, step := range steps {
		switch step := step.(type) {
		case plan.CreateTap:
			missing = append(missing, stillThere(s, step.Name)...)
		case plan.CreateBridge:
			missing = append(missing, stillThere(s, step.Name)...)
		case plan.AddFilter:
			missing = append(missing, filterThere(s, step)...)
		case plan.SetMAC:
			if link, ok := s.LinkByName(step.Link); ok && link.MAC != step.Was {
				missing = append(missing, fmt.Sprintf("%q has the MAC %s, not its own %s", step.Link, link.MAC, step.Was))
			}
		case plan.TakeAddresses:
			missing = append(missing, addressesBack(step, s)...)
		case plan.Redirect:
			missing = append(missing, redirectThere(s, step)...)
		case plan.SetOption:
			missing = append(missing, optionBack(s, step)...)
		case plan.Translate:
			if slices.ContainsFunc(s.Tables, func(t netstate.Table) bool { return t.Name == step.Table }) {
				missing = append(missing, fmt.Sprintf("the table %q of nftables is still there", step.Table))
			}
		}
	}
	return missing
}

func stillThere(s netstate.Snapshot, name string) []string {
	if _, ok := s.LinkByName(name); ok {
		return []string{fmt.Sprintf("%q is still there", name)}
	}
	return nil
}

func filterThere(s netstate.Snapshot, step plan.AddFilter) []string {
	if link, ok := s.LinkByName(step.Link); ok && s.HasFilter(link.Index, step.Name) {
		return []string{fmt.Sprintf("the filter %q is still on %q", step.Name, step.Link)}
	}
	return nil
}

// redirectThere is the worst of what could be left: the pod would hear nothing.
func redirectThere(s netstate.Snapshot, step plan.Redirect) []string {
	if link, ok := s.LinkByName(step.Link); ok && s.HasFilter(link.Index, step.Name) {
		return []string{fmt.Sprintf("the redirect from %q to %q is still there", step.Link, step.To)}
	}
	return nil
}

func addressesBack(step plan.TakeAddresses, s netstate.Snapshot) []string {
	link, ok := s.LinkByName(step.Link)
	if !ok || link.Index != step.Index {
		return nil // the interface itself is gone, and what it had went with it
	}
	var missing []string
	if step.AddrGenMode != "" && link.AddrGenMode != step.AddrGenMode {
		missing = append(missing, fmt.Sprintf("%q makes itself IPv6 addresses in the mode %q, not %q", step.Link, link.AddrGenMode, step.AddrGenMode))
	}
	for _, n := range step.Neighbors {
		if !slices.Contains(s.NeighborsOf(link.Index), n) {
			missing = append(missing, fmt.Sprintf("%q has not got its neighbour %s back", step.Link, n.Addr))
		}
	}
	finite := false
	for _, a := range step.Addrs {
		finite = finite || a.ValidLft != netstate.Forever
		back := slices.ContainsFunc(s.AddrsOf(link.Index), func(have netstate.Addr) bool { return have.Prefix == a.Prefix })
		if !back && a.ValidLft == netstate.Forever {
			missing = append(missing, fmt.Sprintf("%q has not got its address %s back", step.Link, a.Prefix))
		}
	}
	for _, r := range step.Routes {
		back := slices.ContainsFunc(s.Routes, func(have netstate.Route) bool {
			return have.Dst == r.Dst && have.Via == r.Via && have.Table == r.Table && have.Priority == r.Priority && have.Type == r.Type
		})
		if !back && !finite && r.Table != netstate.TableLocal {
			missing = append(missing, fmt.Sprintf("%q has not got its route to %s back", step.Link, r.Dst))
		}
	}
	return missing
}
