package cli

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// asSeen adds what is known beside the snapshot: the MACs of gateways, and the
// routes of the pod's other interfaces, which are gone from the kernel where these
// are wired, and tell which interface is the primary one.
func (a *Agent) asSeen(ctx context.Context, s netstate.Snapshot, name string) (_ netstate.Snapshot, asked bool, err error) {
	s, err = a.learn(ctx, s, name, a.kernel.Resolved)
	return s, false, err
}

// askTime is how long a gateway has to say its MAC: the three tries of RFC 4861
// §10, and half of one.
const askTime = 3500 * time.Millisecond

// askGateways is asSeen, and asks for the MACs that are not known, while the pod
// can.
func (a *Agent) askGateways(ctx context.Context, s netstate.Snapshot, name string) (_ netstate.Snapshot, asked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	patience := time.AfterFunc(time.Second, func() {
		a.log.Info("waiting for the gateways of the pod to say their MAC", "link", name)
	})
	defer patience.Stop()
	s, err = a.learn(ctx, s, name, a.kernel.Resolve)
	return s, true, err
}

func (a *Agent) learn(ctx context.Context, s netstate.Snapshot, name string,
	resolve func(context.Context, string, []netip.Addr) (map[netip.Addr]netstate.MAC, error),
) (netstate.Snapshot, error) {
	s, err := a.asBefore(s)
	link, ok := s.LinkByName(name)
	if err != nil || !ok {
		return s, err
	}
	gateways := discover.Unresolved(s, link, a.config.Binding)
	if len(gateways) == 0 {
		return s, nil
	}
	macs, err := resolve(ctx, name, gateways)
	if err != nil {
		return s, err
	}
	s.Neighbors = slices.Clone(s.Neighbors)
	for _, gateway := range gateways {
		if mac, ok := macs[gateway]; ok {
			s.Neighbors = append(s.Neighbors, netstate.Neighbor{Link: link.Index, Addr: gateway, MAC: mac, State: netstate.NeighborReachable})
		}
	}
	return s, nil
}

// asBefore adds what podwire has taken from the pod's other interfaces, and leaves out
// what it has given: each interface is planned as if it were the first.
func (a *Agent) asBefore(s netstate.Snapshot) (netstate.Snapshot, error) {
	records, err := a.recorded(s.NetNS)
	if err != nil {
		return s, err
	}
	s.Routes, s.Links = slices.Clone(s.Routes), slices.Clone(s.Links)
	for _, r := range records {
		for _, step := range r.Steps {
			if option, ok := step.(plan.SetOption); ok {
				unset(&s, option)
			}
		}
		// Of one that was cut off they may be gone as well; it does no harm to have
		// them twice.
		if was, ok := r.Snapshot.LinkByName(r.Interface.PodInterface); ok {
			s.Routes = append(s.Routes, r.Snapshot.RoutesOf(was.Index)...)
		}
	}
	return s, nil
}

// unset is a snapshot before an option was set, so far as that changes a plan.
func unset(s *netstate.Snapshot, option plan.SetOption) {
	if option.Link == plan.AllLinks {
		s.Forwarding6 = option.Was != 0
	}
	for i, l := range s.Links {
		switch {
		case l.Name != option.Link:
		case option.IPv6 && option.Option == plan.OptionAcceptRA:
			s.Links[i].AcceptRA = option.Was
		case option.Option == plan.OptionForwarding:
			s.Links[i].Forwarding = option.Was != 0
		}
	}
}
