package plan

import (
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// bridgeSteps first builds all that disturbs nothing, and last moves the pod
// interface: until TakeAddresses the pod works as before.
func bridgeSteps(s netstate.Snapshot, link netstate.Link, l lease.Lease, i Interface, c config.Config) Steps {
	steps := Steps{
		createTap(link, i, c),
		CreateBridge{Name: i.Bridge, MAC: link.MAC.Derive("bridge"), MTU: link.MTU},
		// The pod's own stack must hear nothing through the bridge: it would answer
		// ARP for the pod's other addresses, and make itself an address of a
		// router's advertisement even with address generation off.
		AddFilter{Link: i.Bridge, Name: filterBridge, Drop: []Match{{Kind: MatchAll}}},
	}
	if drop := kept(l); len(drop) > 0 {
		steps = append(steps, AddFilter{Link: i.Tap, Name: filterTap, Drop: append(drop, hidden(l)...)})
	}
	steps = append(steps, guarded(AddFilter{Link: i.Tap}, l, c)...)
	steps = append(steps, AttachPort{Link: i.Tap, Bridge: i.Bridge})
	port := link.MAC.Derive("port")
	if link.AddrGenMode != "" { // it has IPv6
		// With its addresses the pod's stack leaves their multicast groups, which it
		// reports some time later, when it has a MAC that its network knows nothing of.
		own := onPod(s, link, AddFilter{Drop: []Match{{Kind: MatchFrom, MAC: port}}, Egress: true, Try: true})
		own.Name = filterOwn
		steps = append(steps, own)
	}
	steps = append(steps, takeAddresses(s, link), SetMAC{Link: link.Name, MAC: port, Was: link.MAC})
	if drop := foreign(l); len(drop) > 0 {
		steps = append(steps, onPod(s, link, AddFilter{Drop: drop}))
	}
	return append(steps, AttachPort{Link: link.Name, Bridge: i.Bridge, WasUp: link.Up})
}

func takeAddresses(s netstate.Snapshot, link netstate.Link) TakeAddresses {
	step := TakeAddresses{
		Link:        link.Name,
		Index:       link.Index,
		Addrs:       s.AddrsOf(link.Index),
		Routes:      s.RoutesOf(link.Index),
		Uptime:      int64(s.Uptime),
		AddrGenMode: link.AddrGenMode,
	}
	for _, n := range s.NeighborsOf(link.Index) {
		if n.Permanent() {
			step.Neighbors = append(step.Neighbors, n)
		}
	}
	return step
}
