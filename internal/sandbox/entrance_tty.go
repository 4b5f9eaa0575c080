package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// makeTerminal is child.openTerminals and child.makeTerminal.
func (e *entrance) makeTerminal() {
	l := e.calls
	const find, open = "open /dev/pts", "open terminal"
	pts := l.openat2(find, atCwd, "/dev/pts", unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	system := place(l, new(unix.Statfs_t)) // which begins with its type
	l.add(find, unix.SYS_FSTATFS, l.resultOf(pts), system).indirect = 1
	e.noTerminals = l.expect(find, system, unix.DEVPTS_SUPER_MAGIC)

	ptmx := l.openat2(open, l.resultOf(pts), "ptmx", openPtsHow())
	ptmx.indirect = 1
	// Where it has a number that is known.
	const master = entrancePidfd + 1
	l.add(open, unix.SYS_DUP3, l.resultOf(ptmx), master, unix.O_CLOEXEC).indirect = 1
	l.add("unlock terminal", unix.SYS_IOCTL, master, unix.TIOCSPTLCK, place(l, new(uint64)))
	if size := e.plan.Size; size != (Size{}) {
		l.add("set terminal size", unix.SYS_IOCTL, master, unix.TIOCSWINSZ, place(l, size.kernel()))
	}
	slave := l.add(open, unix.SYS_IOCTL, master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	for fd := range uintptr(3) {
		l.add("use terminal", unix.SYS_DUP3, l.resultOf(slave), fd, 0).indirect = 1
	}
	l.add("give terminal to the user", unix.SYS_FCHOWN, 0, uintptr(e.plan.User.UID), ^uintptr(0))
	l.add("make terminal the controlling one", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	l.send("hand over terminal", entranceTerminal, master)
}

// openat2 opens a file, as an address says where args[0] is one.
func (l *calls) openat2(what string, dir uintptr, name string, how unix.OpenHow) *rawCall {
	return l.add(what, unix.SYS_OPENAT2, dir, l.text(name), place(l, &how), unsafe.Sizeof(how))
}

// send writes a word to the socket, and a descriptor with it.
func (l *calls) send(what string, word uint64, fd uint32) {
	control := unix.UnixRights(int(fd))
	part := struct{ base, length uintptr }{place(l, &word), 8} // struct iovec
	message := struct {                                        // struct msghdr
		name, nameLength, parts, count, control, controlLength, flags uintptr
	}{parts: place(l, &part), count: 1, control: l.bytes(control), controlLength: uintptr(len(control))}
	l.add(what, unix.SYS_SENDMSG, entranceSocket, place(l, &message), unix.MSG_NOSIGNAL)
}
