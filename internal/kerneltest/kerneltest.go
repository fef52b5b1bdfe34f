// Package kerneltest is a kernel for tests: a network namespace in memory that
// does and undoes plan steps, refuses what Linux refuses, forgets what Linux
// forgets, and can be told to fail at any single operation.
//
// It is no model of netlink: it knows the operations that steps are made of.
// What the real kernel does with them is tested in package kernel.
package kerneltest

import (
	"context"
	"fmt"
	"slices"
	"syscall"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Kernel is a network namespace in memory.
type Kernel struct {
	State netstate.Snapshot

	// FailAt makes the FailAt-th operation, counted from 1, fail with Err; 0 for
	// none. Operations are smaller than steps, so a step can fail half-way.
	FailAt int
	// FailOn makes all those after it fail as well.
	FailOn bool
	Err    error
	// Ops counts the operations that were tried.
	Ops int
}

// New returns a kernel that holds a copy of a snapshot.
func New(s netstate.Snapshot) *Kernel {
	s.Links = slices.Clone(s.Links)
	s.Addrs = slices.Clone(s.Addrs)
	s.Routes = slices.Clone(s.Routes)
	s.Neighbors = slices.Clone(s.Neighbors)
	s.Qdiscs = slices.Clone(s.Qdiscs)
	s.Filters = slices.Clone(s.Filters)
	s.Tables = slices.Clone(s.Tables)
	return &Kernel{State: s, Err: syscall.ENOBUFS}
}

// op counts an operation, and fails it when its turn has come.
func (k *Kernel) op(format string, args ...any) error {
	k.Ops++
	if k.Ops == k.FailAt || k.FailOn && k.FailAt > 0 && k.Ops > k.FailAt {
		return fmt.Errorf(format+": %w", append(args, k.Err)...)
	}
	return nil
}

func (k *Kernel) link(name string) *netstate.Link {
	for i := range k.State.Links {
		if k.State.Links[i].Name == name {
			return &k.State.Links[i]
		}
	}
	return nil
}

// Do implements apply.Kernel.
func (k *Kernel) Do(_ context.Context, step plan.Step) error {
	switch s := step.(type) {
	case plan.CreateTap:
		if err := k.addLink(netstate.Link{Name: s.Name, Kind: "tun", MAC: s.MAC, MTU: s.MTU, AddrGenMode: "none"}); err != nil || !s.Up {
			return err
		}
		return k.setUp(s.Name, true)
	case plan.CreateBridge:
		if err := k.addLink(netstate.Link{Name: s.Name, Kind: "bridge", MAC: s.MAC, MTU: s.MTU, AddrGenMode: "none"}); err != nil {
			return err
		}
		return k.setUp(s.Name, true)
	case plan.AddFilter:
		return k.addFilter(s.Link, netstate.Filter{Name: s.Name})
	case plan.Redirect:
		return k.redirect(s)
	case plan.AddAddresses:
		return k.addAddresses(s)
	case plan.SetOption:
		return k.setOption(s, s.Value)
	case plan.Translate:
		return k.translate(s)
	case plan.TakeAddresses:
		return k.takeAddresses(s)
	case plan.SetMAC:
		return k.setMAC(s.Link, s.MAC)
	case plan.AttachPort:
		if err := k.setMaster(s.Link, s.Bridge); err != nil {
			return err
		}
		return k.setUp(s.Link, true)
	}
	return fmt.Errorf("unknown step %T", step)
}

// Undo implements apply.Kernel.
func (k *Kernel) Undo(_ context.Context, step plan.Step) error {
	switch s := step.(type) {
	case plan.CreateTap:
		return k.delLink(s.Name)
	case plan.CreateBridge:
		return k.delLink(s.Name)
	case plan.AddFilter:
		return k.delFilter(s.Link, s.Name, s.KeepHook)
	case plan.Redirect:
		return k.delFilter(s.Link, s.Name, s.KeepHook)
	case plan.AddAddresses:
		return k.removeAddresses(s)
	case plan.SetOption:
		return k.setOption(s, s.Was)
	case plan.Translate:
		return k.untranslate(s)
	case plan.TakeAddresses:
		return k.giveAddresses(s)
	case plan.SetMAC:
		return k.setMAC(s.Link, s.Was)
	case plan.AttachPort:
		if k.link(s.Link) == nil {
			return nil
		}
		if err := k.setMaster(s.Link, ""); err != nil {
			return err
		}
		if !s.WasUp {
			return k.setUp(s.Link, false)
		}
		return nil
	}
	return fmt.Errorf("unknown step %T", step)
}

func (k *Kernel) addLink(l netstate.Link) error {
	if have := k.link(l.Name); have != nil {
		if have.Kind != l.Kind {
			return fmt.Errorf("creating %q: %w", l.Name, syscall.EEXIST)
		}
		return nil
	}
	if err := k.op("creating %q", l.Name); err != nil {
		return err
	}
	for _, other := range k.State.Links {
		l.Index = max(l.Index, other.Index+1)
	}
	k.State.Links = append(k.State.Links, l)
	return nil
}

func (k *Kernel) delLink(name string) error {
	l := k.link(name)
	if l == nil {
		return nil
	}
	if err := k.op("deleting %q", name); err != nil {
		return err
	}
	index := l.Index
	s := &k.State
	s.Links = slices.DeleteFunc(s.Links, func(l netstate.Link) bool { return l.Index == index })
	s.Addrs = slices.DeleteFunc(s.Addrs, func(a netstate.Addr) bool { return a.Link == index })
	s.Routes = slices.DeleteFunc(s.Routes, func(r netstate.Route) bool { return r.Uses(index) })
	s.Qdiscs = slices.DeleteFunc(s.Qdiscs, func(q netstate.Qdisc) bool { return q.Link == index })
	s.Filters = slices.DeleteFunc(s.Filters, func(f netstate.Filter) bool { return f.Link == index })
	for i := range s.Links {
		if s.Links[i].Master == index {
			s.Links[i].Master, s.Links[i].NoLearning = 0, false
		}
	}
	return nil
}

func (k *Kernel) setUp(name string, up bool) error {
	l := k.link(name)
	if l == nil {
		return fmt.Errorf("setting %q up: %w", name, syscall.ENODEV)
	}
	if l.Up == up {
		return nil
	}
	if err := k.op("setting %q up", name); err != nil {
		return err
	}
	l.Up = up
	return nil
}

// setMAC also forgets the link's neighbours, permanent ones too, as
// NETDEV_CHANGEADDR makes the kernel do.
func (k *Kernel) setMAC(name string, mac netstate.MAC) error {
	l := k.link(name)
	if l == nil {
		return fmt.Errorf("setting the MAC of %q: %w", name, syscall.ENODEV)
	}
	if l.MAC == mac {
		return nil
	}
	if err := k.op("setting the MAC of %q", name); err != nil {
		return err
	}
	l.MAC = mac
	k.State.Neighbors = slices.DeleteFunc(k.State.Neighbors, func(n netstate.Neighbor) bool { return n.Link == l.Index })
	return nil
}

func (k *Kernel) setMaster(name, bridge string) error {
	l, master := k.link(name), 0
	if bridge != "" {
		b := k.link(bridge)
		if b == nil || b.Kind != "bridge" {
			return fmt.Errorf("attaching %q to %q: %w", name, bridge, syscall.ENODEV)
		}
		master = b.Index
	}
	if l == nil {
		return fmt.Errorf("attaching %q: %w", name, syscall.ENODEV)
	}
	if l.Master == master {
		return nil
	}
	if l.Master != 0 && master != 0 {
		return fmt.Errorf("attaching %q: %w", name, syscall.EBUSY)
	}
	if err := k.op("attaching %q", name); err != nil {
		return err
	}
	l.Master, l.NoLearning = master, master != 0
	return nil
}

// addFilter also takes the place of one of that name that says something else.
func (k *Kernel) addFilter(link string, f netstate.Filter) error {
	l := k.link(link)
	if l == nil {
		return fmt.Errorf("adding filter %q: %w", f.Name, syscall.ENODEV)
	}
	f.Link = l.Index
	if slices.Contains(k.State.Filters, f) {
		return nil
	}
	if !slices.ContainsFunc(k.State.Qdiscs, func(q netstate.Qdisc) bool { return q.Link == l.Index && q.Kind == "clsact" }) {
		if err := k.op("adding clsact to %q", link); err != nil {
			return err
		}
		k.State.Qdiscs = append(k.State.Qdiscs, netstate.Qdisc{Link: l.Index, Kind: "clsact"})
	}
	if err := k.op("adding filter %q", f.Name); err != nil {
		return err
	}
	k.State.Filters = append(k.others(l.Index, f.Name), f)
	return nil
}

// others are the filters but for one.
func (k *Kernel) others(link int, name string) []netstate.Filter {
	return slices.DeleteFunc(k.State.Filters, func(f netstate.Filter) bool { return f.Link == link && f.Name == name })
}

// delFilter removes a filter, and the hook with the last one.
func (k *Kernel) delFilter(link, name string, keepHook bool) error {
	l := k.link(link)
	if l == nil {
		return nil
	}
	if err := k.op("removing filter %q", name); err != nil {
		return err
	}
	k.State.Filters = k.others(l.Index, name)
	if keepHook || slices.ContainsFunc(k.State.Filters, func(f netstate.Filter) bool { return f.Link == l.Index }) {
		return nil
	}
	k.State.Qdiscs = slices.DeleteFunc(k.State.Qdiscs, func(q netstate.Qdisc) bool {
		return q.Link == l.Index && q.Kind == "clsact"
	})
	return nil
}
