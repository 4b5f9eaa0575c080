package sandbox

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is what the kernel shows a filter: struct seccomp_data.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

// filter runs compiled programs as the kernel would. Package bpf's machine loads words
// most significant byte first; the data is laid out for it so.
type filter struct{ vm *bpf.VM }

func newFilter(t testing.TB, p *specs.LinuxSeccomp) filter {
	t.Helper()
	code, err := compileSeccomp(p)
	if err != nil {
		t.Fatal(err)
	}
	var insns []bpf.Instruction
	for i := 0; i < len(code); i += 8 {
		insns = append(insns, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(code[i:]), Jt: code[i+2], Jf: code[i+3], K: binary.NativeEndian.Uint32(code[i+4:]),
		}.Disassemble())
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatalf("%v\n%v", err, insns)
	}
	return filter{vm}
}

func (f filter) run(t testing.TB, c call) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data, c.nr)
	binary.BigEndian.PutUint32(data[offArch:], c.arch)
	for i, a := range c.args {
		binary.BigEndian.PutUint32(data[offArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offArgs+8*i+4:], uint32(a>>32))
	}
	out, err := f.vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(out)
}

// judge is what a profile means, without any compiling: the tests' idea of it.
func judge(p *specs.LinuxSeccomp, c call) uint32 {
	for _, name := range p.Architectures {
		a := arches[name]
		if a.audit != c.arch {
			continue
		}
		nr := c.nr
		if a.audit == unix.AUDIT_ARCH_X86_64 && nr != 1<<32-1 {
			if a.x32 != (nr >= x32Bit) {
				continue
			}
			nr &^= x32Bit
		} else if a.x32 {
			continue
		}
		return judgeArch(p, a, nr, c.args)
	}
	return unix.SECCOMP_RET_KILL_PROCESS
}

func judgeArch(p *specs.LinuxSeccomp, a arch, nr uint32, args [6]uint64) uint32 {
	def, _ := seccompAction(p.DefaultAction, p.DefaultErrnoRet)
	table := syscallNumbers()[a.column]
	last, known := uint32(0), false
	var first *uint32 // of those with conditions
	for _, s := range p.Syscalls {
		action, _ := seccompAction(s.Action, s.ErrnoRet)
		for _, name := range s.Names {
			n, ok := table[name]
			known = known || ok && n == nr
			if ok && n < armPrivate {
				last = max(last, n)
			}
			switch {
			case !ok || n != nr:
			case action == def && n < armPrivate:
			case len(s.Args) == 0:
				return action
			case first == nil && holds(s.Args, args, a.narrow):
				first = &action
			}
		}
	}
	switch {
	case first != nil:
		return *first
	case nr > last && !known && def != unix.SECCOMP_RET_ALLOW && def != unix.SECCOMP_RET_LOG:
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return def
}

func holds(conds []specs.LinuxSeccompArg, args [6]uint64, narrow bool) bool {
	any, all := false, true
	seen := map[uint]bool{}
	repeats := false
	for _, c := range conds {
		repeats = repeats || seen[c.Index]
		seen[c.Index] = true
		v, w, w2 := args[c.Index], c.Value, c.ValueTwo
		if narrow {
			v, w, w2 = uint64(uint32(v)), uint64(uint32(w)), uint64(uint32(w2))
		}
		ok := map[specs.LinuxSeccompOperator]bool{
			specs.OpEqualTo: v == w, specs.OpNotEqual: v != w, specs.OpLessThan: v < w, specs.OpLessEqual: v <= w,
			specs.OpGreaterThan: v > w, specs.OpGreaterEqual: v >= w, specs.OpMaskedEqual: v&w == w2,
		}[c.Op]
		any, all = any || ok, all && ok
	}
	if repeats {
		return any
	}
	return all
}

var audits = []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM, 0}

// Every call of every architecture, with arguments around those that matter.
func TestDefaultProfileWhole(t *testing.T) {
	native := DefaultSpec(SpecOptions{}).Linux.Seccomp
	admin := DefaultSpec(SpecOptions{Capabilities: append(DefaultCapabilities(), "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")}).Linux.Seccomp
	arm := *native
	arm.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	one := *native
	one.Architectures = []specs.Arch{specs.ArchX86_64}
	values := []uint64{0, 1, 8, 37, 38, 39, 40, 41, 0x20000, 0x20008, 0x40000, 0x10000000, 0xffffffff, 1 << 32, 1<<32 | 38, 1<<64 - 1}
	for i, p := range []*specs.LinuxSeccomp{native, admin, &arm, &one} {
		f := newFilter(t, p)
		for _, audit := range audits {
			for _, bit := range []uint32{0, x32Bit} {
				for nr := range uint32(600) {
					check(t, i, f, p, call{nr: nr | bit, arch: audit})
				}
			}
			for _, nr := range []uint32{1<<31 - 1, 1 << 31, 1<<32 - 1, x32Bit - 1, 0xf0001, 0xf0005, 0xf0007} {
				check(t, i, f, p, call{nr: nr, arch: audit})
			}
			for column, table := range syscallNumbers() {
				bit := uint32(0)
				if column == "x32" {
					bit = x32Bit
				}
				for _, name := range []string{"socket", "personality", "clone", "clone3"} {
					for _, v := range values {
						check(t, i, f, p, call{nr: table[name] | bit, arch: audit, args: [6]uint64{v}})
					}
				}
			}
		}
	}
}

func check(t *testing.T, profile int, f filter, p *specs.LinuxSeccomp, c call) {
	t.Helper()
	if got, want := f.run(t, c), judge(p, c); got != want {
		t.Errorf("profile %d, %+v: %#x, want %#x", profile, c, got, want)
	}
}

func TestDefaultProfileSize(t *testing.T) {
	code, err := compileSeccomp(DefaultSpec(SpecOptions{}).Linux.Seccomp)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(code) / 8; n > 600 {
		t.Errorf("%d instructions", n)
	}
}

// Jumps of more than 255 instructions, with every operator on every argument.
func TestLongPrograms(t *testing.T) {
	ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual}
	errno := uint(7)
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86}}
	names := []string{"read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap", "brk", "ioctl", "dup", "pipe"}
	for i := range 140 {
		action := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActTrap, specs.ActErrno, specs.ActKillProcess}[i%4]
		s := specs.LinuxSyscall{Names: []string{names[i%len(names)]}, Action: action}
		if action == specs.ActErrno {
			s.ErrnoRet = &errno
		}
		for j := range i%3 + 1 {
			value := []uint64{0, 1, 5, 1 << 31, 1<<32 + 5, 1 << 40, 1<<64 - 1}[(i+j)%7]
			s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint((i + j*i) % 6), Op: ops[(i+j)%7], Value: value, ValueTwo: value & uint64(i)})
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	f := newFilter(t, p)
	code, err := compileSeccomp(p)
	if err != nil || len(code)/8 < 600 {
		t.Fatalf("%d instructions are no test, %v", len(code)/8, err)
	}
	values := []uint64{0, 1, 4, 5, 6, 1 << 31, 1<<32 + 4, 1<<32 + 5, 1 << 40, 1<<64 - 1}
	for _, audit := range audits {
		for nr := range uint32(60) {
			for i, v := range values {
				w := values[(i*7+int(nr))%len(values)]
				check(t, 0, f, p, call{nr: nr, arch: audit, args: [6]uint64{v, w, v, w, v, w}})
			}
		}
	}
}

func TestProfileErrors(t *testing.T) {
	big := uint(70000)
	call := func(s specs.LinuxSyscall) specs.LinuxSeccomp {
		return specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{s}}
	}
	many := specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range 3000 {
		many.Syscalls = append(many.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: uint(i % 6), Op: specs.OpEqualTo, Value: uint64(i)}}})
	}
	for _, c := range []struct {
		p    specs.LinuxSeccomp
		text string
	}{
		{specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_SHRUG"}, "SCMP_ACT_SHRUG"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &big}, "70000"},
		{specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchMIPS}}, "SCMP_ARCH_MIPS"},
		{call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActNotify}), "SCMP_ACT_NOTIFY"},
		{call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}), "argument 6"},
		{many, "the kernel takes"},
	} {
		if _, err := compileSeccomp(&c.p); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v; want %q", err, c.text)
		}
	}
}

// What libseccomp makes of several rules of a call; podman's own profile has such.
func TestRulesOfOneCall(t *testing.T) {
	t.Parallel()
	const allow, trap, def = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	is := func(n uint, v uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: n, Op: specs.OpEqualTo, Value: v}
	}
	rule := func(action specs.LinuxSeccompAction, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"socket"}, Action: action, Args: args}
	}
	for name, c := range map[string]struct {
		rules    []specs.LinuxSyscall
		one, two uint32 // what socket(1, 0, 0) and socket(2, 0, 0) get
	}{
		"two without conditions: the first":  {[]specs.LinuxSyscall{rule(specs.ActAllow), rule(specs.ActTrap)}, allow, allow},
		"a condition after one without":      {[]specs.LinuxSyscall{rule(specs.ActAllow), rule(specs.ActTrap, is(0, 1))}, allow, allow},
		"a condition before one without":     {[]specs.LinuxSyscall{rule(specs.ActTrap, is(0, 1)), rule(specs.ActAllow)}, allow, allow},
		"the default's action says nothing":  {[]specs.LinuxSyscall{rule(specs.ActErrno), rule(specs.ActAllow, is(0, 1))}, allow, def},
		"two conditions: the first to hold":  {[]specs.LinuxSyscall{rule(specs.ActTrap, is(0, 1)), rule(specs.ActAllow, is(1, 0))}, trap, allow},
		"the same condition twice":           {[]specs.LinuxSyscall{rule(specs.ActTrap, is(0, 1)), rule(specs.ActAllow, is(0, 1))}, trap, def},
		"two of one argument: one is enough": {[]specs.LinuxSyscall{rule(specs.ActAllow, is(0, 1), is(0, 2))}, allow, allow},
	} {
		t.Run(name, func(t *testing.T) {
			p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64}, Syscalls: c.rules}
			f := newFilter(t, p)
			for n, want := range []uint32{c.one, c.two} {
				got := f.run(t, call{nr: 41, arch: unix.AUDIT_ARCH_X86_64, args: [6]uint64{uint64(n + 1)}})
				if got != want {
					t.Errorf("socket(%d, 0, 0): %#x, want %#x", n+1, got, want)
				}
			}
		})
	}
}

// Every name of the default profile is known, but those of other architectures.
func TestSyscallTable(t *testing.T) {
	known := syscallNumbers()
	var unknown []string
	for _, s := range DefaultSpec(SpecOptions{}).Linux.Seccomp.Syscalls {
		for _, name := range s.Names {
			if !slices.ContainsFunc([]string{"amd64", "x32", "386", "arm64", "arm"}, func(c string) bool { _, ok := known[c][name]; return ok }) {
				unknown = append(unknown, name)
			}
		}
	}
	if want := []string{"riscv_hwprobe"}; !slices.Equal(slices.Compact(unknown), want) {
		t.Errorf("unknown: %q, want %q", unknown, want)
	}
	for name, want := range map[string][5]uint32{ // from the kernel's tables
		"read": {0, 0, 3, 63, 3}, "execve": {59, 520, 11, 221, 11}, "clone3": {435, 435, 435, 435, 435},
		"statx": {332, 332, 383, 291, 397}, "preadv2": {327, 546, 378, 286, 392}, "socket": {41, 41, 359, 198, 281},
	} {
		got := [5]uint32{known["amd64"][name], known["x32"][name], known["386"][name], known["arm64"][name], known["arm"][name]}
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// FuzzSeccomp makes profiles of bytes and compares the program with what they mean.
func FuzzSeccomp(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08"), uint32(1), uint64(5), uint64(1<<33))
	f.Add([]byte(strings.Repeat("\x11\x52\x93\xf4\x25", 200)), uint32(0), uint64(1<<63), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, nr uint32, x, y uint64) {
		names := []string{"read", "write", "open", "close", "execve", "set_tls", "clone3", "statx", "accept", "nothere"}
		actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActTrap, specs.ActKillProcess, specs.ActLog}
		ops := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual}
		values := []uint64{x, y, 0, 1, 1 << 32, x + 1, y &^ 0xff, 1<<64 - 1}
		next := func() int {
			if len(data) == 0 {
				return 0
			}
			b := data[0]
			data = data[1:]
			return int(b)
		}
		p := &specs.LinuxSeccomp{DefaultAction: actions[next()%len(actions)]}
		for i, a := range []specs.Arch{specs.ArchX86_64, specs.ArchX32, specs.ArchX86, specs.ArchAARCH64, specs.ArchARM} {
			if i == 0 || next()%2 == 1 {
				p.Architectures = append(p.Architectures, a)
			}
		}
		for len(data) > 0 && len(p.Syscalls) < 300 {
			s := specs.LinuxSyscall{Names: []string{names[next()%len(names)]}, Action: actions[next()%len(actions)]}
			for range next() % 4 {
				s.Args = append(s.Args, specs.LinuxSeccompArg{Index: uint(next() % 6), Op: ops[next()%len(ops)], Value: values[next()%len(values)], ValueTwo: values[next()%len(values)]})
			}
			p.Syscalls = append(p.Syscalls, s)
		}
		if _, err := compileSeccomp(p); err != nil {
			return // the program is too long
		}
		flt := newFilter(t, p)
		for _, audit := range audits {
			for _, n := range []uint32{nr, nr % 600, nr%600 | x32Bit, 0, 1, 59, 435, 0xf0005, 1<<32 - 1} {
				for _, args := range [][6]uint64{{x, y, x, y, x, y}, {y, x, 0, 1, 1 << 32, x + 1}, {}} {
					c := call{n, audit, args}
					if got, want := flt.run(t, c), judge(p, c); got != want {
						t.Fatalf("%+v: %#x, want %#x\n%s", c, got, want, fmt.Sprintf("%+v", p))
					}
				}
			}
		}
	})
}

func BenchmarkCompileSeccomp(b *testing.B) {
	p := DefaultSpec(SpecOptions{}).Linux.Seccomp
	for b.Loop() {
		if _, err := compileSeccomp(p); err != nil {
			b.Fatal(err)
		}
	}
}
