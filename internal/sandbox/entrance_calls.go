package sandbox

import (
	"encoding/binary"
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// build makes the program.
func (e *entrance) build() error {
	names := e.names()
	l := newProgram(360 + len(e.plan.Rlimits) + 9*len(names))
	e.calls = l
	first := l.next()
	e.inParent()
	if err := e.inChild(names); err != nil {
		return err
	}
	ended := l.next()
	l.add("tell", unix.SYS_WRITE, entranceSocket, imageData, uintptr(l.size()))
	l.add("exit", unix.SYS_EXIT_GROUP, CodeSandbox)
	l.finish(first, ended)
	return nil
}

// inParent is what the first process does, up to where the other goes on.
func (e *entrance) inParent() {
	l := e.calls
	l.hide() // before anything that lets others see it
	l.add("enter namespaces", unix.SYS_SETNS, entrancePidfd, uintptr(e.to.flags))
	if e.to.root {
		l.add("become root", unix.SYS_SETRESGID, 0, 0, 0).pass = passAll
		l.add("become root", unix.SYS_SETRESUID, 0, 0, 0).pass = passAll
		l.hide()
	}
	cloned := l.add("clone", unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_PARENT, 0, 0, 0, 0)
	inChild := l.equal(cloned, 0, 0)
	l.add("exit", unix.SYS_EXIT_GROUP, 0)
	inChild.args[2] = l.next()
}

// inChild is what runJoined does in a copy of this program, in the same order.
func (e *entrance) inChild(names []string) error {
	l, p := e.calls, e.plan
	l.add("set parent death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	l.add("new session", unix.SYS_SETSID)
	l.tell(entranceHere)
	wait := l.add("wait", unix.SYS_READ, entranceSocket, l.bytes(make([]byte, 8)), 8)
	l.expect("wait", l.resultOf(wait), 8) // else there is nobody left who started it
	// A session keyring of its own: the one inherited is ours.
	l.add("session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING).pass = passAll
	if p.Terminal {
		e.makeTerminal()
	}
	e.enterCwd()
	resetAllSignals(l)
	l.limit(p.Rlimits)
	e.giveStdio()
	// Its standard streams and the socket are all that is left, and the socket is closed when the program is executed.
	l.add("close descriptors", unix.SYS_CLOSE_RANGE, entranceSocket+1, uintptr(^uint32(0)), 0)
	l.add("close descriptors", unix.SYS_FCNTL, entranceSocket, unix.F_SETFD, unix.FD_CLOEXEC)
	now := fullCaps()
	if !e.to.root {
		var err error
		if now, err = allowed(); err != nil {
			return fail("become user", err)
		}
	}
	l.becomeUser(&e.child, now)
	e.dieWithUs()
	l.tell(entranceStarting)
	e.executeAny(names)
	return nil
}

// tell writes a word to the socket.
func (l *calls) tell(word uint64) {
	l.add("tell", unix.SYS_WRITE, entranceSocket, place(l, &word), unsafe.Sizeof(word))
}

// fullCaps are those of who has entered a user namespace: allowed, there.
func fullCaps() capSets {
	const all = 1<<(lastCap+1) - 1
	return capSets{Effective: all, Permitted: all}
}

// enterCwd: see child.enterCwd.
func (e *entrance) enterCwd() {
	l := e.calls
	what := "enter working directory " + e.plan.Cwd
	root := l.add(what, unix.SYS_OPENAT, atCwd, l.text("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	opened := l.openat2(what, l.resultOf(root), e.plan.Cwd, unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	opened.indirect = 1
	opened.pass = uintptr(unix.EAGAIN)
	l.equal(opened, unix.EAGAIN, l.at(opened, 0)) // something on this machine was renamed or mounted at that moment
	entered := l.add(what, unix.SYS_FCHDIR, l.resultOf(opened))
	entered.indirect = 1
	e.cwd = []*rawCall{root, opened, entered}
	// A directory outside of the root has no path. The first byte of a path is the last of a word.
	word := make([]byte, 8)
	buf := l.bytes(make([]byte, 8+unix.PathMax))
	l.add(what, unix.SYS_GETCWD, buf+7, unix.PathMax).pass = passAll
	word[7] = '/'
	e.outside = l.expect(what, buf, uintptr(binary.NativeEndian.Uint64(word)))
}

// giveStdio: see child.giveStdio.
func (e *entrance) giveStdio() {
	u := &e.plan.User
	for i, own := range e.plan.OwnStdio {
		if !own || u.UID == 0 && u.GID == 0 {
			continue
		}
		c := e.calls.add("give standard streams to the user", unix.SYS_FCHOWN, uintptr(i), uintptr(u.UID), uintptr(u.GID))
		if e.plan.Userns { // there it may be somebody else's
			c.pass = passAll
		}
	}
}

// dieWithUs has it die with who started it, unless it is to outlive us, and end where that has happened.
func (e *entrance) dieWithUs() {
	l := e.calls
	if e.plan.Outlives {
		l.add("outlive", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
		return
	}
	l.add("set parent death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	none := [2]uint32{entranceSocket, 0} // struct pollfd
	poll := place(l, &none)
	l.add("poll", unix.SYS_PPOLL, poll, 1, place(l, new(unix.Timespec)), 0, 8).pass = passAll
	l.expect("poll", poll, entranceSocket)
}

// names are the files that may be what is to be executed.
func (e *entrance) names() []string {
	name := e.plan.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var names []string
	known := map[string]bool{}
	for dir := range strings.SplitSeq(e.child.searchPath(), ":") {
		if file := path.Join(dir, name); !known[file] {
			known[file] = true
			names = append(names, file)
		}
	}
	return names
}

// executeAny is child.search.
func (e *entrance) executeAny(names []string) {
	l := e.calls
	args, env := l.texts(e.plan.Args), l.texts(e.plan.Env)
	search := !strings.Contains(e.plan.Args[0], "/")
	for _, name := range names {
		file := l.text(name)
		p := program{name: name, info: new(unix.Stat_t), infoAt: l.bytes(make([]byte, unsafe.Sizeof(unix.Stat_t{})))}
		p.execve = l.add("execute", unix.SYS_EXECVE, file, args, env)
		p.execve.pass = passAll
		p.stat = l.add("stat", unix.SYS_NEWFSTATAT, atCwd, file, p.infoAt, 0)
		p.stat.pass = passAll
		var next []*rawCall
		if search {
			next = append(next, l.equal(p.execve, unix.EACCES, 0))
			there := l.equal(p.stat, 0, 0) // and still it was not executed
			next = append(next, l.equal(p.execve, unix.ENOENT, 0), l.equal(p.execve, unix.ENOTDIR, 0))
			there.args[2] = l.next()
		}
		p.end = l.end("execute")
		for _, c := range next {
			c.args[2] = l.next()
		}
		e.programs = append(e.programs, p)
	}
	l.end("search")
}

// equal goes on at another call where one has failed so, or, with 0, where its result is 0.
func (l *calls) equal(c *rawCall, errno unix.Errno, to uintptr) *rawCall {
	return l.add("", callEqual, l.resultOf(c), -uintptr(errno), to)
}

// end ends the list.
func (l *calls) end(what string) *rawCall {
	return l.add(what, callCheck, place(l, new(uint64)))
}

// expect ends the list, at the call returned, unless the word at an address is the given one.
func (l *calls) expect(what string, address, word uintptr) *rawCall {
	equal := l.add("", callEqual, address, word, 0)
	end := l.end(what)
	equal.args[2] = l.next()
	return end
}

// failure says why the program did not become that of the sandbox, by the call that ended it.
func (e *entrance) failure(ended int) error {
	c := &e.calls.list[ended]
	switch {
	case slices.Contains(e.cwd, c):
		return e.child.cwdNotEntered(c.err())
	case c == e.outside:
		return e.child.cwdOutside()
	case c == e.noTerminals:
		return fail(e.calls.what[ended], errNoTerminals)
	case c.nr == callCheck && e.calls.what[ended] != "execute" && e.calls.what[ended] != "search":
		return errEnded
	case c.nr != callCheck:
		return fail(e.calls.what[ended], c.err())
	}
	denied := false
	for i := range e.programs {
		p := &e.programs[i]
		copy(unsafe.Slice((*byte)(unsafe.Pointer(p.info)), unsafe.Sizeof(*p.info)), e.calls.image.data[p.infoAt-imageData:])
		if p.end == c {
			return notExecuted(p.name, p.execve.err(), p.there(), p.isFile())
		}
		denied = denied || p.execve.err() == unix.EACCES && p.isFile()
	}
	if denied {
		return notExecuted(e.plan.Args[0], unix.EACCES, false, false)
	}
	return notFound(e.plan.Args[0])
}
