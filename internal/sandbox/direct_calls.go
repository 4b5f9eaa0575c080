package sandbox

import (
	"encoding/binary"
	"fmt"
	"strconv"
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
	l.limit(t.plan.Rlimits)
	now, err := allowed()
	if err != nil {
		return fail("become user", err)
	}
	l.becomeUser(&t.child, now)
	t.dieWithThread(l) // changing the user undid it
	t.execute(l, names)
	return nil
}

// limit sets resource limits.
func (l *calls) limit(limits []rlimit) {
	for _, r := range limits {
		limit := &unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		l.add("set resource limit "+strings.Fields(rlimitNames)[r.Resource],
			unix.SYS_PRLIMIT64, 0, uintptr(r.Resource), place(l, limit), 0)
	}
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
	byDefault := place(l, new([4]uint64)) // struct sigaction
	for sig := uintptr(1); sig <= 64; sig++ {
		l.add("reset signals", unix.SYS_RT_SIGACTION, sig, byDefault, 0, 8).pass = passAll
	}
	none := place(l, new(unix.Sigset_t))
	l.add("reset signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, none, 0, 8)
}

// becomeUser has the process have the rights that a child has in the end; now are the capabilities that it may have
// until then.
func (l *calls) becomeUser(c *child, now capSets) {
	for n := range uintptr(64) {
		if c.Caps.Bounding&(1<<n) == 0 {
			// The kernel may know less capabilities.
			l.add("limit capabilities", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0).pass = uintptr(unix.EINVAL)
		}
	}
	const become = "become user"
	l.add(become, unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	if !c.NoSetgroups {
		var groups []byte
		for _, g := range c.User.Groups {
			groups = binary.NativeEndian.AppendUint32(groups, g)
		}
		l.add(become+": set groups "+fmt.Sprint(c.User.Groups), unix.SYS_SETGROUPS, uintptr(len(c.User.Groups)), l.bytes(append(groups, 0)))
	}
	gid, uid := uintptr(c.User.GID), uintptr(c.User.UID)
	l.add(become+": set gid "+strconv.Itoa(int(c.User.GID)), unix.SYS_SETRESGID, gid, gid, gid)
	l.add(become+": set uid "+strconv.Itoa(int(c.User.UID)), unix.SYS_SETRESUID, uid, uid, uid)
	l.hide() // which another uid may have undone (suid_dumpable of proc_sys_fs(5))
	l.add(become, unix.SYS_UMASK, uintptr(c.User.Umask))
	l.capset(become, now)
	if c.NoNewPriv {
		l.add("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if len(c.Filter) > 0 {
		l.add("load seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(c.FilterFlags), l.filter(c.Filter))
	}
	const set = "set capabilities"
	l.add(set, unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	l.capset(set, c.Caps)
	l.add(set, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for n := range uintptr(lastCap + 1) {
		if c.Caps.Ambient&c.Caps.Permitted&c.Caps.Inheritable&(1<<n) != 0 { // see setCaps
			l.add(set, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, n, 0, 0)
		}
	}
}

// hide keeps other processes from looking into this one.
func (l *calls) hide() {
	l.add("hide", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

func (l *calls) capset(what string, s capSets) {
	head, data := s.kernel()
	l.add(what, unix.SYS_CAPSET, place(l, head), place(l, data))
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
