package plan

import (
	"slices"

	"github.com/podwire/podwire/pkg/netstate"
)

// Retake returns the steps with what is taken of the pod interface as a later snapshot
// has it: that is what undoing them gives back.
func (s Steps) Retake(later netstate.Snapshot) Steps {
	out := slices.Clone(s)
	for i, step := range out {
		if take, ok := step.(TakeAddresses); ok {
			if link, there := later.LinkByIndex(take.Index); there {
				link.Name, link.AddrGenMode = take.Link, take.AddrGenMode
				out[i] = takeAddresses(later, link)
			}
		}
	}
	return out
}

// Follow returns the steps as they are to be for another snapshot of the same interface.
// was and now are what is planned today from the old snapshot and from the new one: where
// the steps are not what was planned today, another release has made them, and they stay,
// but for what it takes to go on with the pod's network as it has become.
func (s Steps) Follow(was, now Steps, later netstate.Snapshot) Steps {
	if s.String() == was.String() {
		return now
	}
	out := s.Retake(later)
	for i, step := range out {
		old, known := was.counterpart(step)
		if next, there := now.counterpart(step); known && there && old.String() == s[i].String() {
			out[i] = next
		}
	}
	return out
}

// counterpart is the step that does the same to the same link.
func (s Steps) counterpart(of Step) (Step, bool) {
	i := slices.IndexFunc(s, func(step Step) bool {
		return step.Kind() == of.Kind() && step.On() == of.On() && nameOf(step) == nameOf(of)
	})
	if i < 0 {
		return nil, false
	}
	return s[i], true
}

// nameOf tells apart steps of a kind that are about one link.
func nameOf(step Step) string {
	switch step := step.(type) {
	case AddFilter:
		return step.Name
	case Redirect:
		return step.Name
	case SetOption:
		return step.Option
	}
	return ""
}
