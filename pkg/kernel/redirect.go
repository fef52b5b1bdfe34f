//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// From linux/pkt_cls.h and linux/tc_act/tc_mirred.h.
const (
	u32Selector = 5 // TCA_U32_SEL
	u32Actions  = 7 // TCA_U32_ACT
	u32Terminal = 1 // TC_U32_TERMINAL: a match is one, not a way to further tables
	u32Node     = 0xFFF

	sizeofSelector = 16 // struct tc_u32_sel
	sizeofKey      = 16 // struct tc_u32_key

	actKind    = 1 // TCA_ACT_KIND
	actOptions = 2 // TCA_ACT_OPTIONS

	mirredParms  = 2 // TCA_MIRRED_PARMS
	sizeofMirred = 28

	redirectEgress  = 1 // TCA_EGRESS_REDIR
	redirectIngress = 3 // TCA_INGRESS_REDIR
	actionStolen    = 4 // TC_ACT_STOLEN: the frame is the other link's now
)

// redirectAll is a program's verdict for a frame that its filter's action gets.
// Verdicts are class numbers there, of which this is the filter's own.
const redirectAll = ^uint32(0)

// mirred is the action that hands a frame over to another link.
type mirred struct {
	verdict uint32
	way     uint32
	to      int // index of the link; 0 once that is gone, -1 for no such action
}

var noAction = mirred{to: -1}

func (a mirred) put(m *message) {
	parms := make([]byte, sizeofMirred) // struct tc_mirred
	binary.NativeEndian.PutUint32(parms[8:], a.verdict)
	binary.NativeEndian.PutUint32(parms[20:], a.way)
	binary.NativeEndian.PutUint32(parms[24:], uint32(a.to))
	m.nest(1, func(m *message) { // the first of several, of which there is one
		m.str(actKind, "mirred").nest(actOptions, func(m *message) { m.attr(mirredParms, parms) })
	})
}

// parseActions reads a filter's only action.
func parseActions(b []byte) mirred {
	list := attributes(b)
	if len(list) != 1 {
		return noAction
	}
	for _, a := range attributes(list[0].data) {
		if a.kind != actOptions {
			continue
		}
		for _, option := range attributes(a.data) {
			if option.kind == mirredParms && len(option.data) >= sizeofMirred {
				return mirred{
					verdict: binary.NativeEndian.Uint32(option.data[8:]),
					way:     binary.NativeEndian.Uint32(option.data[20:]),
					to:      int(binary.NativeEndian.Uint32(option.data[24:])),
				}
			}
		}
	}
	return noAction
}

// selectAll is a selector that every frame matches. A filter of this kind has no
// name: it is written into keys that compare nothing.
func selectAll(name string) []byte {
	values := append([]uint32{nameMark}, nameWords(name)...)
	out := make([]byte, sizeofSelector)
	out[0], out[2] = u32Terminal, byte(len(values))
	for _, v := range values {
		out = binary.BigEndian.AppendUint32(out, 0) // the mask
		out = binary.BigEndian.AppendUint32(out, v)
		// Where to load: 14 before the packet, which every frame has.
		out = binary.NativeEndian.AppendUint32(out, uint32(0x100000000-etherEnd))
		out = binary.NativeEndian.AppendUint32(out, 0)
	}
	return out
}

// nameInSelector reads the name that selectAll wrote, or nothing.
func nameInSelector(b []byte) string {
	if len(b) < sizeofSelector || b[0] != u32Terminal || int(b[2])*sizeofKey != len(b)-sizeofSelector {
		return ""
	}
	var name []byte
	for i, key := range slices.Collect(slices.Chunk(b[sizeofSelector:], sizeofKey)) {
		mask, value := binary.BigEndian.Uint32(key), key[4:8]
		if mask != 0 || i == 0 && binary.BigEndian.Uint32(value) != nameMark {
			return ""
		}
		if i > 0 {
			name = append(name, value...)
		}
	}
	return string(bytesBeforeZero(name))
}

// parseU32 reads the options of a filter, and the name in its keys.
func (f *tcFilter) parseU32(options []attribute) (name string) {
	f.action = noAction
	for _, option := range options {
		switch option.kind {
		case u32Selector:
			name = nameInSelector(option.data)
		case u32Actions:
			f.action = parseActions(option.data)
		}
	}
	return name
}

func (k *Kernel) redirect(ctx context.Context, s plan.Redirect) error {
	if err := k.makeRedirect(ctx, s); err != nil {
		if errors.Is(err, errNoTC) {
			err = fmt.Errorf("%w: load the kernel modules sch_ingress, cls_u32, cls_bpf and act_mirred on the node", err)
		}
		return fmt.Errorf("redirecting %q to %q: %w", s.Link, s.To, err)
	}
	return nil
}

func (k *Kernel) makeRedirect(ctx context.Context, s plan.Redirect) error {
	if k.nftOnly {
		return errNoTC
	}
	l, err := k.link(ctx, s.Link)
	if err != nil {
		return err
	}
	if s.Index != 0 && l.Index != s.Index {
		return fmt.Errorf("number %d, and another has its name: %w", s.Index, errLinkGone)
	}
	to, err := k.link(ctx, s.To)
	if err != nil {
		return err
	}
	want, err := wantedRedirect(s, to.Index)
	if err != nil {
		return err
	}
	have, err := k.tcFilters(ctx, l.Index, hookOf(s.Egress))
	if err != nil {
		return err
	}
	for _, f := range have {
		switch {
		case f.is(redirectPriority, s.Name) && f.kind == want.kind:
			if slices.Equal(f.ops, want.ops) && f.action == want.action {
				return k.keepQueue(ctx, s.Link, s.TxQLen)
			}
			want.handle = f.handle // with it the kernel replaces it in one step
		case f.priority == redirectPriority:
			return fmt.Errorf("the place %d among the link's filters is %w", redirectPriority, ErrConflict)
		}
	}
	if err := k.putFilter(ctx, l.Index, hookOf(s.Egress), want.message(l.Index, hookOf(s.Egress), s.Name)); err != nil {
		return err
	}
	return k.keepQueue(ctx, s.Link, s.TxQLen)
}

// wantedRedirect is the filter that the step puts on the hook.
func wantedRedirect(s plan.Redirect, to int) (tcFilter, error) {
	f := tcFilter{
		name: s.Name, kind: kindU32, priority: redirectPriority,
		action: mirred{verdict: actionStolen, way: redirectEgress, to: to},
	}
	if s.Receive {
		f.action.way = redirectIngress
	}
	if len(s.Match) == 0 {
		return f, nil
	}
	program, err := compileFilter(s.Match, verdicts{match: redirectAll, pass: 0})
	if err != nil {
		return f, err
	}
	f.kind, f.handle, f.ops = kindBPF, handleOf(s.Name), withName(program, s.Name)
	return f, fits(len(f.ops) / sizeofOp)
}

// message asks for the redirect.
func (f tcFilter) message(link int, hook uint32, name string) *message {
	return tcMessage(link, f.handle, hook, tcInfo(f.priority)).str(unix.TCA_KIND, f.kind).
		nest(unix.TCA_OPTIONS, func(m *message) {
			if f.kind == kindBPF {
				bpfProgram(m, name, f.ops).nest(bpfActions, f.action.put)
			} else {
				m.attr(u32Selector, selectAll(name)).nest(u32Actions, f.action.put)
			}
		})
}

// unredirect removes the redirect, wherever it leads by now.
func (k *Kernel) unredirect(ctx context.Context, s plan.Redirect) error {
	l, found, err := k.findLink(ctx, s.Link)
	if found && (s.Index == 0 || l.Index == s.Index) {
		if _, err = k.removeFilter(ctx, l.Index, hookOf(s.Egress), redirectPriority, s.Name, s.KeepHook); err == nil {
			err = k.keepQueue(ctx, s.Link, s.TxQLen)
		}
	}
	if err != nil {
		return fmt.Errorf("taking back the redirect from %q to %q: %w", s.Link, s.To, err)
	}
	return nil
}
