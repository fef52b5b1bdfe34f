package plan

import (
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// tcSteps takes nothing from the pod interface. The last step alone changes what
// reaches the pod: from then on that is the guest's.
func tcSteps(s netstate.Snapshot, link netstate.Link, l lease.Lease, i Interface, c config.Config) Steps {
	tap := createTap(link, i, c)
	tap.Up = true
	steps := Steps{tap}
	if drop := kept(l); len(drop) > 0 {
		steps = append(steps, AddFilter{Link: i.Tap, Name: filterTap, Drop: append(drop, hidden(l)...), Ahead: true})
	}
	steps = append(steps, guarded(AddFilter{Link: i.Tap, Ahead: true}, l, c)...)
	steps = append(steps, Redirect{Link: i.Tap, Name: redirectAll, To: link.Name})
	if drop := foreign(l); len(drop) > 0 {
		steps = append(steps, onPod(s, link, AddFilter{Drop: drop, Ahead: true}))
	}
	return append(steps, redirectPod(s, link, Redirect{Name: redirectAll, To: i.Tap}))
}
