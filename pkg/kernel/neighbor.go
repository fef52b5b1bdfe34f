//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// neighbors reads the neighbours that somebody set by hand. What the kernel
// found out by itself it finds out again.
func (k *Kernel) neighbors(ctx context.Context) ([]netstate.Neighbor, error) {
	all, err := k.allNeighbors(ctx)
	return slices.DeleteFunc(all, func(n netstate.Neighbor) bool { return !n.Permanent() }), err
}

// allNeighbors reads all neighbours of both families, whoever made them.
func (k *Kernel) allNeighbors(ctx context.Context) ([]netstate.Neighbor, error) {
	msgs, err := k.route.dump(ctx, unix.RTM_GETNEIGH, newMessage(make([]byte, unix.SizeofNdMsg)))
	if err != nil {
		return nil, fmt.Errorf("reading neighbours: %w", err)
	}
	return parseAll("neighbours", msgs, parseNeighbor)
}

func parseNeighbor(msg []byte) (_ netstate.Neighbor, ok bool, err error) {
	fixed, attrs, err := split(msg, unix.SizeofNdMsg)
	if err != nil || !isIP(fixed[0]) {
		return netstate.Neighbor{}, false, err
	}
	n := netstate.Neighbor{
		Link:  int(int32(binary.NativeEndian.Uint32(fixed[4:]))),
		State: binary.NativeEndian.Uint16(fixed[8:]),
		Flags: fixed[10],
	}
	for _, a := range attrs {
		switch a.kind {
		case unix.NDA_DST:
			n.Addr = a.addr()
		case unix.NDA_LLADDR:
			n.MAC = a.mac()
		}
	}
	return n, true, nil
}

func neighborMessage(n netstate.Neighbor) *message {
	fixed := make([]byte, unix.SizeofNdMsg)
	fixed[0] = familyOf(n.Addr)
	binary.NativeEndian.PutUint32(fixed[4:], uint32(n.Link))
	binary.NativeEndian.PutUint16(fixed[8:], n.State)
	fixed[10] = n.Flags
	m := newMessage(fixed).addr(unix.NDA_DST, n.Addr)
	if !n.MAC.IsZero() {
		m.attr(unix.NDA_LLADDR, n.MAC[:])
	}
	return m
}

// putNeighbor sets a neighbour, whatever is known of it.
func (k *Kernel) putNeighbor(ctx context.Context, n netstate.Neighbor) error {
	err := k.route.change(ctx, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, neighborMessage(n))
	if err != nil {
		return fmt.Errorf("adding neighbour %s: %w", n.Addr, err)
	}
	return nil
}

// deleteNeighbor deletes a neighbour; one that is gone is deleted.
func (k *Kernel) deleteNeighbor(ctx context.Context, n netstate.Neighbor) error {
	err := k.route.change(ctx, unix.RTM_DELNEIGH, 0, neighborMessage(n))
	if err := unless(err, unix.ENOENT); err != nil {
		return fmt.Errorf("deleting neighbour %s: %w", n.Addr, err)
	}
	return nil
}
