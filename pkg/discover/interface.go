package discover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
)

// ErrNoInterface says that no pod interface could be chosen without being told
// which.
var ErrNoInterface = errors.New("no pod interface found")

// Interfaces returns the pod interfaces to wire: those that are named, or else
// the one that holds the default route, or else the only one with a global
// address. Each is one that can be wired.
func Interfaces(s netstate.Snapshot, names []string, b config.Binding) ([]netstate.Link, error) {
	if len(names) == 0 {
		link, err := choose(s)
		if err != nil {
			return nil, err
		}
		names = []string{link.Name}
	}
	links := make([]netstate.Link, 0, len(names))
	for _, name := range names {
		link, ok := s.LinkByName(name)
		if !ok {
			return nil, fmt.Errorf("interface %q does not exist; there is %s", name, linkNames(s))
		}
		if err := wirable(s, link, b); err != nil {
			return nil, err
		}
		links = append(links, link)
	}
	return links, nil
}

// All returns the names of the pod's interfaces, and says which of its networks
// have none: those of the networks, in their order, where these are known, else
// every veth and device in the order in which they were made. Those that are wired
// already are had whatever became of them; of the others each must be one that can
// be wired.
func All(s netstate.Snapshot, networks []Network, wired []string, b config.Binding) (names, missing []string, err error) {
	if len(networks) > 0 {
		names, missing = ofNetworks(s, networks)
	} else {
		names = podLinks(s, wired)
	}
	if len(names) == 0 {
		return nil, missing, fmt.Errorf("%w; there is %s", ErrNoInterface, linkNames(s))
	}
	for _, name := range names {
		link, _ := s.LinkByName(name)
		if slices.Contains(wired, name) {
			continue
		}
		if err := wirable(s, link, b); err != nil {
			return nil, nil, fmt.Errorf("%w; to leave it out, name the others with --interface", err)
		}
	}
	return names, missing, nil
}

func ofNetworks(s netstate.Snapshot, networks []Network) (names, missing []string) {
	for _, n := range networks {
		if _, ok := s.LinkByName(n.Interface); ok {
			names = append(names, n.Interface)
		} else {
			missing = append(missing, n.Name)
		}
	}
	return names, missing
}

// podLinks are the links that a pod was given: what was made inside of it, such as
// bridges, tunnels and their like, is not among them.
func podLinks(s netstate.Snapshot, wired []string) []string {
	links := slices.Clone(s.Links)
	slices.SortFunc(links, func(a, b netstate.Link) int { return cmp.Compare(a.Index, b.Index) })
	var names []string
	for _, l := range links {
		given := slices.Contains([]string{"", "veth", "netkit", "macvlan", "ipvlan", "macvtap"}, l.Kind)
		if slices.Contains(wired, l.Name) || given && !l.Loopback && l.Master == 0 {
			names = append(names, l.Name)
		}
	}
	return names
}

func choose(s netstate.Snapshot) (netstate.Link, error) {
	for _, ipv4 := range []bool{true, false} {
		if link, ok := defaultRouteLink(s, ipv4); ok {
			return link, nil
		}
	}
	var found []netstate.Link
	for _, link := range s.Links {
		if !link.Loopback && hasGlobal(s, link) {
			found = append(found, link)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return netstate.Link{}, fmt.Errorf("%w: no link has a default route or a global address; there is %s",
			ErrNoInterface, linkNames(s))
	default:
		return netstate.Link{}, fmt.Errorf("%w: no default route, and several links have addresses; name one of %s with --interface, or take them --all",
			ErrNoInterface, linkNames(s))
	}
}

// defaultRouteLink returns the link of the default route with the lowest metric.
func defaultRouteLink(s netstate.Snapshot, ipv4 bool) (netstate.Link, bool) {
	var best netstate.Route
	var link netstate.Link
	found := false
	for _, r := range s.Routes {
		if !r.Default() || r.Dst.Addr().Is4() != ipv4 || r.Table != netstate.TableMain || r.Type != netstate.TypeUnicast {
			continue
		}
		index := r.Link
		if len(r.NextHops) > 0 {
			index = bestHop(r.NextHops, 0).Link
		}
		l, ok := s.LinkByIndex(index)
		if ok && !l.Loopback && (!found || r.Priority < best.Priority) {
			best, link, found = r, l, true
		}
	}
	return link, found
}

func hasGlobal(s netstate.Snapshot, link netstate.Link) bool {
	for _, a := range s.AddrsOf(link.Index) {
		if a.Global() {
			return true
		}
	}
	return false
}

// wirable refuses what a binding cannot join to a guest, and says what to use
// instead.
func wirable(s netstate.Snapshot, link netstate.Link, b config.Binding) error {
	switch b = b.For(link); {
	case link.Loopback:
		return fmt.Errorf("interface %q is the loopback", link.Name)
	case link.Master != 0:
		port := fmt.Sprintf("link %d", link.Master)
		if master, ok := s.LinkByIndex(link.Master); ok {
			port = fmt.Sprintf("%q", master.Name)
		}
		return fmt.Errorf("interface %q is already a port of %s, which is not podwire's by its state; "+
			"undo that, or name another interface", link.Name, port)
	case b == config.Masquerade:
		return standsBehind(s, link)
	case b == config.Bridge && link.Kind == "macvlan":
		return fmt.Errorf("interface %q is a macvlan, which passes no frames of another MAC than its own, so it is no port of a bridge: "+
			"use --binding tc or masquerade, or attach the pod with a macvtap, or a veth (the CNI plugins bridge, ptp and their like)", link.Name)
	case link.Kind == "ipvlan":
		return fmt.Errorf("interface %q is an ipvlan, which shares its MAC with others and passes no frames of another: "+
			"use --binding masquerade, or attach the pod with a macvtap, or a veth (the CNI plugins bridge, ptp and their like)", link.Name)
	case !link.MAC.IsUnicast():
		return fmt.Errorf("interface %q has no Ethernet address, so a guest cannot take its place: use --binding masquerade", link.Name)
	}
	return nil
}

// standsBehind refuses an interface without an address that stands for a guest's.
func standsBehind(s netstate.Snapshot, link netstate.Link) error {
	instead := "use --binding bridge or tc"
	switch {
	case hasGlobal(s, link):
		return nil
	case link.Kind == "ipvlan" || !link.MAC.IsUnicast():
		instead = "give it one"
	case link.Kind == "macvlan":
		instead = "use --binding tc"
	}
	return fmt.Errorf("interface %q has no global address, by which its guest would be reached: %s", link.Name, instead)
}

func linkNames(s netstate.Snapshot) string {
	var names []string
	for _, l := range s.Links {
		if !l.Loopback {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return "no link but the loopback"
	}
	return strings.Join(names, ", ")
}
