package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/podwire/podwire/internal/survive"
	"github.com/podwire/podwire/pkg/config"
	"github.com/podwire/podwire/pkg/discover"
	"github.com/podwire/podwire/pkg/kernel"
	"github.com/podwire/podwire/pkg/lease"
	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
	"github.com/podwire/podwire/pkg/record"
)

// following is how the pod interface of a record is followed.
func following(r record.Record, wired bool) discover.Following {
	f := discover.Following{Link: r.Interface.PodInterface, Taken: r.Interface.Binding == config.Bridge, Wired: wired}
	for _, step := range r.Steps {
		if filter, ok := step.(plan.AddFilter); ok && filter.Guard != nil && filter.Guard.Known() {
			f.Held = filter.Guard.Addrs
		}
	}
	return f
}

// difference is what a snapshot that was followed has other than the one before it, in words.
func difference(r record.Record, followed netstate.Snapshot) []string {
	return discover.Moved(r.Snapshot, followed, discover.Following{Link: r.Interface.PodInterface})
}

// moved is what others have changed of a wired pod interface's network.
func moved(r record.Record, now netstate.Snapshot) []string {
	if r.Phase != record.Applied {
		return nil // podwire itself has changed it
	}
	return discover.Moved(r.Snapshot, now, following(r, true))
}

// takeOver makes the job of a wired interface one that also follows what others have
// changed of its network. planned is what the recorded settings make of it today.
func (a *Agent) takeOver(now netstate.Snapshot, r record.Record, j, planned job) (job, error) {
	name := r.Interface.PodInterface
	s, changed := discover.Follow(r.Snapshot, now, following(r, true))
	if !changed {
		return j, nil
	}
	c := within(planned.record.Config, s, name)
	if c.MTU != planned.record.Config.MTU {
		a.log.Warn("the pod interface carries less than --mtu asks for: the guest is told what it carries", "link", name, "mtu", c.MTU)
	}
	next, err := a.fresh(s, name, c, true)
	if err != nil {
		return j, fmt.Errorf("taking over what was changed of the pod interface %q: %w", name, err)
	}
	mine := next.record.Interface
	mine.MTU = r.Interface.MTU
	if mine != r.Interface {
		return j, errOtherWiring(name)
	}
	j.moved = difference(r, s)
	j.record.Config, j.record.Snapshot = c, s
	j.record.Interface.MTU = next.record.Interface.MTU
	j.record.Steps = r.Steps.Follow(planned.record.Steps, next.record.Steps, s)
	if sameWiring(planned.record, r) {
		j.record.Lease, j.record.Warnings = next.record.Lease, next.record.Warnings
	} else {
		j.record.Lease = follow(j.record.Lease, planned.record.Lease, next.record.Lease)
	}
	return j, nil
}

// lastGiven is a record by which the pod gets back what its network gave it last, also
// where no setup has taken that over.
func (a *Agent) lastGiven(ctx context.Context, r record.Record) record.Record {
	if r.Phase != record.Applied {
		return r
	}
	now, err := a.look(ctx)
	if err != nil {
		a.log.Warn("what the pod's network gave it last is not known", "link", r.Interface.PodInterface, "err", err)
		return r
	}
	f := following(r, true)
	if s, changed := discover.Follow(r.Snapshot, now, f); changed {
		if what := difference(r, s); f.Taken && len(what) > 0 {
			a.log.Warn("the pod's network was changed: the pod gets what its network gave it last", "link", f.Link, "change", strings.Join(what, "; "))
		}
		r.Snapshot, r.Steps = s, r.Steps.Retake(s)
	}
	return r
}

// within keeps an MTU that was asked for within what the pod interface carries by now.
func within(c config.Config, s netstate.Snapshot, name string) config.Config {
	if link, ok := s.LinkByName(name); ok && c.MTU > link.MTU {
		c.MTU = link.MTU
	}
	return c
}

// follow is a lease with what differs between two others of the same guest.
func follow(l, was, now lease.Lease) lease.Lease {
	replace(&l.Addrs, was.Addrs, now.Addrs)
	replace(&l.Routes, was.Routes, now.Routes)
	replace(&l.Neighbors, was.Neighbors, now.Neighbors)
	if l.Server.LinkLocal.IsValid() { // an older podwire's wiring knows no IPv6
		replace(&l.Routers, was.Routers, now.Routers)
	}
	replace(&l.MTU, was.MTU, now.MTU)
	return l
}

func replace[T any](to *T, was, now T) {
	if !equalJSON(was, now) {
		*to = now
	}
}

// followed is what a guest is to be told while the wiring stays as it is recorded, and
// what others have changed of the pod's network, in words.
func (a *Agent) followed(r record.Record, now netstate.Snapshot) (l lease.Lease, changes []string, err error) {
	name := r.Interface.PodInterface
	s, changed := discover.Follow(r.Snapshot, now, following(r, false))
	if !changed {
		return r.Lease, nil, nil
	}
	c := r.Config
	c.DNSForward = len(r.Lease.Server.DNS) > 0
	c = within(c, s, name)
	host, _ := a.host(c)
	told := func(s netstate.Snapshot) (lease.Lease, error) {
		link, _ := s.LinkByName(name)
		found, err := discover.Discover(s, link, host, c)
		return found.Lease, err
	}
	was, err := told(r.Snapshot)
	if err != nil {
		return r.Lease, nil, err
	}
	is, err := told(s)
	if err != nil {
		return r.Lease, nil, err
	}
	return follow(r.Lease, was, is), difference(r, s), nil
}

// betweenFollows is how long the guest is left alone after it was told of a change, so
// that a pod network that flaps is no burden to it: routers may speak to all of a link no
// more often (MIN_DELAY_BETWEEN_RAS, RFC 4861 §10).
const betweenFollows = 3 * time.Second

// startFollowing has the guests told of what becomes of the pod's network, until stop. It
// opens what that takes, and changes nothing but what the servers say.
func (a *Agent) startFollowing(ctx context.Context, services []*service) (stop func()) {
	w, err := a.kernel.Watch()
	if err != nil {
		a.log.Warn("the pod's network is not followed: its guests are told of a change when setup runs again", "err", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	survive.Go(&running, a.panicked, func() { a.followPod(ctx, w, services) })
	return func() {
		cancel()
		running.Wait()
	}
}

// How long to wait, at first and at most, before the pod's network is looked at again that
// could not be, or of which a guest could not be told.
const (
	lookAgainFirst = time.Second
	lookAgainMost  = time.Minute
)

func (a *Agent) followPod(ctx context.Context, w *kernel.Watch, services []*service) {
	defer func() { _ = w.Close() }() // it was only read
	survive.Again(ctx, a.panicked, func() {
		pause := lookAgainFirst
		for ctx.Err() == nil {
			err := a.followOnce(ctx, services)
			if err == nil {
				pause = lookAgainFirst
				err = w.Wait(ctx)
				if err == nil || ctx.Err() != nil {
					continue
				}
				w = a.watchAnew(w, err)
			}
			if !survive.Wait(ctx, pause) {
				return
			}
			pause = min(2*pause, lookAgainMost)
		}
	})
}

// watchAnew is another watch in the place of one that has failed, or that one where there
// is no other: it is looked all the same, after a pause.
func (a *Agent) watchAnew(w *kernel.Watch, cause error) *kernel.Watch {
	next, err := a.kernel.Watch()
	if err != nil {
		a.log.Error("changes of the pod's network are not heard: it is looked at from time to time", "err", errors.Join(cause, err))
		return w
	}
	a.log.Warn("changes of the pod's network were not heard for a moment", "err", cause)
	_ = w.Close() // it was only read
	return next
}

// followOnce has each guest told what the pod's network is now. The error has been logged.
func (a *Agent) followOnce(ctx context.Context, services []*service) error {
	now, err := a.kernel.Network(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		a.log.Warn("the pod's network is not followed for now", "err", err)
		return err
	}
	told := false
	var errs []error
	for _, s := range services {
		if s.ctx.Err() == nil {
			news, err := a.tell(s, now)
			told, errs = told || news, append(errs, err)
		}
	}
	if told && !survive.Wait(ctx, betweenFollows) {
		return ctx.Err()
	}
	return errors.Join(errs...)
}

// tell has one guest told of the pod's network, and reports whether that is news. The error
// has been logged.
func (a *Agent) tell(s *service, now netstate.Snapshot) (news bool, err error) {
	s.telling.Lock()
	defer s.telling.Unlock()
	// After the snapshot: a setup writes the state before it changes anything.
	r, err := a.dir.Load(s.name)
	if err == nil && (r.Phase != record.Applied || !r.Snapshot.NetNS.Same(s.netns)) {
		return false, nil // a teardown, or a setup, is at work
	}
	if err == nil {
		r, err = a.complete(r)
	}
	var changes []string
	var l lease.Lease
	if err == nil {
		l, changes, err = a.followed(r, now)
	}
	if err != nil {
		a.log.Warn("what the pod's network has become is not told to the guest", "link", s.name, "err", err)
		if notExist(err) {
			return false, nil // to look again is no use; who wires the pod anew has the server told
		}
		return false, err
	}
	if equalJSON(l, s.told) {
		return false, nil
	}
	what := strings.Join(changes, "; ")
	if what == "" {
		what = "it is as it was wired"
	}
	a.log.Info("the pod's network has changed, the guest is told", "link", s.name, "change", what)
	s.tell(l)
	return true, nil
}

// reread has the guest told what the state says now, and of what the pod's network has
// become since that was written.
func (a *Agent) reread(s *service) error {
	now, snapshotErr := a.kernel.Network(s.ctx)
	s.telling.Lock()
	defer s.telling.Unlock()
	r, err := a.dir.Load(s.name)
	if err == nil {
		r, err = a.complete(r)
	}
	if err != nil {
		return err
	}
	l := r.Lease
	if snapshotErr == nil {
		if l, _, err = a.followed(r, now); err != nil {
			a.log.Warn("what the pod's network has become is not told to the guest", "link", s.name, "err", err)
		}
	}
	if s.tell(l) {
		a.log.Info("the lease was read again, and is another", "link", s.name)
	}
	return nil
}

// tell changes what the guest is told from now on. Where it is told that already, its
// links alone may be others; tell reports whether it is news.
func (s *service) tell(l lease.Lease) bool {
	if equalJSON(l, s.told) {
		s.server.HearAnew()
		return false
	}
	s.told = l
	s.server.SetLease(l)
	s.dns.tell(l)
	return true
}
