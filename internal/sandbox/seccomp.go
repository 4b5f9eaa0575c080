package sandbox

import (
	_ "embed"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

//go:generate sh -c "go run gen_syscalls.go $(go list -m -f '{{.Dir}}' golang.org/x/sys)/unix > syscalls.txt"

// syscallTable has one line per system call: its name, and its number on the
// architectures the first line names, or "-".
//
//go:embed syscalls.txt
var syscallTable string

// arch is a calling convention the kernel tells the filter about.
type arch struct {
	column string // in syscallTable
	audit  uint32 // AUDIT_ARCH_*
	x32    bool   // shares audit with amd64; its numbers have x32Bit set
	narrow bool   // arguments have 32 bits
}

const x32Bit = 0x40000000

var arches = map[specs.Arch]arch{
	specs.ArchX86_64:  {column: "amd64", audit: unix.AUDIT_ARCH_X86_64},
	specs.ArchX32:     {column: "x32", audit: unix.AUDIT_ARCH_X86_64, x32: true},
	specs.ArchX86:     {column: "386", audit: unix.AUDIT_ARCH_I386, narrow: true},
	specs.ArchAARCH64: {column: "arm64", audit: unix.AUDIT_ARCH_AARCH64},
	specs.ArchARM:     {column: "arm", audit: unix.AUDIT_ARCH_ARM, narrow: true},
}

// syscallNumbers reads the table: column → name → number.
var syscallNumbers = sync.OnceValue(func() map[string]map[string]uint32 {
	head, body, _ := strings.Cut(syscallTable, "\n")
	columns := strings.Fields(head)[1:]
	tables := map[string]map[string]uint32{}
	for _, c := range columns {
		tables[c] = make(map[string]uint32, 512)
	}
	for line := range strings.Lines(body) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		for _, c := range columns {
			var field string
			field, rest, _ = strings.Cut(rest, " ")
			if n, err := strconv.ParseUint(field, 10, 32); err == nil {
				tables[c][name] = uint32(n)
			}
		}
	}
	return tables
})

// compileSeccomp turns a profile into a BPF program for seccomp(2), the bytes of an
// array of struct sock_filter. It does what runc and libseccomp do with it:
//
//   - Names that an architecture does not have are passed over.
//   - The rules of a call are tried in the order they stand in. All conditions of a rule
//     must hold, except where two look at the same argument: then one of them is enough.
//   - The first rule of a call without conditions is the only one that counts.
//   - A call newer than all that the profile knows gets ENOSYS in place of the
//     profile's error, so that libraries fall back to what it knows.
//   - Calls of architectures the profile does not list kill the process.
func compileSeccomp(p *specs.LinuxSeccomp) ([]byte, error) {
	def, err := seccompAction(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	list := p.Architectures
	if len(list) == 0 {
		list = nativeArches()
	}
	byAudit := map[uint32][]archRules{}
	for _, name := range list {
		a, ok := arches[name]
		if !ok {
			return nil, fmt.Errorf("seccomp: architecture %s is not supported", name)
		}
		r, err := newArchRules(a, p, def)
		if err != nil {
			return nil, err
		}
		byAudit[a.audit] = append(byAudit[a.audit], r)
	}
	return assembleArches(byAudit)
}

// assembleArches puts the programs of the architectures behind one dispatch.
func assembleArches(byAudit map[uint32][]archRules) ([]byte, error) {
	var code assembler
	next := code.ret(unix.SECCOMP_RET_KILL_PROCESS)
	for _, audit := range slices.Sorted(maps.Keys(byAudit)) {
		start := code.arch(byAudit[audit])
		next = code.jump(bpf.JumpEqual, audit, start, next)
	}
	code.emit(bpf.LoadAbsolute{Off: offArch, Size: 4})
	return code.bytes()
}

// nativeArches are this machine's own.
func nativeArches() []specs.Arch {
	if runtime.GOARCH == "arm64" {
		return []specs.Arch{specs.ArchAARCH64}
	}
	return []specs.Arch{specs.ArchX86_64}
}

// seccompAction is the filter's return value for an action.
func seccompAction(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	value := uint32(unix.EPERM)
	if errno != nil {
		value = uint32(*errno)
		if value > unix.SECCOMP_RET_DATA {
			return 0, fmt.Errorf("seccomp: error number %d is too big", value)
		}
	}
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | value, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | value, nil
	case actNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("seccomp: action %q is not supported", action)
}

// seccompFlags are the flags of seccomp(2). As in runc, without any the mitigation of
// speculative store bypass stays as the process wants it.
func seccompFlags(flags []specs.LinuxSeccompFlag) (uint, error) {
	if len(flags) == 0 {
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var bits uint
	for _, f := range flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			bits |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// Every thread but the one that executes the program is gone by then.
		default:
			return 0, fmt.Errorf("seccomp: flag %q is not supported", f)
		}
	}
	return bits, nil
}

// rule is what one rule of a profile says about one system call.
type rule struct {
	args   []specs.LinuxSeccompArg // all must hold
	action uint32
}

// armPrivate is below the private calls of ARM, and above all others.
const armPrivate = 0xf0000

// archRules are the rules of one architecture by system call number.
type archRules struct {
	arch
	calls map[uint32][]rule
	def   uint32
	last  uint32 // the highest number the profile names
}

// operators are those of conditions.
var operators = [...]specs.LinuxSeccompOperator{
	specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual,
}

func newArchRules(a arch, p *specs.LinuxSeccomp, def uint32) (archRules, error) {
	r := archRules{arch: a, calls: make(map[uint32][]rule, 512), def: def}
	numbers := syscallNumbers()[a.column]
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		action, err := seccompAction(s.Action, s.ErrnoRet)
		if err != nil {
			return r, err
		}
		for _, arg := range s.Args {
			if arg.Index > 5 {
				return r, fmt.Errorf("seccomp: %s: there is no argument %d", strings.Join(s.Names, ", "), arg.Index)
			}
			if !slices.Contains(operators[:], arg.Op) {
				return r, fmt.Errorf("seccomp: %s: operator %q is not supported", strings.Join(s.Names, ", "), arg.Op)
			}
		}
		for _, name := range s.Names {
			nr, ok := numbers[name]
			if !ok {
				continue
			}
			// Private calls of ARM lie far above the table and say nothing about its end.
			if nr < armPrivate {
				r.last = max(r.last, nr)
				if action == def {
					continue
				}
			}
			r.add(nr, s.Args, action)
		}
	}
	return r, nil
}

// add appends a rule of a call. One without conditions is the last word, as in libseccomp (db_rule_add): what
// was said of the call before has no effect, nor has what is said after.
func (r *archRules) add(nr uint32, args []specs.LinuxSeccompArg, action uint32) {
	rules := r.calls[nr]
	switch {
	case len(rules) > 0 && len(rules[0].args) == 0:
		return
	case len(args) == 0:
		rules = []rule{{action: action}}
	case repeatsIndex(args):
		for _, arg := range args {
			rules = append(rules, rule{args: []specs.LinuxSeccompArg{arg}, action: action})
		}
	default:
		rules = append(rules, rule{args: args, action: action})
	}
	r.calls[nr] = rules
}

func repeatsIndex(args []specs.LinuxSeccompArg) bool {
	var seen [6]bool
	for _, a := range args {
		if seen[a.Index] {
			return true
		}
		seen[a.Index] = true
	}
	return false
}

// span is a run of system call numbers, from first up to the next span's, that are
// decided alike.
type span struct {
	first uint32
	rules []rule // nil: the default
	ret   uint32 // where rules is nil
}

// spans cuts the numbers 0 to 2^32-1 (x32: without the bit) into runs.
func (r *archRules) spans() []span {
	var out []span
	add := func(s span) {
		if n := len(out); n > 0 && out[n-1].rules == nil && s.rules == nil && out[n-1].ret == s.ret {
			return
		}
		out = append(out, s)
	}
	gap := func(from, to uint32) {
		if from <= r.last && from < to {
			add(span{first: from, ret: r.def})
			from = r.last + 1
		}
		if from < to {
			add(span{first: from, ret: r.newer()})
		}
	}
	next := uint32(0) // the first number not yet covered
	for _, nr := range slices.Sorted(maps.Keys(r.calls)) {
		gap(next, nr)
		s := span{first: nr, rules: r.calls[nr]}
		if len(s.rules[0].args) == 0 {
			s = span{first: nr, ret: s.rules[0].action}
		}
		add(s)
		next = nr + 1
	}
	gap(next, math.MaxUint32)
	return out
}

// newer is what calls beyond the profile's last get.
func (r *archRules) newer() uint32 {
	switch r.def & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG:
		return r.def
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
}
