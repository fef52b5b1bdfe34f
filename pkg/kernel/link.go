//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// Attributes of links that x/sys/unix has no names for, from linux/if_link.h.
const (
	brportLearning   = 8 // IFLA_BRPORT_LEARNING
	inet6AddrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE
	skipStatistics   = 8 // RTEXT_FILTER_SKIP_STATS: they are most of an answer
)

// addrGenNone is the mode in which a link makes itself no IPv6 address.
const addrGenNone = "none"

// addrGenModes are the names that ip(8) has for IN6_ADDR_GEN_MODE_*.
var addrGenModes = []string{"eui64", addrGenNone, "stable_secret", "random"}

// linkInfo is a link with what only this package looks at.
type linkInfo struct {
	netstate.Link
	data []attribute // IFLA_INFO_DATA, whose meaning depends on the kind
	inet attribute   // IFLA_INET_CONF
}

// ifinfo is the fixed part of a message about a link. The flags in change are
// set to those in flags.
func ifinfo(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// link reads one link. Where there is none of that name the error is
// fs.ErrNotExist.
func (k *Kernel) link(ctx context.Context, name string) (linkInfo, error) {
	m := newMessage(ifinfo(0, 0, 0)).str(unix.IFLA_IFNAME, name).u32(unix.IFLA_EXT_MASK, skipStatistics)
	msg, err := k.route.get(ctx, unix.RTM_GETLINK, m)
	if errors.Is(err, unix.ENODEV) {
		return linkInfo{}, gone(name)
	}
	if err != nil {
		return linkInfo{}, fmt.Errorf("reading link %q: %w", name, err)
	}
	return parseLink(msg)
}

// findLink is link for a caller that does as well without it.
func (k *Kernel) findLink(ctx context.Context, name string) (l linkInfo, found bool, err error) {
	l, err = k.link(ctx, name)
	if errors.Is(err, errLinkGone) {
		return l, false, nil
	}
	return l, err == nil, err
}

func (k *Kernel) links(ctx context.Context) ([]netstate.Link, error) {
	m := newMessage(ifinfo(0, 0, 0)).u32(unix.IFLA_EXT_MASK, skipStatistics)
	msgs, err := k.route.dump(ctx, unix.RTM_GETLINK, m)
	if err != nil {
		return nil, fmt.Errorf("reading links: %w", err)
	}
	out := make([]netstate.Link, 0, len(msgs))
	for _, msg := range msgs {
		l, err := parseLink(msg)
		if err != nil {
			return nil, fmt.Errorf("reading links: %w", err)
		}
		out = append(out, l.Link)
	}
	return out, nil
}

func parseLink(msg []byte) (linkInfo, error) {
	fixed, attrs, err := split(msg, unix.SizeofIfInfomsg)
	if err != nil {
		return linkInfo{}, err
	}
	flags := binary.NativeEndian.Uint32(fixed[8:])
	l := linkInfo{Link: netstate.Link{
		Index:    int(int32(binary.NativeEndian.Uint32(fixed[4:]))),
		Up:       flags&unix.IFF_UP != 0,
		Loopback: flags&unix.IFF_LOOPBACK != 0,
	}}
	for _, a := range attrs {
		switch a.kind {
		case unix.IFLA_IFNAME:
			l.Name = a.text()
		case unix.IFLA_ADDRESS:
			l.MAC = a.mac()
		case unix.IFLA_MTU:
			l.MTU = int(a.u32())
		case unix.IFLA_MASTER:
			l.Master = int(a.u32())
		case unix.IFLA_TXQLEN:
			l.TxQLen = int(a.u32())
		case unix.IFLA_LINKINFO:
			l.parseInfo(attributes(a.data))
		case unix.IFLA_AF_SPEC:
			l.parseFamilies(attributes(a.data))
		}
	}
	return l, nil
}

// parseInfo reads IFLA_LINKINFO: of what kind the link is, and as what kind of
// port it serves.
func (l *linkInfo) parseInfo(attrs []attribute) {
	portOf := ""
	for _, a := range attrs {
		switch a.kind {
		case unix.IFLA_INFO_KIND:
			l.Kind = a.text()
		case unix.IFLA_INFO_DATA:
			l.data = attributes(a.data)
		case unix.IFLA_INFO_SLAVE_KIND:
			portOf = a.text()
		case unix.IFLA_INFO_SLAVE_DATA:
			if portOf != kindBridge {
				continue
			}
			for _, port := range attributes(a.data) {
				if port.kind == brportLearning {
					l.NoLearning = port.u8() == 0
				}
			}
		}
	}
}

// parseFamilies reads IFLA_AF_SPEC: the options of the families that the link has.
func (l *linkInfo) parseFamilies(families []attribute) {
	for _, family := range families {
		for _, a := range attributes(family.data) {
			switch {
			case family.kind == unix.AF_INET && a.kind == unix.IFLA_INET_CONF:
				l.inet = a
				l.Forwarding = a.option(inetOptions[plan.OptionForwarding]-1) != 0
				l.RouteLocalnet = a.option(inetOptions[plan.OptionLocalnet]-1) != 0
			case family.kind == unix.AF_INET6 && a.kind == unix.IFLA_INET6_CONF:
				l.AcceptRA = a.option(inet6AcceptRA)
			case family.kind == unix.AF_INET6 && a.kind == inet6AddrGenMode && int(a.u8()) < len(addrGenModes):
				l.AddrGenMode = addrGenModes[a.u8()]
			}
		}
	}
}

// setLink changes attributes of a link.
func (k *Kernel) setLink(ctx context.Context, index int, fill func(*message)) error {
	m := newMessage(ifinfo(index, 0, 0))
	fill(m)
	return k.route.change(ctx, unix.RTM_SETLINK, 0, m)
}

// setUp brings a link up or down.
func (k *Kernel) setUp(ctx context.Context, index int, up bool) error {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	return k.route.change(ctx, unix.RTM_SETLINK, 0, newMessage(ifinfo(index, flags, unix.IFF_UP)))
}

// setAddrGenMode sets how a link makes itself IPv6 addresses. Where the link has
// no IPv6 there is nothing to set.
func (k *Kernel) setAddrGenMode(ctx context.Context, index int, mode string) error {
	value := slices.Index(addrGenModes, mode)
	if value < 0 {
		return fmt.Errorf("setting IPv6 address generation: unknown mode %q", mode)
	}
	err := k.setLink(ctx, index, func(m *message) { addrGenMode(m, value) })
	if err := unless(err, unix.EAFNOSUPPORT, unix.EOPNOTSUPP); err != nil {
		return fmt.Errorf("setting IPv6 address generation to %q: %w", mode, err)
	}
	return nil
}

func addrGenMode(m *message, value int) {
	m.nest(unix.IFLA_AF_SPEC, func(m *message) {
		m.nest(unix.AF_INET6, func(m *message) { m.u8(inet6AddrGenMode, uint8(value)) })
	})
}

// deleteLink removes a link; one that is gone already is removed.
func (k *Kernel) deleteLink(ctx context.Context, index int) error {
	return unless(k.route.change(ctx, unix.RTM_DELLINK, 0, newMessage(ifinfo(index, 0, 0))), unix.ENODEV)
}

// converge gives a new or half-made link the attributes that making it does not.
// It is not up yet: address generation must be off before that.
func (k *Kernel) converge(ctx context.Context, l linkInfo, mac netstate.MAC, mtu int) error {
	generates := l.AddrGenMode != "" && l.AddrGenMode != addrGenNone
	if l.MAC == mac && l.MTU == mtu && !generates {
		return nil
	}
	err := k.setLink(ctx, l.Index, func(m *message) {
		if l.MAC != mac {
			m.attr(unix.IFLA_ADDRESS, mac[:])
		}
		if l.MTU != mtu {
			m.u32(unix.IFLA_MTU, uint32(mtu))
		}
		if generates {
			addrGenMode(m, slices.Index(addrGenModes, addrGenNone))
		}
	})
	// An MTU below that of IPv6 (RFC 8200 §5) takes IPv6 from the link, before the
	// kernel gets to the mode of its addresses.
	if err := unless(err, unix.EAFNOSUPPORT); err != nil {
		return fmt.Errorf("setting MAC %s and MTU %d: %w", mac, mtu, err)
	}
	return nil
}
