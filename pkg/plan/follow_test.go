package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/podwire/podwire/internal/planned"
	"github.com/podwire/podwire/internal/shapes"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// moved is the pod with another address and less MTU.
func moved() netstate.Snapshot {
	s := shapes.With(shapes.Pod("10.244.1.77/24"), shapes.Route("0.0.0.0/0", "10.244.1.1"))
	s.Links = slices.Clone(s.Links)
	s.Links[1].MTU = 1400
	return s
}

// TestStepsFollowTheSnapshot: those of this release become what it plans for the new
// snapshot.
func TestStepsFollowTheSnapshot(t *testing.T) {
	for _, b := range []config.Binding{config.Bridge, config.TC, config.Masquerade} {
		c := config.Default()
		c.Binding = b
		was, _ := planned.Eth0(t, shapes.Bridge(), c)
		now, _ := planned.Eth0(t, moved(), c)
		if got := was.Steps.Follow(was.Steps, now.Steps, moved()); got.String() != now.Steps.String() {
			t.Errorf("%s:\n%s\nwant\n%s", b, got, now.Steps)
		}
	}
}

// TestStepsOfAnotherReleaseStay, but for what the change is about.
func TestStepsOfAnotherReleaseStay(t *testing.T) {
	c := config.Default()
	was, _ := planned.Eth0(t, shapes.Bridge(), c)
	now, _ := planned.Eth0(t, moved(), c)
	older := slices.Clone(was.Steps)
	for i, step := range older {
		if f, ok := step.(plan.AddFilter); ok && f.Name == "guest" {
			f.Drop = f.Drop[:1]
			older[i] = f
		}
	}
	got := older.Follow(was.Steps, now.Steps, moved())
	text := got.String()
	for _, want := range []string{"mtu 1400", "addr del 10.244.1.77/24 dev eth0"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"mtu 1450", "10.244.1.7/24", "arp who-has 10.244.1.77"} {
		if strings.Contains(text, not) {
			t.Errorf("there is %q in\n%s", not, text)
		}
	}
	if len(got) != len(older) {
		t.Errorf("there are %d steps, want %d", len(got), len(older))
	}
}

// TestRetakeGivesBackWhatCameLast, and nothing of a link that is another one.
func TestRetakeGivesBackWhatCameLast(t *testing.T) {
	p, _ := planned.Eth0(t, shapes.Bridge(), config.Default())
	other := moved()
	other.Links[1].Index = 9
	for name, tt := range map[string]struct {
		s    netstate.Snapshot
		want string
	}{"the same link": {moved(), "10.244.1.77/24"}, "another link": {other, "10.244.1.7/24"}} {
		steps := p.Steps.Retake(tt.s)
		i := slices.IndexFunc(steps, func(s plan.Step) bool { return s.Kind() == plan.TakeAddresses{}.Kind() })
		take := steps[i].(plan.TakeAddresses)
		if len(take.Addrs) != 1 || take.Addrs[0].Prefix.String() != tt.want || take.AddrGenMode != "eui64" {
			t.Errorf("%s: %+v, want %s", name, take, tt.want)
		}
	}
}
