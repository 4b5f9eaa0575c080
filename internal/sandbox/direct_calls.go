package sandbox

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// giveUp makes the list of what the process does once its sandbox is there: what becomeUser and
// execute do in a copy of the program, in the same order.
func (t *thread) giveUp() error {
	names, err := t.findPrograms()
	if err != nil {
		return err
	}
	l := newCalls(224 + len(t.plan.Rlimits) + 2*len(names))
	t.tail = l
	t.part(l)
	resetAllSignals(l)
	// A session keyring of its own: the one inherited is ours.
	l.add("session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING).pass = passAll
	for _, r := range t.plan.Rlimits {
		limit := &unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		l.add("set resource limit "+strings.Fields(rlimitNames)[r.Resource],
			unix.SYS_PRLIMIT64, 0, uintptr(r.Resource), l.pointer(unsafe.Pointer(limit)), 0)
	}
	if err := t.becomeUser(l); err != nil {
		return err
	}
	t.dieWithThread(l) // changing the user undid it
	t.execute(l, names)
	return nil
}

// part has the process keep nothing of ours but its three streams.
func (t *thread) part(l *calls) {
	l.add("part with descriptors", unix.SYS_UNSHARE, unix.CLONE_FILES|unix.CLONE_FS)
	for i, fd := range t.stdio() {
		l.add("take over standard streams", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
	l.add("close descriptors", unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), 0)
	l.add("new session", unix.SYS_SETSID)
	if t.slave >= 0 {
		l.add("make terminal the controlling one", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
}

// resetAllSignals: see resetSignals. Only then they are let through.
func resetAllSignals(l *calls) {
	byDefault := l.pointer(unsafe.Pointer(new([4]uint64))) // struct sigaction
	for sig := uintptr(1); sig <= 64; sig++ {
		l.add("reset signals", unix.SYS_RT_SIGACTION, sig, byDefault, 0, 8).pass = passAll
	}
	none := l.pointer(unsafe.Pointer(new(unix.Sigset_t)))
	l.add("reset signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, none, 0, 8)
}

func (t *thread) becomeUser(l *calls) error {
	c := &t.child
	for n := range uintptr(64) {
		if c.Caps.Bounding&(1<<n) == 0 {
			// The kernel may know less capabilities.
			l.add("limit capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0).pass = uintptr(unix.EINVAL)
		}
	}
	const become = "become user"
	l.add(become, unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	groups := append([]uint32{}, c.User.Groups...)
	l.add(become, unix.SYS_SETGROUPS, uintptr(len(groups)), l.pointer(unsafe.Pointer(unsafe.SliceData(groups))))
	gid, uid := uintptr(c.User.GID), uintptr(c.User.UID)
	l.add(become, unix.SYS_SETRESGID, gid, gid, gid)
	l.add(become, unix.SYS_SETRESUID, uid, uid, uid)
	l.add(become, unix.SYS_UMASK, uintptr(c.User.Umask))
	now, err := allowed()
	if err != nil {
		return fail(become, err)
	}
	l.capset(become, now)
	if c.NoNewPriv {
		l.add("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if len(c.Filter) > 0 {
		prog := l.pointer(unsafe.Pointer(c.filterProgram()))
		l.add("load seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(c.FilterFlags), prog)
	}
	const set = "set capabilities"
	l.add(set, unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	l.capset(set, c.Caps)
	l.add(set, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for n := range uintptr(lastCap + 1) {
		if c.Caps.Ambient&(1<<n) != 0 {
			l.add(set, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0)
		}
	}
	return nil
}

func (l *calls) capset(what string, s capSets) {
	head, data := s.kernel()
	l.add(what, unix.SYS_CAPSET, l.pointer(unsafe.Pointer(head)), l.pointer(unsafe.Pointer(data)))
}

const atCwd = ^uintptr(99) // AT_FDCWD

// execute tries one file after the other. After one that the process may not execute the next is
// tried, where a name was looked up; what it sees of the file tells the error.
func (t *thread) execute(l *calls, names []string) {
	args, env := l.texts(t.plan.Args), l.texts(t.plan.Env)
	search := !strings.Contains(t.plan.Args[0], "/")
	for _, name := range names {
		p := program{name: name, info: new(unix.Stat_t)}
		file := l.text(name)
		p.execve = l.add("", unix.SYS_EXECVE, file, args, env)
		p.execve.pass = passAll
		if search {
			p.execve.pass = uintptr(unix.EACCES)
		}
		p.stat = l.add("", unix.SYS_NEWFSTATAT, atCwd, file, l.pointer(unsafe.Pointer(p.info)), 0)
		p.stat.pass = passAll
		t.programs = append(t.programs, p)
	}
	l.add("exit", unix.SYS_EXIT_GROUP, CodeSandbox)
}
