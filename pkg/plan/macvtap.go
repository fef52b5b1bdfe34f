package plan

import (
	"slices"

	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// macvtapSteps has the guest's questions turned round. What a guest sends goes out of
// a macvtap and what it receives comes in, so that the pod would never hear it: the
// frames that are to be answered are handed back to the link as if they had come to
// it, where the server's socket hears them and the filter ends them. What the
// server sends is handed back likewise, and passes.
func macvtapSteps(s netstate.Snapshot, link netstate.Link, l lease.Lease) Steps {
	if !l.Served() {
		return nil
	}
	own := []Match{{Kind: MatchFrom, MAC: l.Server.MAC}}
	turned := kept(l)
	for _, m := range slices.Concat(Answered(l), hidden(l)) {
		if !slices.Contains(turned, m) {
			turned = append(turned, m)
		}
	}
	return Steps{
		onPod(s, link, AddFilter{Pass: own, Drop: slices.Concat(foreign(l), turned), Ahead: true}),
		redirectPod(s, link, Redirect{
			Name: redirectAnswered, Egress: true, Match: slices.Concat(own, turned), To: link.Name, Receive: true,
		}),
	}
}
