package plan

import (
	"fmt"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// Names of podwire's filters, which Check looks for.
const (
	filterBridge = "local"
	filterTap    = "guest"
	filterPod    = "pod"
	filterOwn    = "own"
	filterGuard  = "guard"

	redirectAll      = "redirect"
	redirectAnswered = "answered"
)

// Plan is what is to be done to one pod interface.
type Plan struct {
	Interface Interface `json:"interface"`
	Steps     Steps     `json:"steps"`
}

// New returns the plan for a pod interface and the lease that discover found for
// it. It fails where a name that podwire needs is somebody else's.
func New(s netstate.Snapshot, link netstate.Link, l lease.Lease, c config.Config) (Plan, error) {
	i := Interface{
		PodInterface: link.Name,
		Binding:      c.Binding.For(link),
		Tap:          TapName(link.Name),
		MAC:          l.MAC,
		MTU:          l.MTU,
		Queues:       c.Queues,
	}
	if i.Binding == config.Bridge {
		i.Bridge = BridgeName(link.Name)
	}
	if i.Binding == config.Macvtap {
		i.Tap, i.Queues = link.Name, 0 // as its maker made it
	}
	if err := namesFree(s, i, l); err != nil {
		return Plan{}, err
	}
	return Plan{Interface: i, Steps: steps(s, link, l, i, c)}, nil
}

func steps(s netstate.Snapshot, link netstate.Link, l lease.Lease, i Interface, c config.Config) Steps {
	switch i.Binding {
	case config.TC:
		return tcSteps(s, link, l, i, c)
	case config.Masquerade:
		return masqueradeSteps(s, link, l, i, c)
	case config.Macvtap:
		return macvtapSteps(s, link, l, c)
	default:
		return bridgeSteps(s, link, l, i, c)
	}
}

// namesFree makes sure that what is to be made does not stand in the place of
// something else.
func namesFree(s netstate.Snapshot, i Interface, l lease.Lease) error {
	var names []string
	if i.Bridge != "" {
		names = append(names, i.Bridge)
	}
	if i.Tap != i.PodInterface {
		names = append(names, i.Tap)
	}
	if len(l.Server.DNS) > 0 {
		names = append(names, TunnelName(i.PodInterface))
	}
	for _, name := range names {
		if other, taken := s.LinkByName(name); taken {
			return fmt.Errorf("a link %q (%s) is there already and is not podwire's by its state; delete it, or finish what made it",
				name, other.Kind)
		}
	}
	return nil
}

// createTap is the tap of a bridge or a redirect.
func createTap(link netstate.Link, i Interface, c config.Config) CreateTap {
	return CreateTap{
		Name: i.Tap, MAC: link.MAC.Derive("tap"), MTU: tapMTU(link, c), Owner: owner(c.TapOwner), Queues: c.Queues,
	}
}

// tapMTU is the link's, unless somebody asked for another: where the guest is told
// less because of its routes, its neighbours on the link may still send more.
func tapMTU(link netstate.Link, c config.Config) int {
	if c.MTU != 0 {
		return c.MTU
	}
	return min(link.MTU, netstate.MaxTapMTU)
}

func hasIngressHook(s netstate.Snapshot, link netstate.Link) bool {
	for _, q := range s.Qdiscs {
		if q.Link == link.Index && (q.Kind == "clsact" || q.Kind == "ingress") {
			return true
		}
	}
	return false
}

// onPod is a filter of the pod interface, which stays as it is otherwise.
func onPod(s netstate.Snapshot, link netstate.Link, f AddFilter) AddFilter {
	f.Link, f.Name, f.KeepHook, f.TxQLen = link.Name, filterPod, hasIngressHook(s, link), &link.TxQLen
	return f
}

// redirectPod is a redirect of what comes to or goes out of the pod interface.
func redirectPod(s netstate.Snapshot, link netstate.Link, r Redirect) Redirect {
	r.Link, r.Index, r.KeepHook, r.TxQLen = link.Name, link.Index, hasIngressHook(s, link), &link.TxQLen
	return r
}

func owner(o *config.Owner) *Owner {
	if o == nil {
		return nil
	}
	return &Owner{UID: o.UID, GID: o.GID}
}
