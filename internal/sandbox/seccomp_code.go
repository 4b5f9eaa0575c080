package sandbox

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (include/uapi/linux/seccomp.h). Both architectures
// are little-endian: the lower half of an argument comes first.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// assembler writes a program from its end to its start: a jump can only go forward,
// so what it jumps to is always there already, and how far it is is known.
type assembler struct {
	code []bpf.Instruction // last instruction first
	rets map[uint32]label  // return instructions by value, where last written
	err  error             // the first
}

// label is a place in the program: how many instructions there are from it to the end.
type label int

// emit puts an instruction in front of all others.
func (a *assembler) emit(in bpf.Instruction) label {
	a.code = append(a.code, in)
	return label(len(a.code))
}

// distance is how many instructions the next one emitted would skip to get to l.
func (a *assembler) distance(l label) int { return len(a.code) - int(l) }

// near makes l reachable by a conditional jump, which skips 255 instructions at most,
// even if room more instructions are emitted before that jump.
func (a *assembler) near(l label, room int) label {
	if a.distance(l)+room <= math.MaxUint8 {
		return l
	}
	if ret, ok := a.code[l-1].(bpf.RetConstant); ok {
		return a.emitRet(ret.Val) // as short as a jump to it
	}
	return a.emit(bpf.Jump{Skip: uint32(a.distance(l))})
}

func (a *assembler) emitRet(value uint32) label {
	if a.rets == nil {
		a.rets = map[uint32]label{}
	}
	l := a.emit(bpf.RetConstant{Val: value})
	a.rets[value] = l
	return l
}

// ret is a place that returns value.
func (a *assembler) ret(value uint32) label {
	if l, ok := a.rets[value]; ok && a.distance(l) < math.MaxUint8-1 {
		return l
	}
	return a.emitRet(value)
}

// jump goes to yes where the accumulator compares so with value, else to no.
func (a *assembler) jump(test bpf.JumpTest, value uint32, yes, no label) label {
	yes = a.near(yes, 1) // making no near may take one instruction
	no = a.near(no, 0)
	return a.emit(bpf.JumpIf{Cond: test, Val: value, SkipTrue: uint8(a.distance(yes)), SkipFalse: uint8(a.distance(no))})
}

// arch writes the part of one audit architecture: amd64 and x32 share one.
func (a *assembler) arch(list []archRules) label {
	kill := a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	plain, x32 := kill, kill
	for i := range list {
		spans := list[i].spans()
		if list[i].x32 {
			for j := range spans {
				spans[j].first |= x32Bit
			}
			x32 = a.search(&list[i], spans)
		} else {
			plain = a.search(&list[i], spans)
		}
	}
	start := plain
	if list[0].audit == unix.AUDIT_ARCH_X86_64 {
		// Number -1 is how a tracer skips a call; it is not one of x32.
		x32 = a.jump(bpf.JumpEqual, math.MaxUint32, plain, x32)
		start = a.jump(bpf.JumpGreaterOrEqual, x32Bit, x32, plain)
	}
	if a.distance(start) > 0 {
		a.emit(bpf.Jump{Skip: uint32(a.distance(start))})
	}
	return a.emit(bpf.LoadAbsolute{Off: offNr, Size: 4})
}

// search writes a binary search for the accumulator, a number, in spans.
func (a *assembler) search(r *archRules, spans []span) label {
	if len(spans) == 1 {
		return a.decide(r, spans[0])
	}
	mid := len(spans) / 2
	high := a.search(r, spans[mid:])
	low := a.search(r, spans[:mid])
	return a.jump(bpf.JumpGreaterOrEqual, spans[mid].first, high, low)
}

// decide writes what happens to the calls of a span.
func (a *assembler) decide(r *archRules, s span) label {
	if s.rules == nil {
		return a.ret(s.ret)
	}
	next := a.ret(r.def)
	for i := len(s.rules) - 1; i >= 0; i-- {
		next = a.rule(r, s.rules[i], next)
	}
	return next
}

// rule writes one rule; where a condition does not hold it goes on at next.
func (a *assembler) rule(r *archRules, rule rule, next label) label {
	start := a.ret(rule.action)
	for i := len(rule.args) - 1; i >= 0; i-- {
		start = a.condition(r, rule.args[i], start, next)
	}
	return start
}

// condition compares an argument of 64 bits, of which the machine can only load
// halves: the high one decides unless it is equal.
func (a *assembler) condition(r *archRules, arg specs.LinuxSeccompArg, yes, no label) label {
	low := uint32(offArgs + 8*arg.Index)
	value, mask := arg.Value, uint64(math.MaxUint64)
	switch arg.Op {
	case specs.OpNotEqual:
		yes, no = no, yes
	case specs.OpMaskedEqual:
		mask, value = arg.Value, arg.ValueTwo
	case specs.OpLessThan, specs.OpLessEqual:
		yes, no = no, yes
	}
	lowValue, lowMask := uint32(value), uint32(mask)
	highValue, highMask := uint32(value>>32), uint32(mask>>32)
	ordered := false
	switch arg.Op {
	case specs.OpEqualTo, specs.OpNotEqual, specs.OpMaskedEqual:
		a.jump(bpf.JumpEqual, lowValue, yes, no)
	case specs.OpGreaterThan, specs.OpLessEqual:
		ordered = true
		a.jump(bpf.JumpGreaterThan, lowValue, yes, no)
	case specs.OpGreaterEqual, specs.OpLessThan:
		ordered = true
		a.jump(bpf.JumpGreaterOrEqual, lowValue, yes, no)
	default:
		a.err = cmp.Or(a.err, fmt.Errorf("seccomp: operator %q is not supported", arg.Op))
		return no
	}
	start := a.load(low, lowMask)
	if r.narrow || highMask == 0 && highValue == 0 {
		return start
	}
	a.jump(bpf.JumpEqual, highValue, start, a.unequal(ordered, highValue, yes, no))
	return a.load(low+4, highMask)
}

// unequal is what follows where the high half, which is loaded, is not the wanted one.
func (a *assembler) unequal(ordered bool, high uint32, yes, no label) label {
	if !ordered {
		return no
	}
	return a.jump(bpf.JumpGreaterThan, high, yes, no)
}

// load loads a word, masked, for the instruction written last.
func (a *assembler) load(off, mask uint32) label {
	if mask != math.MaxUint32 {
		a.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
	}
	return a.emit(bpf.LoadAbsolute{Off: off, Size: 4})
}

// bytes is the program as the kernel takes it: an array of struct sock_filter.
func (a *assembler) bytes() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	const limit = 4096 // BPF_MAXINSNS
	if len(a.code) > limit {
		return nil, fmt.Errorf("seccomp: the profile makes %d instructions; the kernel takes %d", len(a.code), limit)
	}
	slices.Reverse(a.code)
	raw, err := bpf.Assemble(a.code)
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	out := make([]byte, 0, 8*len(raw))
	for _, in := range raw {
		out = binary.NativeEndian.AppendUint16(out, in.Op)
		out = append(out, in.Jt, in.Jf)
		out = binary.NativeEndian.AppendUint32(out, in.K)
	}
	return out, nil
}
