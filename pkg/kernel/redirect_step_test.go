//go:build linux

package kernel

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func TestRedirectIsDoneOnce(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	eth0, tap := r.Index(t, "eth0"), r.Index(t, "tap-eth0")
	want := []netstate.Filter{
		{Link: eth0, Name: "pod"},
		{Link: eth0, Name: "redirect", To: tap},
		{Link: tap, Name: "guest"},
		{Link: tap, Name: "redirect", To: eth0},
	}
	compareFilters(t, want, r.snapshot(t).Filters)
	before := r.listing(t)
	if n := r.changes(func() { r.do(t, r.steps...) }); n != 0 {
		t.Errorf("doing it again asks for %d changes", n)
	}
	if got := r.listing(t); got != before {
		t.Errorf("doing it again changed\n%s\nto\n%s", before, got)
	}
	if !strings.Contains(before, "mirred (Egress Redirect to device tap-eth0)") || !strings.Contains(before, "pref 68 u32") {
		t.Errorf("filters are\n%s", before)
	}
}

func compareFilters(t *testing.T, want, got []netstate.Filter) {
	t.Helper()
	order := func(a, b netstate.Filter) int {
		if a.Link != b.Link {
			return a.Link - b.Link
		}
		return strings.Compare(a.Name, b.Name)
	}
	if got = slices.SortedFunc(slices.Values(got), order); !slices.Equal(got, want) {
		t.Errorf("filters are %+v, want %+v", got, want)
	}
}

func TestRedirectToALinkThatWasMadeAnewIsRepaired(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	eth0, old := r.Index(t, "eth0"), r.Index(t, "tap-eth0")
	r.Delete(t, "tap-eth0")
	compareFilters(t, []netstate.Filter{{Link: eth0, Name: "pod"}, {Link: eth0, Name: "redirect"}}, r.snapshot(t).Filters)

	r.do(t, r.steps...)
	tap := r.Index(t, "tap-eth0")
	if tap == old {
		t.Fatalf("the new tap has the old number %d", old)
	}
	compareFilters(t, []netstate.Filter{
		{Link: eth0, Name: "pod"},
		{Link: eth0, Name: "redirect", To: tap},
		{Link: tap, Name: "guest"},
		{Link: tap, Name: "redirect", To: eth0},
	}, r.snapshot(t).Filters)
	r.guest = tapEnd(r.pod.guest(t, "tap-eth0"))
	r.joined(t)
}

// Both kinds of redirect, and each hook.
func redirectsOfEachKind() map[string]plan.Redirect {
	some := []plan.Match{{Kind: plan.MatchDHCPClient}, {Kind: plan.MatchFrom, MAC: portMAC}}
	return map[string]plan.Redirect{
		"all, received":  {Link: "eth0", Name: "redirect", To: "lo"},
		"all, sent":      {Link: "eth0", Name: "redirect", Egress: true, To: "lo", Receive: true},
		"some, received": {Link: "eth0", Name: "some", Match: some, To: "lo"},
		"some, sent":     {Link: "eth0", Name: "some", Match: some, Egress: true, To: "eth0", Receive: true},
	}
}

func TestRedirectIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, step := range redirectsOfEachKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, []string{"link set eth0 txqueuelen 0", "addr add 10.244.1.7/24 dev eth0"})
			step.TxQLen = new(int)
			before := p.state(t)
			p.undo(t, step)
			p.wantState(t, before)
			p.do(t, step)
			after := p.state(t)
			if f := after.Snapshot.Filters; len(f) != 1 || f[0].Name != step.Name || f[0].To != p.Index(t, step.To) {
				t.Errorf("filters are %+v", f)
			}
			if n := p.changes(func() { p.do(t, step) }); n != 0 {
				t.Errorf("doing it again asks for %d changes", n)
			}
			p.undo(t, step)
			p.undo(t, step)
			p.wantState(t, before)
		})
	}
}

func TestRedirectLeavesTheHookOfOthersAndTheirFilters(t *testing.T) {
	t.Parallel()
	for name, step := range redirectsOfEachKind() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, []string{"addr add 10.244.1.7/24 dev eth0"})
			p.Run(t, "tc", "qdisc", "add", "dev", "eth0", "clsact")
			empty := p.state(t)
			step.KeepHook = true
			p.do(t, step)
			p.undo(t, step)
			p.wantState(t, empty)

			step.KeepHook = false
			for _, hook := range []string{"ingress", "egress"} {
				for _, priority := range []string{"1", "100"} {
					p.Run(t, "tc", "filter", "add", "dev", "eth0", hook, "prio", priority, "u32", "match", "u32", "0", "0",
						"action", "mirred", "egress", "redirect", "dev", "lo")
				}
			}
			others := p.hooks(t)
			p.do(t, step)
			if p.hooks(t) == others {
				t.Error("nothing was done")
			}
			p.undo(t, step)
			if got := p.hooks(t); got != others {
				t.Errorf("filters of others were\n%s\nand are\n%s", others, got)
			}
		})
	}
}

// hooks are both hooks of eth0 as tc(8) sees them, without times.
func (p *pod) hooks(t *testing.T) string {
	t.Helper()
	return p.Run(t, "tc", "filter", "show", "dev", "eth0", "ingress") + p.Run(t, "tc", "filter", "show", "dev", "eth0", "egress")
}

// An ingress qdisc has no hook for what the link sends, but takes the filter.
func TestRedirectOnAnIngressQdisc(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.Run(t, "tc", "qdisc", "add", "dev", "eth0", "ingress")
	before := p.state(t)
	for name, step := range redirectsOfEachKind() {
		step.KeepHook = true
		err := p.k.Do(t.Context(), step)
		if step.Egress {
			if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), `its qdisc "ingress"`) {
				t.Errorf("%s: got %v", name, err)
			}
		} else if err != nil || len(p.snapshot(t).Filters) != 1 {
			t.Errorf("%s: got %v, %+v", name, err, p.snapshot(t).Filters)
		}
		p.undo(t, step)
		p.wantState(t, before)
	}
}

func TestPlaceOfARedirectThatIsTakenIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	p.Run(t, "tc", "qdisc", "add", "dev", "eth0", "clsact")
	p.Run(t, "tc", "filter", "add", "dev", "eth0", "ingress", "prio", "68", "u32", "match", "u32", "0", "0", "classid", "1:1")
	before := p.hooks(t)
	step := plan.Redirect{Link: "eth0", Name: "redirect", To: "lo"}
	if err := p.k.Do(t.Context(), step); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
	p.undo(t, step)
	if got := p.hooks(t); got != before {
		t.Errorf("filters were\n%s\nand are\n%s", before, got)
	}
}

func TestKernelWithoutAPartOfTheBindingSaysWhatToLoad(t *testing.T) {
	t.Parallel()
	ahead := plan.AddFilter{Link: "eth0", Name: "pod", Drop: podMatches, Ahead: true}
	redirect := plan.Redirect{Link: "eth0", Name: "redirect", To: "lo"}
	for name, without := range map[string]struct {
		step  plan.Step
		kind  uint16
		errno unix.Errno
		want  string
	}{
		"filter: no clsact":          {ahead, unix.RTM_NEWQDISC, unix.ENOENT, "sch_ingress and cls_bpf"},
		"filter: no cls_bpf":         {ahead, unix.RTM_NEWTFILTER, unix.ENOENT, "sch_ingress and cls_bpf"},
		"filter: no traffic control": {ahead, unix.RTM_NEWQDISC, unix.EOPNOTSUPP, "sch_ingress and cls_bpf"},
		"redirect: no clsact":        {redirect, unix.RTM_NEWQDISC, unix.ENOENT, "sch_ingress, cls_u32, cls_bpf and act_mirred"},
		"redirect: no u32":           {redirect, unix.RTM_NEWTFILTER, unix.ENOENT, "sch_ingress, cls_u32, cls_bpf and act_mirred"},
		"redirect: no mirred":        {redirect, unix.RTM_NEWTFILTER, unix.EINVAL, "sch_ingress, cls_u32, cls_bpf and act_mirred"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, nil)
			before := p.state(t)
			p.refuse(without.kind, without.errno)
			err := p.k.Do(t.Context(), without.step)
			if !errors.Is(err, errNoTC) || !strings.Contains(err.Error(), "load the kernel modules "+without.want+" on the node") {
				t.Errorf("got %v", err)
			}
			p.wantState(t, before)
		})
	}
	p := newPod(t, nil, WithoutTC())
	before := p.state(t)
	for _, step := range []plan.Step{ahead, redirect} {
		if err := p.k.Do(t.Context(), step); !errors.Is(err, errNoTC) {
			t.Errorf("%s without tc: %v", step.Kind(), err)
		}
		p.undo(t, step)
	}
	p.wantState(t, before)
}

func TestRedirectOfLinksThatAreNotThere(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil)
	before := p.state(t)
	for name, step := range map[string]plan.Redirect{
		"no link":      {Link: "eth9", Name: "redirect", To: "lo"},
		"no target":    {Link: "eth0", Name: "redirect", To: "eth9"},
		"another link": {Link: "eth0", Index: 9999, Name: "redirect", To: "lo"},
	} {
		if err := p.k.Do(t.Context(), step); !errors.Is(err, errLinkGone) {
			t.Errorf("%s: got %v", name, err)
		}
		p.undo(t, step)
	}
	p.wantState(t, before)
}

func TestRedirectNeedsNetAdminAndIsReadWithout(t *testing.T) {
	t.Parallel()
	r := newRedirected(t)
	want := r.snapshot(t)
	r.inside(t, func(k *Kernel) {
		s, err := k.Snapshot(t.Context())
		if err != nil || !slices.Equal(s.Filters, want.Filters) {
			t.Errorf("got %+v, %v, want %+v", s.Filters, err, want.Filters)
		}
		for _, s := range r.steps {
			wantExplained(t, "undoing "+s.Kind(), k.Undo(t.Context(), s))
		}
		other := plan.Redirect{Link: "eth0", Name: "redirect", To: "lo"}
		wantExplained(t, "redirecting", k.Do(t.Context(), other))
	}, unix.CAP_NET_ADMIN)
}

func TestTcBindingIsTakenBackWhole(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			p := newPod(t, shape.lines)
			before := p.state(t)
			steps := tcSteps(before.Snapshot)
			p.do(t, steps...)
			p.undo(t, steps...)
			p.wantState(t, before)
		})
	}
}

func TestNameInSelectorComesBack(t *testing.T) {
	for _, name := range []string{"", "a", "four", "redirect", "a-longer-one"} {
		if got := nameInSelector(selectAll(name)); got != name {
			t.Errorf("name %q came back as %q", name, got)
		}
	}
	ours := selectAll("redirect")
	for what, b := range map[string][]byte{
		"nothing": nil, "a selector cut short": ours[:len(ours)-1], "a selector without keys": make([]byte, sizeofSelector),
		"another's": edit(ours, sizeofSelector+4, 0), "one that compares": edit(ours, sizeofSelector+sizeofKey, 1),
	} {
		if got := nameInSelector(b); got != "" {
			t.Errorf("%s has the name %q", what, got)
		}
	}
}
