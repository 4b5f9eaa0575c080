package isolation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A process can leave for a new user namespace only as long as it has a single thread, which a
// Go program never has. So it executes, for a moment, another program that has: a script, a
// list of system calls, which ends with executing this program again. It keeps its process
// id through all of it, and so its parent, its terminal and the signals that are sent to it.
//
// The program is an ELF file in memory: 60 bytes of code (stub_GOARCH.s) that do one
// call of the list after another, and the list with all that it refers to.

// call is a system call of a script.
type call struct {
	nr   uintptr
	args [6]uintptr
	// min is the least result that is a success. After less the script goes on at fail.
	min  int64
	fail uintptr // address of a call
	// store is the address that gets the result.
	store uintptr
}

const (
	callSize = 10 * 8
	maxCalls = 64

	codeBase = 0x10000000
	dataBase = 0x20000000 // the code knows it

	codeSize = 256
)

// script is a program being written. Addresses are those it will have in memory.
type script struct {
	calls []call
	data  []byte
}

// word makes room for a number.
func (s *script) word() uintptr {
	s.data = append(s.data, make([]byte, -len(s.data)&7)...)
	at := dataBase + maxCalls*callSize + uintptr(len(s.data))
	s.data = append(s.data, make([]byte, 8)...)
	return at
}

// text puts a string that ends in a zero.
func (s *script) text(v string) uintptr {
	at := dataBase + maxCalls*callSize + uintptr(len(s.data))
	s.data = append(append(s.data, v...), 0)
	return at
}

// texts puts a list of strings as execve(2) takes it.
func (s *script) texts(list []string) uintptr {
	at := make([]uintptr, 0, len(list)+1)
	for _, v := range list {
		at = append(at, s.text(v))
	}
	s.data = append(s.data, make([]byte, -len(s.data)&7)...)
	start := dataBase + maxCalls*callSize + uintptr(len(s.data))
	for _, v := range append(at, 0) {
		s.data = binary.NativeEndian.AppendUint64(s.data, uint64(v))
	}
	return start
}

// add adds a call; it says where, for results to be stored in its arguments.
func (s *script) add(c call) int {
	s.calls = append(s.calls, c)
	return len(s.calls) - 1
}

func callAddr(n int) uintptr { return dataBase + uintptr(n)*callSize }

// argAddr is where argument arg of call n is.
func argAddr(n, arg int) uintptr { return callAddr(n) + 8 + uintptr(arg)*8 }

var errScript = errors.New("too many system calls")

// image is the script as an ELF file.
func (s *script) image() ([]byte, error) {
	if len(s.calls) > maxCalls {
		return nil, errScript
	}
	void := s.word()
	data := make([]byte, 0, maxCalls*callSize+len(s.data))
	for _, c := range s.calls {
		if c.store == 0 {
			c.store = void
		}
		words := []uint64{uint64(c.nr)}
		for _, a := range c.args {
			words = append(words, uint64(a))
		}
		for _, w := range append(words, uint64(c.min), uint64(c.fail), uint64(c.store)) {
			data = binary.NativeEndian.AppendUint64(data, w)
		}
	}
	data = append(data, make([]byte, maxCalls*callSize-len(data))...)
	data = append(data, s.data...)

	return elfImage(stubProgram(), data), nil
}

// elfImage is an ELF file with a segment of code, where it starts, and one of data (elf(5)).
func elfImage(code, data []byte) []byte {
	const (
		headSize, segmentSize = 64, 56
		loads, stack          = 1, 0x6474e551 // PT_LOAD, PT_GNU_STACK
		read, write, exec     = 4, 2, 1
		codeAt, dataAt        = 0x10000, 0x20000 // in the file; a page has 64 KiB at most
	)
	le := binary.LittleEndian
	file := make([]byte, 0, dataAt+len(data))
	file = append(file, 0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0) // 64 bits, little endian, version 1
	file = le.AppendUint16(file, 2)                                              // ET_EXEC
	file = le.AppendUint16(file, stubMachine())
	file = le.AppendUint32(file, 1)
	for _, n := range []uint64{codeBase, headSize, 0} { // where it starts, where segments and sections are described
		file = le.AppendUint64(file, n)
	}
	file = le.AppendUint32(file, 0)
	for _, n := range []uint16{headSize, segmentSize, 3, 0, 0, 0} {
		file = le.AppendUint16(file, n)
	}
	segment := func(kind, flags uint32, off, addr, size uint64) {
		file = le.AppendUint32(le.AppendUint32(file, kind), flags)
		for _, n := range []uint64{off, addr, addr, size, size, 0x10000} {
			file = le.AppendUint64(file, n)
		}
	}
	segment(loads, read|exec, codeAt, codeBase, uint64(len(code)))
	segment(loads, read|write, dataAt, dataBase, uint64(len(data)))
	segment(stack, read|write, 0, 0, 0)
	file = append(file, make([]byte, codeAt-len(file))...)
	file = append(file, code...)
	file = append(file, make([]byte, dataAt-len(file))...)
	return append(file, data...)
}

// become makes this process the script. It returns if that cannot be.
func (s *script) become(name string) error {
	image, err := s.image()
	if err != nil {
		return err
	}
	const mfdExec = 0x10 // MFD_EXEC, Linux 6.3
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|mfdExec)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(image); err != nil {
		return err
	}
	// A file that is open for writing cannot be executed: it is opened anew, for reading.
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	ro, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(ro)
	f.Close()
	path = fmt.Sprintf("/proc/self/fd/%d", ro)
	return &os.PathError{Op: "exec", Path: path, Err: unix.Exec(path, []string{name}, nil)}
}
