//go:build linux

package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

const kindBridge = "bridge"

// Attributes of bridges, from linux/if_link.h.
const (
	brForwardDelay  = 1  // IFLA_BR_FORWARD_DELAY
	brSTPState      = 5  // IFLA_BR_STP_STATE
	brMcastSnooping = 23 // IFLA_BR_MCAST_SNOOPING
)

// bridgeOptions are what makes a bridge forward at once and everything.
func bridgeOptions(m *message) {
	m.str(unix.IFLA_INFO_KIND, kindBridge)
	m.nest(unix.IFLA_INFO_DATA, func(m *message) {
		m.u32(brSTPState, 0)
		m.u32(brForwardDelay, 0)
		m.u8(brMcastSnooping, 0)
	})
}

func noSpanningTree(m *message) {
	m.str(unix.IFLA_INFO_KIND, kindBridge)
	m.nest(unix.IFLA_INFO_DATA, func(m *message) { m.u32(brSTPState, 0) })
}

// plainBridge reports whether the options are those of bridgeOptions.
func plainBridge(l linkInfo) bool {
	for _, a := range l.data {
		switch a.kind {
		case brSTPState, brForwardDelay:
			if a.u32() != 0 {
				return false
			}
		case brMcastSnooping:
			if a.u8() != 0 {
				return false
			}
		}
	}
	return true
}

func (k *Kernel) createBridge(ctx context.Context, s plan.CreateBridge) error {
	if err := k.makeBridge(ctx, s); err != nil {
		return fmt.Errorf("creating bridge %q: %w", s.Name, err)
	}
	return nil
}

func (k *Kernel) makeBridge(ctx context.Context, s plan.CreateBridge) error {
	l, found, err := k.findLink(ctx, s.Name)
	if err != nil {
		return err
	}
	if !found {
		m := newMessage(ifinfo(0, 0, 0)).
			str(unix.IFLA_IFNAME, s.Name).
			attr(unix.IFLA_ADDRESS, s.MAC[:]).
			nest(unix.IFLA_LINKINFO, bridgeOptions)
		err := k.route.change(ctx, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
		if err != nil {
			return err
		}
		if l, err = k.link(ctx, s.Name); err != nil {
			return err
		}
	}
	if l.Kind != kindBridge {
		return conflict(l)
	}
	if !plainBridge(l) {
		// Only with spanning tree off does the kernel take a delay of 0, and of one
		// request it reads the delay first.
		for _, options := range []func(*message){noSpanningTree, bridgeOptions} {
			m := newMessage(ifinfo(l.Index, 0, 0)).nest(unix.IFLA_LINKINFO, options)
			if err := k.route.change(ctx, unix.RTM_NEWLINK, 0, m); err != nil {
				return err
			}
		}
	}
	if err := k.converge(ctx, l, s.MAC, s.MTU); err != nil {
		return err
	}
	if l.Up {
		return nil
	}
	return k.setUp(ctx, l.Index, true)
}

// conflict says what is in the way of a link that is to be made.
func conflict(l linkInfo) error {
	kind := l.Kind
	if kind == "" {
		kind = "device"
	}
	return fmt.Errorf("the name is %w: a link of kind %q", ErrConflict, kind)
}

func (k *Kernel) deleteBridge(ctx context.Context, s plan.CreateBridge) error {
	l, found, err := k.findLink(ctx, s.Name)
	if err == nil && found && l.Kind == kindBridge {
		err = k.deleteLink(ctx, l.Index)
	}
	if err != nil {
		return fmt.Errorf("deleting bridge %q: %w", s.Name, err)
	}
	return nil
}

func (k *Kernel) attachPort(ctx context.Context, s plan.AttachPort) error {
	if err := k.makePort(ctx, s); err != nil {
		return fmt.Errorf("attaching %q to bridge %q: %w", s.Link, s.Bridge, err)
	}
	return nil
}

func (k *Kernel) makePort(ctx context.Context, s plan.AttachPort) error {
	port, err := k.link(ctx, s.Link)
	if err != nil {
		return err
	}
	bridge, err := k.link(ctx, s.Bridge)
	if err != nil {
		return err
	}
	switch port.Master {
	case bridge.Index:
		if port.NoLearning && port.Up {
			return k.quieten(ctx, port)
		}
	case 0:
		err := k.setLink(ctx, port.Index, func(m *message) { m.u32(unix.IFLA_MASTER, uint32(bridge.Index)) })
		if err != nil {
			return err
		}
	default:
		return fmt.Errorf("the link is %w: a port of link %d", ErrConflict, port.Master)
	}
	// Only a port has port options; they are set before the link comes up.
	m := newMessage(ifinfo(port.Index, unix.IFF_UP, unix.IFF_UP)).
		nest(unix.IFLA_LINKINFO, func(m *message) {
			m.str(unix.IFLA_INFO_SLAVE_KIND, kindBridge)
			m.nest(unix.IFLA_INFO_SLAVE_DATA, func(m *message) { m.u8(brportLearning, 0) })
		})
	if err := k.route.change(ctx, unix.RTM_NEWLINK, 0, m); err != nil {
		return err
	}
	if !port.Up {
		return nil
	}
	return k.quieten(ctx, port)
}

// quieten takes from a port what it has made itself of the routers' advertisements
// that it heard up to now, if it is one that is to make itself nothing.
func (k *Kernel) quieten(ctx context.Context, port linkInfo) error {
	if port.AddrGenMode != addrGenNone {
		return nil
	}
	return k.stripAutoconf(ctx, port.Index)
}

// detachPort is one request, so that a link is never seen out of the bridge and
// still up that was down before.
func (k *Kernel) detachPort(ctx context.Context, s plan.AttachPort) error {
	if err := k.unmakePort(ctx, s); err != nil {
		return fmt.Errorf("detaching %q from bridge %q: %w", s.Link, s.Bridge, err)
	}
	return nil
}

func (k *Kernel) unmakePort(ctx context.Context, s plan.AttachPort) error {
	port, found, err := k.findLink(ctx, s.Link)
	if err != nil || !found || port.Master == 0 {
		return err
	}
	bridge, found, err := k.findLink(ctx, s.Bridge)
	if err != nil || !found || port.Master != bridge.Index {
		return err
	}
	var change uint32
	if !s.WasUp {
		change = unix.IFF_UP
	}
	m := newMessage(ifinfo(port.Index, 0, change)).u32(unix.IFLA_MASTER, 0)
	return k.route.change(ctx, unix.RTM_SETLINK, 0, m)
}
