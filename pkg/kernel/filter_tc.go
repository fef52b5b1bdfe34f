//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/netstate"
	"github.com/podwire/podwire/pkg/plan"
)

// From linux/pkt_sched.h and linux/pkt_cls.h.
const (
	ingressQdisc = 0xFFFFFFF1 // TC_H_INGRESS, also TC_H_CLSACT
	ingressMajor = 0xFFFF0000
	ingressHook  = 0xFFFFFFF2 // TC_H_MIN_INGRESS of clsact; of the plain ingress qdisc too
	egressHook   = 0xFFFFFFF3 // TC_H_MIN_EGRESS

	kindClsact = "clsact"
	kindBPF    = "bpf"

	bpfOpsLen       = 4 // TCA_BPF_OPS_LEN
	bpfOps          = 5 // TCA_BPF_OPS
	bpfName         = 7 // TCA_BPF_NAME
	bpfFlags        = 8 // TCA_BPF_FLAGS
	bpfDirectAction = 1 // TCA_BPF_FLAG_ACT_DIRECT

	actionShot   = 2          // TC_ACT_SHOT: drop
	actionUnspec = ^uint32(0) // TC_ACT_UNSPEC: go on with the next filter; TC_ACT_OK would skip those of others

	sizeofTcMsg = 20
	sizeofOp    = 8 // struct sock_filter
)

// filterPriority is the place of podwire's filters among those of a hook. tc
// itself gives out 49152 and below, people 1, 2, 10 or 100: this one is early
// and nobody's. Filters share a priority only if they are of one kind.
const filterPriority = 67

// nameMark begins the name in a filter's program.
const nameMark = 0x70777265 // "pwre"

// tcFilter is a filter that was found on a hook.
type tcFilter struct {
	name   string // empty for those of others
	handle uint32
	ops    []byte
}

func tcMessage(link int, handle, parent, info uint32) *message {
	fixed := make([]byte, sizeofTcMsg)
	binary.NativeEndian.PutUint32(fixed[4:], uint32(link))
	binary.NativeEndian.PutUint32(fixed[8:], handle)
	binary.NativeEndian.PutUint32(fixed[12:], parent)
	binary.NativeEndian.PutUint32(fixed[16:], info)
	return newMessage(fixed)
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

// tcFilters lists the filters of a hook. A link without the hook has none.
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
		if f := parseTCFilter(fixed, attrs); f.handle != 0 { // 0 only introduces a priority
			out = append(out, f)
		}
	}
	return out, nil
}

func parseTCFilter(fixed []byte, attrs []attribute) tcFilter {
	f := tcFilter{handle: binary.NativeEndian.Uint32(fixed[8:])}
	kind, priority := "", binary.NativeEndian.Uint32(fixed[16:])>>16
	for _, a := range attrs {
		switch a.kind {
		case unix.TCA_KIND:
			kind = a.text()
		case unix.TCA_OPTIONS:
			for _, option := range attributes(a.data) {
				if option.kind == bpfOps {
					f.ops = option.data
				}
			}
		}
	}
	if kind == kindBPF && priority == filterPriority {
		f.name = nameInProgram(f.ops)
	}
	return f
}

// withName adds a name to a program: the kernel keeps none for a classic one, so
// it is written where the program never gets to, as constants that are loaded.
func withName(program []unix.SockFilter, name string) []byte {
	loads := []uint32{nameMark}
	for part := range slices.Chunk([]byte(name), 4) {
		loads = append(loads, binary.BigEndian.Uint32(append(slices.Clone(part), 0, 0, 0)))
	}
	for _, value := range loads {
		program = append(program, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_IMM, K: value})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: actionUnspec})
	var out []byte
	for _, op := range program {
		out = binary.NativeEndian.AppendUint16(out, op.Code)
		out = append(out, op.Jt, op.Jf)
		out = binary.NativeEndian.AppendUint32(out, op.K)
	}
	return out
}

// nameInProgram reads the name that withName wrote, or nothing.
func nameInProgram(ops []byte) string {
	var name []byte
	for op := range backwards(ops) {
		if op.Op != unix.BPF_LD|unix.BPF_IMM {
			return ""
		}
		if op.K == nameMark {
			return string(bytesBeforeZero(name))
		}
		name = append(binary.BigEndian.AppendUint32(nil, op.K), name...)
	}
	return ""
}

// backwards goes through a program from the last instruction but one.
func backwards(ops []byte) func(yield func(bpf.RawInstruction) bool) {
	return func(yield func(bpf.RawInstruction) bool) {
		for i := len(ops)/sizeofOp - 2; i >= 0; i-- {
			op := ops[i*sizeofOp:]
			if !yield(bpf.RawInstruction{
				Op: binary.NativeEndian.Uint16(op), Jt: op[2], Jf: op[3], K: binary.NativeEndian.Uint32(op[4:]),
			}) {
				return
			}
		}
	}
}

func bytesBeforeZero(b []byte) []byte {
	if i := slices.Index(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// handleOf makes a filter's number of its name.
func handleOf(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()&0x7fffffff | 1
}

// addTCFilter puts the filter on the link's ingress, in one step where it is
// there and says something else. errNoTC is for a kernel that cannot.
func (k *Kernel) addTCFilter(ctx context.Context, l linkInfo, s plan.AddFilter) error {
	program, err := compileFilter(s.Drop, verdicts{match: actionShot, pass: actionUnspec})
	if err != nil {
		return err
	}
	ops := withName(program, s.Name)
	if err := fits(len(ops) / sizeofOp); err != nil {
		return err
	}
	have, err := k.tcFilters(ctx, l.Index, ingressHook)
	if err != nil {
		return err
	}
	for _, f := range have {
		if f.name == s.Name && slices.Equal(f.ops, ops) {
			return nil
		}
	}
	madeHook, err := k.addHook(ctx, l)
	if err != nil {
		return err
	}
	m := tcMessage(l.Index, handleOf(s.Name), ingressHook, tcInfo()).
		str(unix.TCA_KIND, kindBPF).
		nest(unix.TCA_OPTIONS, func(m *message) {
			m.u16(bpfOpsLen, uint16(len(ops)/sizeofOp)).attr(bpfOps, ops)
			m.str(bpfName, "podwire-"+s.Name).u32(bpfFlags, bpfDirectAction)
		})
	err = noTC(k.route.change(ctx, unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, m))
	if err != nil && madeHook {
		err = errors.Join(err, k.deleteHook(ctx, l.Index))
	}
	return err
}

// tcInfo is a filter's priority, and that it is for all protocols.
func tcInfo() uint32 { return filterPriority<<16 | uint32(bigEndian16(unix.ETH_P_ALL)) }

// addHook makes the link's clsact qdisc. One that is there, or an ingress qdisc
// in its place, serves as well.
func (k *Kernel) addHook(ctx context.Context, l linkInfo) (made bool, err error) {
	m := tcMessage(l.Index, ingressMajor, ingressQdisc, 0).str(unix.TCA_KIND, kindClsact)
	err = k.route.change(ctx, unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
	if isErrno(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, noTC(err)
}

// deleteHook removes the link's clsact qdisc, if it is one.
func (k *Kernel) deleteHook(ctx context.Context, link int) error {
	m := tcMessage(link, ingressMajor, ingressQdisc, 0).str(unix.TCA_KIND, kindClsact)
	return unless(k.route.change(ctx, unix.RTM_DELQDISC, 0, m), unix.ENOENT, unix.EINVAL)
}

// noTC marks what a kernel answers that lacks clsact or cls_bpf (ENOENT), traffic
// control as a whole (EOPNOTSUPP), or a part of it that the request speaks of
// (EINVAL).
func noTC(err error) error {
	if isErrno(err, unix.ENOENT, unix.EOPNOTSUPP, unix.EINVAL) {
		return fmt.Errorf("%w: %w", errNoTC, err)
	}
	return err
}

// deleteTCFilter removes the filter, and the hook where that is podwire's and
// nobody else uses it.
func (k *Kernel) deleteTCFilter(ctx context.Context, link int, s plan.AddFilter) (deleted bool, err error) {
	have, err := k.tcFilters(ctx, link, ingressHook)
	if err != nil {
		return false, err
	}
	others := 0
	for _, f := range have {
		if f.name != s.Name {
			others++
			continue
		}
		m := tcMessage(link, f.handle, ingressHook, tcInfo()).str(unix.TCA_KIND, kindBPF)
		if err := unless(k.route.change(ctx, unix.RTM_DELTFILTER, 0, m), unix.ENOENT); err != nil {
			return false, err
		}
		deleted = true
	}
	if s.KeepHook || others > 0 {
		return deleted, nil
	}
	outgoing, err := k.tcFilters(ctx, link, egressHook)
	if err != nil || len(outgoing) > 0 {
		return deleted, err
	}
	return deleted, k.deleteHook(ctx, link)
}
