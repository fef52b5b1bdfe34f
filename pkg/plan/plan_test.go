package plan_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/podwire/podwire/internal/golden"
	"github.com/podwire/podwire/internal/planned"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func planOf(t testing.TB, s netstate.Snapshot, c config.Config) plan.Plan {
	t.Helper()
	p, _ := planned.Eth0(t, s, c)
	return p
}

// TestShapes holds the plan of each CNI layout, as a person reads it.
func TestShapes(t *testing.T) {
	for _, shape := range shapes.All() {
		t.Run(shape.Name, func(t *testing.T) {
			golden.Check(t, shape.Name+".plan", planOf(t, shape.Snapshot, config.Default()).Steps.String())
		})
	}
}

// TestBindings holds the plans of the other bindings likewise.
func TestBindings(t *testing.T) {
	for _, shape := range shapes.All() {
		for _, b := range []config.Binding{config.TC, config.Masquerade} {
			if b == config.Masquerade && len(shape.Snapshot.AddrsOf(shapes.Index)) == 0 {
				continue // which it refuses
			}
			t.Run(shape.Name+"/"+string(b), func(t *testing.T) {
				c := config.Default()
				c.Binding = b
				golden.Check(t, shape.Name+"."+string(b)+".plan", planOf(t, shape.Snapshot, c).Steps.String())
			})
		}
	}
}

// TestTheRewireIsTheLastStep: until then the pod has its network, and what fails before
// has cost it nothing.
func TestTheRewireIsTheLastStep(t *testing.T) {
	for b, last := range map[config.Binding]plan.Step{config.TC: plan.Redirect{}, config.Masquerade: plan.Translate{}} {
		c := config.Default()
		c.Binding = b
		steps := planOf(t, shapes.Dual(), c).Steps
		if got := steps[len(steps)-1]; got.Kind() != last.Kind() || got.On() != "eth0" {
			t.Errorf("%s: the last step is %s on %s", b, got.Kind(), got.On())
		}
		for _, s := range steps {
			if s.Kind() == (plan.TakeAddresses{}).Kind() || s.Kind() == (plan.SetMAC{}).Kind() {
				t.Errorf("%s: %s takes something from the pod", b, s.Kind())
			}
		}
	}
}

func TestPortsOfMasquerade(t *testing.T) {
	c := config.Default()
	c.Binding = config.Masquerade
	c.Ports = []config.Ports{{Protocol: "tcp", First: 80, Last: 80}, {Protocol: "udp", First: 8000, Last: 8010}}
	c.ExcludePorts = []config.Ports{{Protocol: "tcp", First: 15001, Last: 15006}}
	c.ExcludeFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.6/32")}
	golden.Check(t, "ports.plan", planOf(t, shapes.Dual(), c).Steps.String())
}

// TestTheRelaysOwnQuestionsStayInThePod: a nameserver that listens on the pod's
// localhost is asked there, although what goes there is the guest's.
func TestTheRelaysOwnQuestionsStayInThePod(t *testing.T) {
	c := config.Default()
	c.Binding, c.DNSForward, c.DNS = config.Masquerade, true, []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	text := planOf(t, shapes.Dual(), c).Steps.String()
	stays := strings.Index(text, "local ip daddr 127.0.0.1 udp dport 53 return")
	goes := strings.Index(text, "local ip daddr 127.0.0.1 jump inbound")
	if stays < 0 || goes < stays {
		t.Errorf("return at %d, jump at %d in:\n%s", stays, goes, text)
	}
}

// TestIPv6ForwardingKeepsARoutersRoute: a pod that becomes a router forgets the
// default route that it was advertised, unless it is told to go on listening.
func TestIPv6ForwardingKeepsARoutersRoute(t *testing.T) {
	c := config.Default()
	c.Binding = config.Masquerade
	s := shapes.Dual()
	s.Links, s.Routes = slices.Clone(s.Links), slices.Clone(s.Routes)
	link := slices.IndexFunc(s.Links, func(l netstate.Link) bool { return l.Index == shapes.Index })
	s.Links[link].AcceptRA = 1
	for i, r := range s.Routes {
		if r.Default() && r.Dst.Addr().Is6() {
			s.Routes[i].Protocol = 9
		}
	}
	text := planOf(t, s, c).Steps.String()
	listen, forward := strings.Index(text, "net/ipv6/conf/eth0/accept_ra=2"), strings.Index(text, "net/ipv6/conf/all/forwarding=1")
	if listen < 0 || forward < listen {
		t.Errorf("accept_ra at %d, forwarding at %d in:\n%s", listen, forward, text)
	}
	s.Forwarding6 = true
	if text := planOf(t, s, c).Steps.String(); strings.Contains(text, "net/ipv6") {
		t.Errorf("what is set already is set:\n%s", text)
	}
}

// TestMacvtapIsLeftAsItIs: what the guest sends is turned round to be heard, and no
// link is made or changed.
func TestMacvtapIsLeftAsItIs(t *testing.T) {
	s := shapes.Dual()
	s.Links = slices.Clone(s.Links)
	link := slices.IndexFunc(s.Links, func(l netstate.Link) bool { return l.Index == shapes.Index })
	s.Links[link].Kind = "macvtap"
	p, l := planned.Eth0(t, s, config.Default())
	if p.Interface.Binding != config.Macvtap || p.Interface.Tap != "eth0" || p.Interface.Bridge != "" {
		t.Errorf("%+v", p.Interface)
	}
	golden.Check(t, "macvtap.plan", p.Steps.String())
	turned := p.Steps[1].(plan.Redirect).Match
	for _, m := range plan.Answered(l) {
		if !slices.Contains(turned, m) {
			t.Errorf("%v is answered, and goes out unheard", m)
		}
	}
}

func TestSettingsShapeThePlan(t *testing.T) {
	c := config.Default()
	c.TapOwner = &config.Owner{UID: 107, GID: 107}
	c.Queues = 4
	c.MTU = 1400
	s := shapes.Bridge()
	s.Links = slices.Clone(s.Links)
	s.Links[1].Up = false
	s.Qdiscs = []netstate.Qdisc{{Link: shapes.Index, Kind: "clsact", Handle: 0xffff0000}}
	p := planOf(t, s, c)
	golden.Check(t, "settings.plan", p.Steps.String())

	filter := p.Steps[len(p.Steps)-2].(plan.AddFilter)
	if filter.Link != "eth0" || !filter.KeepHook {
		t.Errorf("the pod's own clsact is not kept: %+v", filter)
	}
	if port := p.Steps[len(p.Steps)-1].(plan.AttachPort); port.WasUp {
		t.Errorf("the pod interface was down, and the plan says %+v", port)
	}
}

func TestNothingIsTakenBeforeEverythingElseIsReady(t *testing.T) {
	steps := planOf(t, shapes.Dual(), config.Default()).Steps
	var kinds []string
	for _, s := range steps {
		kinds = append(kinds, s.Kind())
	}
	want := []string{"create-tap", "create-bridge", "add-filter", "add-filter", "attach-port", "add-filter", "take-addresses", "set-mac", "add-filter", "attach-port"}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestStandInsAreHeardAndPass: the gateway that one stands for answers too, also
// while no server runs.
func TestStandInsAreHeardAndPass(t *testing.T) {
	p, l := planned.Eth0(t, shapes.Dual(), config.Default())
	standIn := plan.Match{Kind: plan.MatchNDWhoHas, Addr: l.Neighbors[0].Addr}
	if !slices.Contains(plan.Answered(l), standIn) {
		t.Errorf("%v is not heard", standIn)
	}
	for _, s := range p.Steps {
		if f, ok := s.(plan.AddFilter); ok && slices.Contains(f.Drop, standIn) {
			t.Errorf("%v is dropped on %s", standIn, f.Link)
		}
	}
	want := []plan.Match{{Kind: plan.MatchNDSays, Addr: netip.MustParseAddr("fd00:10:244:1::1")}}
	if diff := cmp.Diff(want, plan.Gateways(l), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("what gateways say (-want +got):\n%s", diff)
	}
}

// TestPermanentNeighborsStayOnTheTap: some network's responder would answer for
// them otherwise, with another MAC.
func TestPermanentNeighborsStayOnTheTap(t *testing.T) {
	for _, s := range []netstate.Snapshot{shapes.AWS(), shapes.AWS6()} {
		p, l := planned.Eth0(t, s, config.Default())
		addr := l.Neighbors[0].Addr
		found := false
		for _, s := range p.Steps {
			if f, ok := s.(plan.AddFilter); ok && f.Link == "tap-eth0" {
				found = slices.ContainsFunc(f.Drop, func(m plan.Match) bool { return m.Addr == addr })
			}
		}
		if !found {
			t.Errorf("questions for %s leave the tap", addr)
		}
	}
}

// TestForwardedDNSIsKept: all that is for podwire's addresses ends at the tap.
func TestForwardedDNSIsKept(t *testing.T) {
	c := config.Default()
	c.DNSForward = true
	_, l := planned.Eth0(t, shapes.Dual(), c)
	answered := plan.Answered(l)
	for _, addr := range l.Server.DNS {
		if !slices.Contains(answered, plan.Match{Kind: plan.MatchTo, Addr: addr}) {
			t.Errorf("packets for %s are not heard: %v", addr, answered)
		}
	}
	if len(l.Server.DNS) != 2 {
		t.Errorf("%v", l.Server.DNS)
	}
}

func TestNamesThatAreTakenAreRefused(t *testing.T) {
	c := config.Default()
	c.DNSForward = true
	for _, name := range []string{"pw-eth0", "tap-eth0", "dns-eth0"} {
		s := shapes.Bridge()
		s.Links = append(slices.Clone(s.Links), netstate.Link{Index: 8, Name: name, Kind: "dummy"})
		links, _ := discover.Interfaces(s, []string{"eth0"}, config.Bridge)
		found, err := discover.Discover(s, links[0], discover.Host{}, c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = plan.New(s, found.Link, found.Lease, c)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("err = %v, want one that names %q", err, name)
		}
	}
}

func TestNames(t *testing.T) {
	tests := []struct{ in, bridge, tap string }{
		{"eth0", "pw-eth0", "tap-eth0"},
		{"twelveletter", "pw-twelveletter", "tap-e18b2c8a"},
		{"pod37a8eec1ce1", "pw-f9b6b8a8", "tap-f9b6b8a8"},
	}
	for _, tt := range tests {
		bridge, tap := plan.BridgeName(tt.in), plan.TapName(tt.in)
		if len(tt.in) <= 12 && bridge != tt.bridge {
			t.Errorf("bridge of %q = %q, want %q", tt.in, bridge, tt.bridge)
		}
		if len(bridge) > 15 || len(tap) > 15 || bridge == tap {
			t.Errorf("names of %q: %q, %q", tt.in, bridge, tap)
		}
	}
	if a, b := plan.TapName("pod37a8eec1ce1"), plan.TapName("pod37a8eec1ce2"); a == b {
		t.Errorf("two interfaces share the tap name %q", a)
	}
}

func TestStepsSurviveTheStateFile(t *testing.T) {
	for _, shape := range shapes.All() {
		steps := planOf(t, shape.Snapshot, config.Default()).Steps
		text, err := json.Marshal(steps)
		if err != nil {
			t.Fatal(err)
		}
		var back plan.Steps
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("%s: %v", shape.Name, err)
		}
		if diff := cmp.Diff(steps, back, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", shape.Name, diff)
		}
	}
}

func TestUnknownStepsAreRefused(t *testing.T) {
	for _, text := range []string{
		`[{"step":"format-disk","with":{}}]`,
		`[{"step":"set-mac","with":{"link":"eth0","more":1}}]`,
		`[{"step":"set-mac","with":{"mac":"x"}}]`,
		`{}`,
	} {
		var steps plan.Steps
		if err := json.Unmarshal([]byte(text), &steps); err == nil {
			t.Errorf("%s was taken as %v", text, steps)
		}
	}
}

// FuzzPlan: whatever a snapshot holds, discover and plan do not panic, and the
// same snapshot gives the same plan, also by way of the state file.
func FuzzPlan(f *testing.F) {
	for _, shape := range shapes.All() {
		text, err := json.Marshal(shape.Snapshot)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s netstate.Snapshot
		if json.Unmarshal(text, &s) != nil {
			return
		}
		links, err := discover.Interfaces(s, nil, config.Bridge)
		if err != nil {
			return
		}
		first, second := encode(t, s, links[0]), encode(t, s, links[0])
		if !slices.Equal(first, second) {
			t.Errorf("two plans of one snapshot:\n%s\n%s", first, second)
		}
	})
}

func encode(t *testing.T, s netstate.Snapshot, link netstate.Link) []byte {
	found, err := discover.Discover(s, link, discover.Host{Hostname: "vm"}, config.Default())
	if err != nil {
		return nil
	}
	p, err := plan.New(s, link, found.Lease, config.Default())
	if err != nil {
		return nil
	}
	_ = p.Steps.String()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back plan.Plan
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	again, err := json.Marshal(back)
	if err != nil || !slices.Equal(text, again) {
		t.Fatalf("the plan changed on its way through JSON (%v):\n%s\n%s", err, text, again)
	}
	return text
}
