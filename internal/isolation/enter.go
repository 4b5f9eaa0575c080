package isolation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// insideName is the variable that tells this program, started again, where it is: "userns:1000:1000",
// the kind and the user's ids outside; or what happened instead, in place of the kind.
const insideName = "_NACRE_ISOLATION"

// marker is what the variable said when the process began. The programs it starts do not get it.
type marker struct {
	kind     string
	uid, gid int
}

var startedAs = sync.OnceValue(func() marker {
	text, ok := os.LookupEnv(insideName)
	if !ok {
		return marker{}
	}
	os.Unsetenv(insideName)
	var m marker
	part := strings.Split(text, ":")
	if len(part) != 3 {
		return m
	}
	uid, err1 := strconv.Atoi(part[1])
	gid, err2 := strconv.Atoi(part[2])
	if err1 != nil || err2 != nil {
		return m
	}
	return marker{part[0], uid, gid}
})

const (
	markRefused = "refused" // no namespace could be made
	markLost    = "lost"    // there is one, but without a map of ids
)

func mark(kind string, c Choice) string {
	return fmt.Sprintf("%s=%s:%d:%d", insideName, kind, c.UID, c.GID)
}

// Enter takes this process into a user namespace as of c, or that which c is beside, and a mount namespace of its own, by executing this
// program again with the same arguments and the variables env on top of its environment. It
// returns only if that could not even be tried: the kernel's refusal is found by the program that is
// executed, by Choose.
func Enter(c Choice, env ...string) error {
	if c.Inside || c.Kind != Userns && c.Kind != Single {
		return fmt.Errorf("there is nothing to enter with isolation %s", c.Kind)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// The path may by now be that of another file, or of none.
	self, err := unix.Open("/proc/self/exe", unix.O_PATH, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/self/exe", Err: err}
	}
	defer unix.Close(self)
	s := newEntry(exe, self, c, environ(env...))
	if err := s.write(); err != nil {
		return err
	}
	return s.become("nacre: enter")
}

// environ is our environment with some variables set.
func environ(set ...string) []string {
	list := os.Environ()
	for _, v := range set {
		name, _, _ := strings.Cut(v, "=")
		list = slices.DeleteFunc(list, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		list = append(list, v)
	}
	return list
}

// entry is the script that enters a namespace.
type entry struct {
	script
	choice Choice
	again  program // once inside
	env    []string
}

// program is something to be executed.
type program struct {
	path string
	self int // a descriptor of it, should the path not do
}

func newEntry(exe string, self int, c Choice, env []string) *entry {
	return &entry{choice: c, again: program{exe, self}, env: env}
}

// write writes the script. Its end comes first, for calls that fail to be led there.
func (s *entry) write() error {
	start := s.add(call{}) // a call that leads to where it begins, filled in below
	refused := s.exec(markRefused)
	lost := s.exec(markLost)
	var begin int
	var err error
	switch {
	case s.choice.Beside != 0:
		begin, err = s.inOther(refused)
	case s.choice.Kind == Userns:
		begin, err = s.withMappers(refused, lost)
	default:
		begin = s.withOneID(refused, lost)
	}
	if err != nil {
		return err
	}
	s.exec(string(s.choice.Kind))
	s.calls[start] = call{nr: unix.SYS_GETPID, min: 1 << 62, fail: callAddr(begin)} // no process has that id
	return nil
}

// exec adds calls that execute this program again.
func (s *entry) exec(kind string) uintptr {
	args, env := s.texts(os.Args), s.texts(append(slices.Clone(s.env), mark(kind, s.choice)))
	at := s.add(call{nr: unix.SYS_FCNTL, args: [6]uintptr{uintptr(s.again.self), unix.F_SETFD, unix.FD_CLOEXEC}, min: -4095})
	const tryNext = -4095 // whatever the result, the next call follows
	s.add(call{nr: unix.SYS_EXECVE, args: [6]uintptr{s.text(s.again.path), args, env}, min: tryNext})
	s.add(call{nr: unix.SYS_EXECVEAT, args: [6]uintptr{uintptr(s.again.self), s.text(""), args, env, unix.AT_EMPTY_PATH}, min: tryNext})
	s.exit(125)
	return callAddr(at)
}

func (s *entry) exit(code uintptr) uintptr {
	return callAddr(s.add(call{nr: unix.SYS_EXIT_GROUP, args: [6]uintptr{code}}))
}

// namespaces are those entered: mounts can be made only in a mount namespace that belongs to the user namespace.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS

// withOneID maps root to the user, which every process may do for itself once it has given up
// setgroups(2): with it a process could leave groups that files deny something to.
func (s *entry) withOneID(refused, lost uintptr) int {
	begin := s.add(call{nr: unix.SYS_UNSHARE, args: [6]uintptr{namespaces}, fail: refused})
	for _, f := range []struct{ name, text string }{
		{"/proc/self/setgroups", "deny"},
		{"/proc/self/uid_map", fmt.Sprintf("0 %d 1\n", s.choice.UID)},
		{"/proc/self/gid_map", fmt.Sprintf("0 %d 1\n", s.choice.GID)},
	} {
		open := s.add(call{nr: unix.SYS_OPENAT, args: [6]uintptr{cwd, s.text(f.name), unix.O_WRONLY | unix.O_CLOEXEC}, fail: lost})
		write := s.add(call{nr: unix.SYS_WRITE, args: [6]uintptr{0, s.text(f.text), uintptr(len(f.text))}, min: int64(len(f.text)), fail: lost})
		s.calls[open].store = argAddr(write, 0)
	}
	return begin
}

const cwd = ^uintptr(99) // AT_FDCWD, -100

// withMappers has newuidmap and newgidmap (shadow-utils) write the maps: started before, they wait for the
// namespace, side by side.
func (s *entry) withMappers(refused, lost uintptr) (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], 0); err != nil {
		return 0, os.NewSyscallError("pipe2", err)
	}
	r, w := uintptr(p[0]), uintptr(p[1])
	env := s.texts(s.env)
	one, end := s.text("x"), s.exit(125)
	var children []uintptr
	for _, m := range []struct {
		program string
		own     int
		ranges  []Range
	}{{"newuidmap", s.choice.UID, s.choice.UIDs}, {"newgidmap", s.choice.GID, s.choice.GIDs}} {
		path, err := findMapper(m.program)
		if err != nil {
			return 0, err
		}
		// Without its own end of the pipe the child learns it when we are gone.
		at := s.add(call{nr: unix.SYS_CLOSE, args: [6]uintptr{w}, fail: end})
		s.add(call{nr: unix.SYS_READ, args: [6]uintptr{r, s.word(), 1}, min: 1, fail: end})
		s.add(call{nr: unix.SYS_EXECVE, args: [6]uintptr{s.text(path), s.texts(mapperArgs(m.program, m.own, m.ranges)), env}, fail: end})
		children = append(children, callAddr(at))
	}
	begin := len(s.calls)
	var forks []int
	for _, child := range children {
		forks = append(forks, s.add(call{nr: unix.SYS_CLONE, args: [6]uintptr{uintptr(unix.SIGCHLD)}, min: 1, fail: child}))
	}
	for _, fd := range []uintptr{r, w} {
		s.add(call{nr: unix.SYS_FCNTL, args: [6]uintptr{fd, unix.F_SETFD, unix.FD_CLOEXEC}, fail: lost})
	}
	s.add(call{nr: unix.SYS_UNSHARE, args: [6]uintptr{namespaces}, fail: refused})
	for range children {
		s.add(call{nr: unix.SYS_WRITE, args: [6]uintptr{w, one, 1}, min: 1, fail: lost})
	}
	for _, fork := range forks {
		wait := s.add(call{nr: unix.SYS_WAIT4, args: [6]uintptr{0, s.word()}, fail: lost})
		s.calls[fork].store = argAddr(wait, 0)
	}
	return begin, nil
}

// mapperArgs are the arguments of newuidmap(1): the process, and where the user and the ranges go.
func mapperArgs(program string, own int, ranges []Range) []string {
	args := []string{program, strconv.Itoa(os.Getpid()), "0", strconv.Itoa(own), "1"}
	next := uint64(1)
	for _, r := range ranges {
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.Start), 10), strconv.FormatUint(uint64(r.Count), 10))
		next += uint64(r.Count)
	}
	return args
}

// findMapper finds newuidmap or newgidmap, where PATH lacks it, too.
func findMapper(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if p, e := exec.LookPath("/usr/bin/" + name); e == nil || errors.Is(e, fs.ErrPermission) {
			return p, e
		}
	}
	return path, err
}
