package kerneltest

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"syscall"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

func (k *Kernel) redirect(s plan.Redirect) error {
	to := k.link(s.To)
	if to == nil {
		return fmt.Errorf("redirecting %q to %q: %w", s.Link, s.To, syscall.ENODEV)
	}
	return k.addFilter(s.Link, netstate.Filter{Name: s.Name, To: to.Index})
}

func (k *Kernel) addAddresses(s plan.AddAddresses) error {
	l := k.link(s.Link)
	if l == nil {
		return fmt.Errorf("adding addresses to %q: %w", s.Link, syscall.ENODEV)
	}
	for _, p := range s.Addrs {
		if k.holds(l.Index, p) {
			continue
		}
		if err := k.op("adding %s to %q", p, s.Link); err != nil {
			return err
		}
		a := netstate.Addr{Link: l.Index, Prefix: p, ValidLft: netstate.Forever, PreferredLft: netstate.Forever}
		k.State.Addrs = append(k.State.Addrs, a)
	}
	return nil
}

func (k *Kernel) holds(link int, p netip.Prefix) bool {
	return slices.ContainsFunc(k.State.Addrs, func(a netstate.Addr) bool { return a.Link == link && a.Prefix == p })
}

func (k *Kernel) removeAddresses(s plan.AddAddresses) error {
	l := k.link(s.Link)
	if l == nil {
		return nil
	}
	for _, p := range s.Addrs {
		if !k.holds(l.Index, p) {
			continue
		}
		if err := k.op("removing %s from %q", p, s.Link); err != nil {
			return err
		}
		k.State.Addrs = slices.DeleteFunc(k.State.Addrs, func(a netstate.Addr) bool { return a.Link == l.Index && a.Prefix == p })
	}
	return nil
}

// setOption is no failure where the link is gone: its options went with it.
func (k *Kernel) setOption(s plan.SetOption, value int) error {
	l := k.link(s.Link)
	switch {
	case l == nil && s.Link != plan.AllLinks && value == s.Was:
		return nil
	case l == nil && s.Link != plan.AllLinks:
		return fmt.Errorf("setting %s of %q: %w", s.Option, s.Link, syscall.ENODEV)
	case s.Link == plan.AllLinks:
		return setIf(k, s, &k.State.Forwarding6, value != 0)
	case s.Option == "forwarding":
		return setIf(k, s, &l.Forwarding, value != 0)
	case s.Option == "route_localnet":
		return setIf(k, s, &l.RouteLocalnet, value != 0)
	case s.Option == "accept_ra":
		return setIf(k, s, &l.AcceptRA, value)
	default:
		return fmt.Errorf("setting %s of %q: %w", s.Option, s.Link, syscall.EINVAL)
	}
}

func setIf[T comparable](k *Kernel, s plan.SetOption, option *T, value T) error {
	if *option == value {
		return nil
	}
	if err := k.op("setting %s of %q", s.Option, s.Link); err != nil {
		return err
	}
	*option = value
	return nil
}

// translate puts the table in place at once: as one batch, it is all or nothing.
func (k *Kernel) translate(s plan.Translate) error {
	t := netstate.Table{Name: s.Table}
	for _, c := range s.Chains {
		t.Chains = append(t.Chains, netstate.Chain{Name: c.Name, Rules: c.Texts()})
	}
	if slices.ContainsFunc(k.State.Tables, func(have netstate.Table) bool { return reflect.DeepEqual(have, t) }) {
		return nil
	}
	if err := k.op("adding table %q", s.Table); err != nil {
		return err
	}
	k.State.Tables = append(k.tablesBut(s.Table), t)
	return nil
}

func (k *Kernel) untranslate(s plan.Translate) error {
	if err := k.op("removing table %q", s.Table); err != nil {
		return err
	}
	k.State.Tables = k.tablesBut(s.Table)
	return nil
}

func (k *Kernel) tablesBut(name string) []netstate.Table {
	return slices.DeleteFunc(k.State.Tables, func(t netstate.Table) bool { return t.Name == name })
}
