package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A list of calls can be a program of its own: an ELF file whose code is the machine of calls_amd64.s and whose data are
// the list and all that its arguments point to. A process of it has nothing in its memory that is ours, no runtime, and as
// its executable a file that nobody can write to, not even when it is executed no more.

// Where a program is in its memory.
const (
	imageCode = 0x400000
	imageData = 0x500000 // calls_amd64.s has it, too
)

// The data begin with three words, by which calls_amd64.s goes, then comes the list.
const (
	imageFirst = 0  // the address of the first call
	imageStop  = 8  // that of the first to be made when another ended the list
	imageEnded = 16 // that of the one which did
	imageList  = 24

	callSize = int(unsafe.Sizeof(rawCall{}))
)

// image is the data of a program.
type image struct{ data []byte }

// newProgram makes a list that is to be a program.
func newProgram(size int) *calls {
	l := newCalls(size)
	l.image = &image{make([]byte, imageList+size*callSize)}
	return l
}

// add is the address of a copy of b.
func (m *image) add(b []byte) uintptr {
	for len(m.data)%8 != 0 {
		m.data = append(m.data, 0)
	}
	at := len(m.data)
	m.data = append(m.data, b...)
	return uintptr(imageData + at)
}

// at is the address of a call in a program, or of its result or pass with the offset of that.
func (l *calls) at(c *rawCall, offset uintptr) uintptr {
	distance := uintptr(unsafe.Pointer(c)) - uintptr(unsafe.Pointer(unsafe.SliceData(l.list)))
	return imageData + imageList + distance + offset
}

func (l *calls) resultOf(c *rawCall) uintptr { return l.at(c, unsafe.Offsetof(c.result)) }

// next is the address of the call that will be added next.
func (l *calls) next() uintptr { return imageData + imageList + uintptr(len(l.list)*callSize) }

// size is how long the data are.
func (l *calls) size() int { return len(l.image.data) }

// finish completes the data, with the addresses of the first call and of those that end it.
func (l *calls) finish(first, stop uintptr) {
	copy(l.image.data[imageList:], unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(l.list))), len(l.list)*callSize))
	binary.NativeEndian.PutUint64(l.image.data[imageFirst:], uint64(first))
	binary.NativeEndian.PutUint64(l.image.data[imageStop:], uint64(stop))
}

// load takes over the data of a process that ended. It is the number of the call that ended it, or -1.
func (l *calls) load(data []byte) int {
	l.image.data = data
	copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(l.list))), len(l.list)*callSize), data[imageList:])
	ended := int(binary.NativeEndian.Uint64(data[imageEnded:])) - imageData - imageList
	if ended < 0 || ended%callSize != 0 || ended/callSize >= len(l.list) {
		return -1
	}
	return ended / callSize
}

// machineEnd follows the code of the machine.
var machineEnd = [8]byte{'n', 'a', 'c', 'r', 'e', '.', '.', '.'}

// machineCode is what all programs execute.
func machineCode() []byte {
	const most = 1 << 10
	code := unsafe.Slice(machineAddress(), most)
	return code[:bytes.Index(code, machineEnd[:])]
}

// elf is the program as a file.
func (l *calls) elf() []byte {
	const head, part, page = 64, 56, 4096
	code := machineCode()
	order := binary.LittleEndian
	b := make([]byte, 0, page+len(l.image.data))
	b = append(b, "\x7fELF\x02\x01\x01"...)
	b = append(b, make([]byte, 16-len(b))...)
	for _, n := range []uint16{2, elfMachine} { // an executable
		b = order.AppendUint16(b, n)
	}
	b = order.AppendUint32(b, 1)
	start := head + 3*part
	for _, n := range []uint64{uint64(imageCode + start), head, 0} {
		b = order.AppendUint64(b, n)
	}
	b = order.AppendUint32(b, 0)
	for _, n := range []uint16{head, part, 3, 0, 0, 0} {
		b = order.AppendUint16(b, n)
	}
	for _, p := range []struct {
		kind, flags  uint32
		offset, at   uint64
		length, step uint64
	}{
		{1, 5, 0, imageCode, uint64(start + len(code)), page}, // read and executed
		{1, 6, page, imageData, uint64(len(l.image.data)), page},
		{0x6474e551, 6, 0, 0, 0, 16}, // a stack that is not executed
	} {
		b = order.AppendUint32(order.AppendUint32(b, p.kind), p.flags)
		for _, n := range []uint64{p.offset, p.at, p.at, p.length, p.length, p.step} {
			b = order.AppendUint64(b, n)
		}
	}
	b = append(b, code...)
	b = append(b, make([]byte, page-len(b))...)
	return append(b, l.image.data...)
}

// executable is the program as a file that is nowhere but in memory, and sealed.
func (l *calls) executable() (*os.File, error) {
	// What another thread starts meanwhile would have it open for writing until it executes its program, and who is open
	// for writing cannot be executed.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	const name, flags = "nacre-exec", unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags) // Linux before 6.3
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	defer unix.Close(fd)
	for b := l.elf(); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			return nil, os.NewSyscallError("write", err)
		}
		b = b[n:]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	file := "/proc/self/fd/" + strconv.Itoa(fd)
	again, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	return os.NewFile(uintptr(again), name), nil
}
