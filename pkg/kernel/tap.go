//go:build linux

package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

const kindTun = "tun"

// Attributes of taps, from linux/if_link.h. Owner and group are left out by the
// kernel where anybody may open the tap.
const (
	tunOwner      = 1 // IFLA_TUN_OWNER
	tunGroup      = 2 // IFLA_TUN_GROUP
	tunType       = 3 // IFLA_TUN_TYPE
	tunPI         = 4 // IFLA_TUN_PI
	tunVnetHdr    = 5 // IFLA_TUN_VNET_HDR
	tunPersist    = 6 // IFLA_TUN_PERSIST
	tunMultiQueue = 7 // IFLA_TUN_MULTI_QUEUE
)

// anyone is an owner or group that is not set.
const anyone = -1

// tapMode is what a tap is made with and cannot be changed later.
type tapMode struct {
	tap, pi, vnetHdr, persist, multiQueue bool
	owner, group                          int
}

// wantedMode is the mode of a step's tap. A tap without owner and group could be
// opened by everybody, so root's are given to root by name.
func wantedMode(s plan.CreateTap) tapMode {
	mode := tapMode{tap: true, vnetHdr: true, persist: true, multiQueue: s.Queues > 1, owner: 0, group: anyone}
	if s.Owner != nil {
		mode.owner, mode.group = s.Owner.UID, s.Owner.GID
	}
	return mode
}

func modeOf(l linkInfo) tapMode {
	mode := tapMode{owner: anyone, group: anyone}
	for _, a := range l.data {
		switch a.kind {
		case tunOwner:
			mode.owner = int(a.u32())
		case tunGroup:
			mode.group = int(a.u32())
		case tunType:
			mode.tap = a.u8() == unix.IFF_TAP
		case tunPI:
			mode.pi = a.u8() != 0
		case tunVnetHdr:
			mode.vnetHdr = a.u8() != 0
		case tunPersist:
			mode.persist = a.u8() != 0
		case tunMultiQueue:
			mode.multiQueue = a.u8() != 0
		}
	}
	return mode
}

func (k *Kernel) createTap(ctx context.Context, s plan.CreateTap) error {
	if err := k.makeTap(ctx, s); err != nil {
		return fmt.Errorf("creating tap %q: %w", s.Name, err)
	}
	return nil
}

func (k *Kernel) makeTap(ctx context.Context, s plan.CreateTap) error {
	// To ask the device for a tap that a hypervisor holds open is EBUSY, so the
	// first look is by netlink.
	l, found, err := k.findLink(ctx, s.Name)
	if err != nil {
		return err
	}
	if !found {
		if err := k.netns.do(func() error { return newTap(s) }); err != nil {
			return err
		}
		if l, err = k.link(ctx, s.Name); err != nil {
			return err
		}
	}
	if l.Kind != kindTun {
		return conflict(l)
	}
	if has, want := modeOf(l), wantedMode(s); has != want {
		return fmt.Errorf("the name is %w: a tap with %+v instead of %+v", ErrConflict, has, want)
	}
	if err := k.converge(ctx, l, s.MAC, s.MTU); err != nil || !s.Up || l.Up {
		return err
	}
	return k.setUp(ctx, l.Index, true)
}

// newTap makes the tap, which until it is persistent goes away with the file.
func newTap(s plan.CreateTap) error {
	req, err := unix.NewIfreq(s.Name)
	if err != nil {
		return err
	}
	f, err := openTun()
	if err != nil {
		return err
	}
	defer f.Close()
	fd, mode := int(f.Fd()), wantedMode(s)
	// IFF_VNET_HDR lets the hypervisor have checksums and segmentation offloaded.
	// IFF_TUN_EXCL: a tap that another made a moment ago is not taken over.
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if mode.multiQueue {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	set := func(what uint, value int) error {
		return uninterrupted(func() error { return unix.IoctlSetInt(fd, what, value) })
	}
	if err := uninterrupted(func() error { return unix.IoctlIfreq(fd, unix.TUNSETIFF, req) }); err != nil {
		return err
	}
	if err := set(unix.TUNSETOWNER, mode.owner); err != nil {
		return fmt.Errorf("giving it to user %d: %w", mode.owner, err)
	}
	if mode.group != anyone {
		if err := set(unix.TUNSETGROUP, mode.group); err != nil {
			return fmt.Errorf("giving it to group %d: %w", mode.group, err)
		}
	}
	if err := set(unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("making it persistent: %w", err)
	}
	return nil
}

// deleteTap removes the tap, but not another's of the same name.
func (k *Kernel) deleteTap(ctx context.Context, s plan.CreateTap) error {
	l, found, err := k.findLink(ctx, s.Name)
	if err == nil && found && l.Kind == kindTun && modeOf(l) == wantedMode(s) {
		err = k.deleteLink(ctx, l.Index)
	}
	if err != nil {
		return fmt.Errorf("deleting tap %q: %w", s.Name, err)
	}
	return nil
}
