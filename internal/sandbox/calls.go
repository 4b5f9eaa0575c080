package sandbox

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawCall is one system call that a process of ours makes which has no Go runtime, and no memory
// of its own: see direct. calls_amd64.s knows the layout.
type rawCall struct {
	nr       uintptr // or one of the numbers below
	args     [6]uintptr
	indirect uintptr // 1: args[0] is the address of the argument
	pass     uintptr // the error number that does not end the list; 0: none, passAll: any
	result   uintptr // as the kernel returns it; notDone before
}

// Numbers that are not the kernel's.
const (
	callCheck = ^uintptr(0)     // ends the list where the uint32 at args[0] is 0
	callJump  = ^uintptr(0) - 1 // goes on at the call at args[0]
	callEqual = ^uintptr(0) - 2 // goes on at the call at args[2] where the word at args[0] is args[1]
)

const (
	passAll = ^uintptr(0)
	notDone = 0x7fffffff // of which futexes compare the lower half
)

// err is what the call failed with; 0 if it did not.
func (c *rawCall) err() unix.Errno {
	if n := -int(atomic.LoadUintptr(&c.result)); n > 0 && n < 4096 {
		return unix.Errno(n)
	}
	return 0
}

func (c *rawCall) made() bool { return atomic.LoadUintptr(&c.result) != notDone }

// passed tells whether the list went on after it.
func (c *rawCall) passed() bool {
	err := c.err()
	return c.made() && (err == 0 || c.pass == passAll || c.pass == uintptr(err))
}

// calls is a list of calls, and what each is for.
type calls struct {
	list  []rawCall
	what  []string
	keep  []unsafe.Pointer // what the arguments point to
	image *image           // what they point to in a program of its own; nil: the list is for our memory
}

// newCalls makes a list that never moves, as its calls are referred to.
func newCalls(size int) *calls {
	return &calls{list: make([]rawCall, 0, size), what: make([]string, 0, size)}
}

// add adds a call; what is the operation for its error. It panics where the list is full, which
// only a mistake in the sizes given to newCalls can make it.
func (l *calls) add(what string, nr uintptr, args ...uintptr) *rawCall {
	if len(l.list) == cap(l.list) {
		panic("sandbox: more calls than planned")
	}
	l.list = append(l.list, rawCall{nr: nr, result: notDone})
	l.what = append(l.what, what)
	c := &l.list[len(l.list)-1]
	copy(c.args[:], args)
	return c
}

// text is the address of a string that ends with a NUL.
func (l *calls) text(s string) uintptr { return l.bytes(append([]byte(s), 0)) }

// texts is the address of a list of strings that ends with a null pointer, as execve takes it.
func (l *calls) texts(list []string) uintptr {
	out := make([]uintptr, len(list)+1)
	for i, s := range list {
		out[i] = l.text(s)
	}
	return l.bytes(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(out)*int(unsafe.Sizeof(out[0]))))
}

// bytes is the address of bytes, which nobody changes.
func (l *calls) bytes(b []byte) uintptr {
	if l.image != nil {
		return l.image.add(b)
	}
	return l.pointer(unsafe.Pointer(unsafe.SliceData(b)))
}

// place is the address of something without pointers.
func place[T any](l *calls, v *T) uintptr {
	return l.bytes(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
}

// filter is the address of a program for seccomp(2).
func (l *calls) filter(program []byte) uintptr {
	return place(l, &struct { // struct sock_fprog
		length  uint16
		program uintptr
	}{uint16(len(program) / 8), l.bytes(program)})
}

// pointer is the address of something that lives as long as the list.
func (l *calls) pointer(p unsafe.Pointer) uintptr {
	l.keep = append(l.keep, p)
	return uintptr(p)
}

// newFS adds what makes a file system, not mounted anywhere: the last call's result is the
// descriptor of its mount. See the function newFS.
func (l *calls) newFS(what, kind, source string, data []string, attrs uint64) (context, mounted *rawCall) {
	context = l.add(what, unix.SYS_FSOPEN, l.text(kind), unix.FSOPEN_CLOEXEC)
	of := l.pointer(unsafe.Pointer(&context.result))
	config := func(command uintptr, key, value uintptr) *rawCall {
		c := l.add(what, unix.SYS_FSCONFIG, of, command, key, value)
		c.indirect = 1
		return c
	}
	if source != "" {
		config(unix.FSCONFIG_SET_STRING, l.text("source"), l.text(source)).pass = passAll
	}
	for _, option := range data {
		key, value, isString := cutOption(option)
		if isString {
			config(unix.FSCONFIG_SET_STRING, l.text(key), l.text(value))
		} else {
			config(unix.FSCONFIG_SET_FLAG, l.text(key), 0)
		}
	}
	config(unix.FSCONFIG_CMD_CREATE, 0, 0)
	mounted = l.add(what, unix.SYS_FSMOUNT, of, unix.FSMOUNT_CLOEXEC, uintptr(attrs))
	mounted.indirect = 1
	return context, mounted
}

// wake adds what wakes who waits for the result of a call.
func (l *calls) wake(c *rawCall) {
	l.add("wake", unix.SYS_FUTEX, l.pointer(unsafe.Pointer(&c.result)), futexWake, 1).pass = passAll
}

// Operations of futex(2).
const (
	futexWait = 0
	futexWake = 1
)

// await waits until a word is not the given value any more, some time at most.
func await(word *uint32, value uint32, limit unix.Timespec) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(value), uintptr(unsafe.Pointer(&limit)), 0, 0)
}
