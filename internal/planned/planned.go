// Package planned makes plans of snapshots for tests, the way the commands do.
package planned

import (
	"testing"

	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Eth0 returns the plan of a snapshot's eth0, and its guest's lease.
func Eth0(t testing.TB, s netstate.Snapshot, c config.Config) (plan.Plan, lease.Lease) {
	t.Helper()
	links, err := discover.Interfaces(s, []string{"eth0"}, c.Binding)
	if err != nil {
		t.Fatal(err)
	}
	found, err := discover.Discover(s, links[0], discover.Host{Hostname: "vm-0"}, c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(s, found.Link, found.Lease, c)
	if err != nil {
		t.Fatal(err)
	}
	return p, found.Lease
}
