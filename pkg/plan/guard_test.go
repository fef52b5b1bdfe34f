package plan_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/internal/golden"
	"github.com/podwire/podwire/internal/planned"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// macvtap is a pod whose eth0 is one.
func macvtap(s netstate.Snapshot) netstate.Snapshot {
	s.Links = slices.Clone(s.Links)
	link := slices.IndexFunc(s.Links, func(l netstate.Link) bool { return l.Index == shapes.Index })
	s.Links[link].Kind = "macvtap"
	return s
}

// TestGuards holds what a guest may send, of each binding, and that nothing else of the
// plan is another for it.
func TestGuards(t *testing.T) {
	for name, test := range map[string]struct {
		binding  config.Binding
		snapshot netstate.Snapshot
	}{
		"guard":            {config.Bridge, shapes.Dual()},
		"guard.tc":         {config.TC, shapes.Dual()},
		"guard.masquerade": {config.Masquerade, shapes.Dual()},
		"guard.macvtap":    {config.Bridge, macvtap(shapes.Dual())},
		"guard.ipv4":       {config.Bridge, shapes.Bridge()},
		"guard.plain":      {config.Bridge, shapes.Pod()},
		"guard.plain-tap":  {config.Bridge, macvtap(shapes.Pod())},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			c.Binding = test.binding
			without := planOf(t, test.snapshot, c).Steps
			c.Guard = true
			with := planOf(t, test.snapshot, c).Steps
			golden.Check(t, name+".plan", with.String())
			guards := 0
			rest := slices.DeleteFunc(slices.Clone(with), func(s plan.Step) bool {
				f, ok := s.(plan.AddFilter)
				guard := ok && f.Guard != nil
				if guard {
					guards++
				}
				return guard
			})
			if guards != 1 || rest.String() != without.String() {
				t.Errorf("%d guards, and beside them\n%s\nwhere without one it is\n%s", guards, rest, without)
			}
		})
	}
}

// TestGuardKnowsWhoIsNotTheGuest: it is neither of its routers, nor podwire.
func TestGuardKnowsWhoIsNotTheGuest(t *testing.T) {
	c := config.Default()
	c.Guard = true
	for _, shape := range shapes.All() {
		for _, c.Binding = range []config.Binding{config.Bridge, config.Masquerade} {
			if c.Binding == config.Masquerade && len(shape.Snapshot.AddrsOf(shapes.Index)) == 0 {
				continue
			}
			p, l := planned.Eth0(t, shape.Snapshot, c)
			var g plan.Guard
			for _, s := range p.Steps {
				if f, ok := s.(plan.AddFilter); ok && f.Guard != nil {
					g = *f.Guard
				}
			}
			if g.MAC != l.MAC || len(g.Addrs) != len(l.Addrs) {
				t.Errorf("%s: %+v guards the guest of %s with %v", shape.Name, g, l.MAC, l.Addrs)
			}
			var others []netip.Addr
			for _, r := range l.Routers {
				others = append(others, r.Addr)
			}
			if l.Server.LinkLocal.IsValid() {
				others = append(others, l.Server.LinkLocal)
			}
			if c.Binding == config.Masquerade && len(others) > 0 {
				others = append(others, lease.GatewayMAC.LinkLocal())
			}
			for _, a := range others {
				if !slices.Contains(g.Others, a) {
					t.Errorf("%s/%s: the guest may be %s", shape.Name, c.Binding, a)
				}
			}
			if slices.Contains(g.Others, l.MAC.LinkLocal()) {
				t.Errorf("%s/%s: the guest may not be itself", shape.Name, c.Binding)
			}
		}
	}
}

// TestGuardInTheStateFile: it comes back as it was, and a state of before it is good.
func TestGuardInTheStateFile(t *testing.T) {
	c := config.Default()
	c.Guard = true
	steps := planOf(t, shapes.Dual(), c).Steps
	text, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	var back plan.Steps
	if err := json.Unmarshal(text, &back); err != nil || back.String() != steps.String() {
		t.Errorf("%v: it came back as\n%s", err, back)
	}
	old := `[{"step":"add-filter","with":{"link":"tap-eth0","name":"guest","drop":[{"match":"all"}]}}]`
	if err := json.Unmarshal([]byte(old), &back); err != nil || strings.Contains(back.String(), "vlan") {
		t.Errorf("%v: an old one became\n%s", err, back)
	}
}
