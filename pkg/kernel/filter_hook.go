//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
)

// From linux/pkt_sched.h and linux/pkt_cls.h.
const (
	ingressQdisc = 0xFFFFFFF1 // TC_H_INGRESS, also TC_H_CLSACT
	ingressMajor = 0xFFFF0000
	ingressHook  = 0xFFFFFFF2 // TC_H_MIN_INGRESS of clsact; of the plain ingress qdisc too
	egressHook   = 0xFFFFFFF3 // TC_H_MIN_EGRESS

	kindClsact = "clsact"
	kindBPF    = "bpf"
	kindU32    = "u32"

	sizeofTcMsg = 20
)

// The places of podwire's filters among those of a hook. tc itself gives out 49152
// and below, people 1, 2, 10 or 100: these are early and nobody's. Filters share a
// priority only if they are of one kind.
const (
	filterPriority   = 67
	redirectPriority = 68 // what a filter drops is not redirected
)

// nameMark begins the name in a filter's program, and among its keys.
const nameMark = 0x70777265 // "pwre"

// tcFilter is a filter that was found on a hook.
type tcFilter struct {
	name     string // empty for those of others
	kind     string
	priority uint32
	handle   uint32
	ops      []byte // of bpf
	action   mirred // zero where it has none
}

// is reports whether the filter is podwire's own of that name, at its place.
func (f tcFilter) is(priority uint32, name string) bool {
	return f.name == name && name != "" && f.priority == priority
}

func tcMessage(link int, handle, parent, info uint32) *message {
	fixed := make([]byte, sizeofTcMsg)
	binary.NativeEndian.PutUint32(fixed[4:], uint32(link))
	binary.NativeEndian.PutUint32(fixed[8:], handle)
	binary.NativeEndian.PutUint32(fixed[12:], parent)
	binary.NativeEndian.PutUint32(fixed[16:], info)
	return newMessage(fixed)
}

// tcInfo is a filter's priority, and that it is for all protocols.
func tcInfo(priority uint32) uint32 {
	return priority<<16 | uint32(bigEndian16(unix.ETH_P_ALL))
}

// qdiscs reads the queueing disciplines of all links. A kernel without traffic
// control has none.
func (k *Kernel) qdiscs(ctx context.Context) ([]netstate.Qdisc, error) {
	msgs, err := k.route.dump(ctx, unix.RTM_GETQDISC, tcMessage(0, 0, 0, 0))
	if err := unless(err, unix.EOPNOTSUPP); err != nil {
		return nil, fmt.Errorf("reading queueing disciplines: %w", err)
	}
	var out []netstate.Qdisc
	for _, msg := range msgs {
		fixed, attrs, err := split(msg, sizeofTcMsg)
		if err != nil {
			return nil, fmt.Errorf("reading queueing disciplines: %w", err)
		}
		q := netstate.Qdisc{
			Link:   int(binary.NativeEndian.Uint32(fixed[4:])),
			Handle: binary.NativeEndian.Uint32(fixed[8:]),
			Parent: binary.NativeEndian.Uint32(fixed[12:]),
		}
		for _, a := range attrs {
			if a.kind == unix.TCA_KIND {
				q.Kind = a.text()
			}
		}
		out = append(out, q)
	}
	return out, nil
}

// tcFilters lists the filters of a hook, in the order in which they are asked. A
// link without the hook has none.
func (k *Kernel) tcFilters(ctx context.Context, link int, hook uint32) ([]tcFilter, error) {
	msgs, err := k.route.dump(ctx, unix.RTM_GETTFILTER, tcMessage(link, 0, hook, 0))
	if err := unless(err, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOENT); err != nil {
		return nil, fmt.Errorf("reading filters: %w", err)
	}
	var out []tcFilter
	for _, msg := range msgs {
		fixed, attrs, err := split(msg, sizeofTcMsg)
		if err != nil {
			return nil, fmt.Errorf("reading filters: %w", err)
		}
		f, introduces := parseTCFilter(fixed, attrs)
		if !introduces {
			out = append(out, f)
		}
	}
	return out, nil
}

// parseTCFilter reads one filter. What only introduces a priority, or a table of
// u32's in which filters are, is none.
func parseTCFilter(fixed []byte, attrs []attribute) (f tcFilter, introduces bool) {
	f.handle = binary.NativeEndian.Uint32(fixed[8:])
	f.priority = binary.NativeEndian.Uint32(fixed[16:]) >> 16
	var options []attribute
	for _, a := range attrs {
		switch a.kind {
		case unix.TCA_KIND:
			f.kind = a.text()
		case unix.TCA_OPTIONS:
			options = attributes(a.data)
		}
	}
	name := ""
	switch f.kind {
	case kindBPF:
		name = f.parseBPF(options)
	case kindU32:
		name = f.parseU32(options)
		introduces = f.handle&u32Node == 0
	}
	if f.priority == filterPriority && f.kind == kindBPF || f.priority == redirectPriority && f.action.to >= 0 {
		f.name = name
	}
	return f, introduces || f.handle == 0
}

// addHook makes the link's clsact qdisc. One that is there serves as well, and for
// what the link receives an ingress qdisc in its place, too.
func (k *Kernel) addHook(ctx context.Context, link int, hook uint32) (made bool, err error) {
	m := tcMessage(link, ingressMajor, ingressQdisc, 0).str(unix.TCA_KIND, kindClsact)
	err = k.route.change(ctx, unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
	if !isErrno(err, unix.EEXIST) {
		return err == nil, noTC(err)
	}
	if hook == ingressHook {
		return false, nil
	}
	// An ingress qdisc takes a filter for the other hook, and asks it on its own.
	has, err := k.qdiscs(ctx)
	for _, q := range has {
		if q.Link == link && q.Parent == ingressQdisc && q.Kind != kindClsact {
			return false, fmt.Errorf("the link's hook is %w: its qdisc %q has none for what the link sends", ErrConflict, q.Kind)
		}
	}
	return false, err
}

// deleteHook removes the link's clsact qdisc, if it is one.
func (k *Kernel) deleteHook(ctx context.Context, link int) error {
	m := tcMessage(link, ingressMajor, ingressQdisc, 0).str(unix.TCA_KIND, kindClsact)
	return unless(k.route.change(ctx, unix.RTM_DELQDISC, 0, m), unix.ENOENT, unix.EINVAL)
}

// putFilter makes or replaces a filter on a hook, which it makes where there is
// none. errNoTC is for a kernel that cannot.
func (k *Kernel) putFilter(ctx context.Context, link int, hook uint32, m *message) error {
	madeHook, err := k.addHook(ctx, link, hook)
	if err != nil {
		return err
	}
	err = noTC(k.route.change(ctx, unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m))
	if err != nil && madeHook {
		err = errors.Join(err, k.deleteHook(ctx, link))
	}
	return err
}

// removeFilter removes podwire's filter of that name and place, and the hook where
// that is podwire's and nobody else uses it.
func (k *Kernel) removeFilter(ctx context.Context, link int, hook, priority uint32, name string, keepHook bool) (removed bool, err error) {
	have, err := k.tcFilters(ctx, link, hook)
	if err != nil {
		return false, err
	}
	others, sharing := 0, 0
	handle, kind := uint32(0), ""
	for _, f := range have {
		switch {
		case f.is(priority, name):
			removed, handle, kind = true, f.handle, f.kind
			continue
		case f.priority == priority:
			sharing++
		}
		others++
	}
	if removed {
		if sharing == 0 {
			handle = 0 // the place as a whole: of one of u32's filters its table would stay
		}
		m := tcMessage(link, handle, hook, tcInfo(priority)).str(unix.TCA_KIND, kind)
		if err := unless(k.route.change(ctx, unix.RTM_DELTFILTER, 0, m), unix.ENOENT); err != nil {
			return false, err
		}
	}
	if keepHook || others > 0 {
		return removed, nil
	}
	other := uint32(egressHook)
	if hook == egressHook {
		other = ingressHook
	}
	have, err = k.tcFilters(ctx, link, other)
	if err != nil || len(have) > 0 {
		return removed, err
	}
	return removed, k.deleteHook(ctx, link)
}

// keepQueue gives a link the length of its queue back, which the kernel may have
// changed along with the hook. nil is any.
func (k *Kernel) keepQueue(ctx context.Context, link string, length *int) error {
	if length == nil {
		return nil
	}
	l, err := k.link(ctx, link)
	if err != nil || l.TxQLen == *length {
		return err
	}
	return k.setLink(ctx, l.Index, func(m *message) { m.u32(unix.IFLA_TXQLEN, uint32(*length)) })
}

// errNoTC says that this kernel lacks clsact, or the kind of filter or action that
// was asked for.
var errNoTC = errors.New("traffic control of this kernel cannot do it")

// noTC marks what a kernel answers that lacks clsact or a kind of filter (ENOENT),
// traffic control as a whole (EOPNOTSUPP), or a part of it that the request speaks
// of (EINVAL).
func noTC(err error) error {
	if isErrno(err, unix.ENOENT, unix.EOPNOTSUPP, unix.EINVAL) {
		return fmt.Errorf("%w: %w", errNoTC, err)
	}
	return err
}
