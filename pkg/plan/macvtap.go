package plan

import (
	"slices"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
)

// macvtapSteps has the guest's questions turned round. What a guest sends goes out of
// a macvtap and what it receives comes in, so that the pod would never hear it: the
// frames that are to be answered are handed back to the link as if they had come to
// it, where the server's socket hears them and the filter ends them. What the
// server sends is handed back likewise, and passes.
func macvtapSteps(s netstate.Snapshot, link netstate.Link, l lease.Lease, c config.Config) Steps {
	own := []Match{{Kind: MatchFrom, MAC: l.Server.MAC}}
	// What has the server's MAC the redirect hands back, whoever sent it. Without a server
	// there is no redirect, and it is nobody's.
	guard := onPod(s, link, AddFilter{Ahead: true, Egress: true})
	if !l.Served() {
		return guarded(guard, l, c)
	}
	guard.Pass = own
	turned := kept(l)
	for _, m := range slices.Concat(Answered(l), hidden(l)) {
		if !slices.Contains(turned, m) {
			turned = append(turned, m)
		}
	}
	return slices.Concat(
		Steps{onPod(s, link, AddFilter{Pass: own, Drop: slices.Concat(foreign(l), turned), Ahead: true})},
		guarded(guard, l, c),
		Steps{redirectPod(s, link, Redirect{
			Name: redirectAnswered, Egress: true, Match: slices.Concat(own, turned), To: link.Name, Receive: true,
		})})
}
