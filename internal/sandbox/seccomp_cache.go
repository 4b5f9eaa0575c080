package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// programs are the filters compiled so far, by profile. A build runs many processes
// with the same.
var programs sync.Map // [32]byte → []byte

// seccompProgram is compileSeccomp, once per profile.
func seccompProgram(p *specs.LinuxSeccomp) ([]byte, error) {
	key := profileKey(p)
	if prog, ok := programs.Load(key); ok {
		return prog.([]byte), nil
	}
	prog, ok := readyFilter(key)
	if !ok {
		var err error
		if prog, err = compileSeccomp(p); err != nil {
			return nil, err
		}
	}
	programs.Store(key, prog)
	return prog, nil
}

// profileKey is a digest of all that goes into the program.
func profileKey(p *specs.LinuxSeccomp) [32]byte {
	buf := make([]byte, 0, 16<<10)
	text := func(s string) { buf = append(binary.AppendUvarint(buf, uint64(len(s))), s...) }
	number := func(n *uint) {
		if n == nil {
			buf = append(buf, 0)
			return
		}
		buf = binary.AppendUvarint(append(buf, 1), uint64(*n))
	}
	text(string(p.DefaultAction))
	number(p.DefaultErrnoRet)
	buf = binary.AppendUvarint(buf, uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		text(string(a))
	}
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		buf = binary.AppendUvarint(buf, uint64(len(s.Names)))
		for _, name := range s.Names {
			text(name)
		}
		text(string(s.Action))
		number(s.ErrnoRet)
		buf = binary.AppendUvarint(buf, uint64(len(s.Args)))
		for _, a := range s.Args {
			buf = binary.AppendUvarint(buf, uint64(a.Index))
			buf = binary.AppendUvarint(buf, a.Value)
			buf = binary.AppendUvarint(buf, a.ValueTwo)
			text(string(a.Op))
		}
	}
	return sha256.Sum256(buf)
}
