package sandbox

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Which devices a process may open, and make nodes of, is for the devices controller of cgroup version 1, and for a
// BPF program in version 2. Either is only asked for where a list of rules begins by denying all: without one, and
// that is what most have, no mount of the process lets a node be opened but those that were made for it, which costs less.

// deviceRules are the rules that take a cgroup; nil: there are none.
func deviceRules(r *specs.LinuxResources) []specs.LinuxDeviceCgroup {
	if r == nil || len(r.Devices) == 0 || allDevices(r) {
		return nil
	}
	if first := r.Devices[0]; first.Allow || first.Major != nil || first.Minor != nil || first.Type != "" && first.Type != "a" {
		return nil
	}
	return r.Devices
}

// devicesLimit is a limit without which the process does not run.
func devicesLimit(rules []specs.LinuxDeviceCgroup) limit {
	l := limit{controller: devicesController, name: "device rules", needed: true}
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		l.first = append(l.first, [2]string{file, deviceRule(r)})
	}
	l.attach = func(dir string) error { return attachDevices(dir, deviceProgram(rules)) }
	return l
}

const devicesController = "devices"

// deviceRule is a rule as version 1 reads it.
func deviceRule(r specs.LinuxDeviceCgroup) string {
	if (r.Type == "" || r.Type == "a") && r.Major == nil && r.Minor == nil {
		return "a"
	}
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	return fmt.Sprintf("%s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}

// Of linux/bpf.h: what the kernel tells the program, and what it is.
const (
	devBlock, devChar            = 1, 2
	accMknod, accRead, accWrite  = 1, 2, 4
	progTypeCgroupDevice         = 15
	attachCgroupDevice           = 6
	attachMulti                  = 2 // besides programs of the cgroups above
	cmdProgLoad, cmdProgAttach   = 5, 8
	opLoadWord, opMove, opMoveTo = 0x61, 0xb7, 0xbf // r = *(u32*)(r+off); r = imm; r = r
	opAnd, opShift, opJumpNot    = 0x57, 0x77, 0x55 // r &= imm; r >>= imm; if r != imm goto
	opExit                       = 0x95
)

// bpfCode is a program for the kernel's eBPF machine.
type bpfCode []byte

func (b *bpfCode) add(op, dst, src byte, off int16, imm int32) {
	*b = append(*b, op, dst|src<<4)
	*b = binary.NativeEndian.AppendUint16(*b, uint16(off))
	*b = binary.NativeEndian.AppendUint32(*b, uint32(imm))
}

// deviceProgram decides as version 1 would: the last rule that matches counts. Its context is struct bpf_cgroup_dev_ctx: what
// is wanted and the kind in one word, then the numbers.
func deviceProgram(rules []specs.LinuxDeviceCgroup) []byte {
	var b bpfCode
	b.add(opLoadWord, 2, 1, 0, 0) // r2: kind
	b.add(opMoveTo, 3, 2, 0, 0)
	b.add(opAnd, 2, 0, 0, 0xffff)
	b.add(opShift, 3, 0, 0, 16) // r3: what is wanted
	b.add(opLoadWord, 4, 1, 4, 0)
	b.add(opLoadWord, 5, 1, 8, 0)
	for _, r := range slices.Backward(rules) {
		test, always := deviceTest(r)
		if b = append(b, test...); always {
			return b // the kernel refuses a program of which some can never be reached
		}
	}
	b.add(opMove, 0, 0, 0, 0)
	b.add(opExit, 0, 0, 0, 0)
	return b
}

// deviceTest ends the program with the rule's answer where the rule matches, which it may do always.
func deviceTest(r specs.LinuxDeviceCgroup) (code []byte, always bool) {
	type step struct {
		reg   byte
		value int32
		mask  int32 // of what is wanted, that the rule does not speak of
	}
	var steps []step
	if kind := map[string]int32{"b": devBlock, "c": devChar, "u": devChar}[r.Type]; kind != 0 {
		steps = append(steps, step{reg: 2, value: kind})
	}
	var access int32
	for c, bit := range map[string]int32{"r": accRead, "w": accWrite, "m": accMknod} {
		if strings.Contains(r.Access, c) {
			access |= bit
		}
	}
	if access != 0 && access != accMknod|accRead|accWrite {
		steps = append(steps, step{reg: 6, mask: ^access})
	}
	if r.Major != nil && *r.Major >= 0 {
		steps = append(steps, step{reg: 4, value: int32(*r.Major)})
	}
	if r.Minor != nil && *r.Minor >= 0 {
		steps = append(steps, step{reg: 5, value: int32(*r.Minor)})
	}
	size := int16(2)
	for _, s := range steps {
		size++
		if s.mask != 0 {
			size += 2
		}
	}
	var b bpfCode
	for _, s := range steps {
		if s.mask != 0 {
			b.add(opMoveTo, 6, 3, 0, 0)
			b.add(opAnd, 6, 0, 0, s.mask)
		}
		b.add(opJumpNot, s.reg, 0, size-int16(len(b)/8)-1, s.value)
	}
	answer := int32(0)
	if r.Allow {
		answer = 1
	}
	b.add(opMove, 0, 0, 0, answer)
	b.add(opExit, 0, 0, 0, 0)
	return b, len(steps) == 0
}

// attachDevices loads the program and puts it on a cgroup of version 2, with which it goes.
func attachDevices(dir string, program []byte) error {
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count   uint32
		code, license uint64
		_             [80]byte
	}{kind: progTypeCgroupDevice, count: uint32(len(program) / 8), code: address(program), license: address(license)}
	prog, _, errno := unix.Syscall(unix.SYS_BPF, cmdProgLoad, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	runtime.KeepAlive(program)
	runtime.KeepAlive(license)
	if errno != 0 {
		return fmt.Errorf("load device program: %w", errno)
	}
	defer unix.Close(int(prog))
	cgroup, err := unix.Open(filepath.Clean(dir), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	attach := struct{ target, program, kind, flags uint32 }{uint32(cgroup), uint32(prog), attachCgroupDevice, attachMulti}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, cmdProgAttach, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		return fmt.Errorf("attach device program: %w", errno)
	}
	return nil
}

func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
