//go:build linux

package kernel

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podwire/podwire/pkg/plan"
)

// From linux/pkt_cls.h.
const (
	bpfActions      = 1 // TCA_BPF_ACT
	bpfOpsLen       = 4 // TCA_BPF_OPS_LEN
	bpfOps          = 5 // TCA_BPF_OPS
	bpfName         = 7 // TCA_BPF_NAME
	bpfFlags        = 8 // TCA_BPF_FLAGS
	bpfDirectAction = 1 // TCA_BPF_FLAG_ACT_DIRECT

	actionShot   = 2          // TC_ACT_SHOT: drop
	actionUnspec = ^uint32(0) // TC_ACT_UNSPEC: go on with the next filter; TC_ACT_OK would skip those of others

	sizeofOp = 8 // struct sock_filter
)

// withName adds a name to a program: the kernel keeps none for a classic one, so
// it is written where the program never gets to, as constants that are loaded.
func withName(program []unix.SockFilter, name string) []byte {
	for _, value := range append([]uint32{nameMark}, nameWords(name)...) {
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

// nameWords are a name in words, of which the last is filled up with zeros.
func nameWords(name string) []uint32 {
	var out []uint32
	for part := range slices.Chunk([]byte(name), 4) {
		out = append(out, binary.BigEndian.Uint32(append(slices.Clone(part), 0, 0, 0)))
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

// parseBPF reads the options of a filter, and the name in its program.
func (f *tcFilter) parseBPF(options []attribute) (name string) {
	f.action = noAction
	for _, option := range options {
		switch option.kind {
		case bpfOps:
			f.ops = option.data
		case bpfActions:
			f.action = parseActions(option.data)
		}
	}
	return nameInProgram(f.ops)
}

// bpfProgram adds a program, as it is and by a name for people.
func bpfProgram(m *message, name string, ops []byte) *message {
	return m.u16(bpfOpsLen, uint16(len(ops)/sizeofOp)).attr(bpfOps, ops).str(bpfName, "podwire-"+name)
}

// addTCFilter puts the filter on the link's hook, in one step where it is
// there and says something else. errNoTC is for a kernel that cannot.
func (k *Kernel) addTCFilter(ctx context.Context, l linkInfo, s plan.AddFilter) error {
	program, err := compileStep(s, verdicts{match: actionShot, pass: actionUnspec})
	if err != nil {
		return err
	}
	ops := withName(program, s.Name)
	if err := fits(len(ops) / sizeofOp); err != nil {
		return err
	}
	hook := hookOf(s.Egress)
	have, err := k.tcFilters(ctx, l.Index, hook)
	if err != nil {
		return err
	}
	for _, f := range have {
		if f.is(filterPriority, s.Name) && slices.Equal(f.ops, ops) {
			return nil
		}
	}
	m := tcMessage(l.Index, handleOf(s.Name), hook, tcInfo(filterPriority)).
		str(unix.TCA_KIND, kindBPF).
		nest(unix.TCA_OPTIONS, func(m *message) { bpfProgram(m, s.Name, ops).u32(bpfFlags, bpfDirectAction) })
	return k.putFilter(ctx, l.Index, hook, m)
}
