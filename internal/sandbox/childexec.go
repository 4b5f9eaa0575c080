package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// becomeUser takes away every right the process is not to have.
func (c *child) becomeUser() error {
	if err := c.enterCwd(); err != nil {
		return err
	}
	// From the moment in which our rights are those of the processes around us until we are one of them, they
	// could look into this one otherwise: at files that are open, and at other threads that still have all rights.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fail("hide", err)
	}
	resetSignals()
	for _, l := range c.Rlimits {
		if err := unix.Prlimit(0, l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return fail("set resource limit "+strings.Fields(rlimitNames)[l.Resource], err)
		}
	}
	if err := c.giveStdio([3]int{0, 1, 2}); err != nil {
		return err
	}
	// All but the three standard descriptors end here.
	if err := closeOnExec(); err != nil {
		return fail("close descriptors", err)
	}
	if err := c.dropBounding(); err != nil {
		return fail("limit capabilities", err)
	}
	if err := c.setUser(); err != nil {
		return fail("become user", err)
	}
	if c.NoNewPriv {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fail("set no_new_privs", err)
		}
	}
	// The filter needs CAP_SYS_ADMIN unless no_new_privs is set: it comes before the
	// capabilities go. What follows it is allowed by any profile a program can live with.
	if err := c.loadFilter(); err != nil && !c.filterLeftOut(err) {
		return fail("load seccomp filter", err)
	}
	if err := c.setCaps(); err != nil {
		return fail("set capabilities", err)
	}
	return nil
}

// enterCwd enters the working directory. The first process has it made where it is not there, as runc does.
//
// The name is the image's. While all rights are still there it must not lead out of the root, not even for the
// moment in which a directory is made: not by symlinks, nor by links of /proc to descriptors that are open here, of
// which whoever started us may have left some, too (CVE-2024-21626).
func (c *child) enterCwd() error {
	fd, err := c.openCwd()
	if err == nil {
		defer unix.Close(fd)
		err = unix.Fchdir(fd)
	}
	if err != nil {
		return c.cwdNotEntered(err)
	}
	// A directory outside of the root has no path.
	buf := make([]byte, unix.PathMax)
	n, err := unix.Getcwd(buf)
	if err != nil || n < 1 || buf[0] != '/' {
		return c.cwdOutside()
	}
	return nil
}

// cwdNotEntered says why the working directory was not entered, with the exit code Docker gives.
func (c *child) cwdNotEntered(err error) error {
	start := fail("enter working directory "+c.Cwd, bare(err))
	switch {
	case errors.Is(err, unix.EACCES), c.joined && !errors.Is(err, unix.ENOENT):
		start.Code = CodeNotExecutable
	case c.joined:
		start.Code = CodeNotFound
	}
	return start
}

func (c *child) cwdOutside() error {
	return fail("enter working directory "+c.Cwd, errors.New("it is outside of the root"))
}

// openCwd opens the working directory, made if need be.
func (c *child) openCwd() (int, error) {
	root := c.root
	if root < 0 { // it is ours already
		var err error
		if root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return -1, err
		}
		defer unix.Close(root)
	}
	fd, err := openIn(root, c.Cwd, 0)
	if !errors.Is(err, unix.ENOENT) || c.joined {
		return fd, err
	}
	return makeIn(root, c.Cwd, true, func(parent, name string, dir bool) error {
		up, err := openIn(root, parent, unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer unix.Close(up)
		return mknod(up, name, dir)
	})
}

// bare is the error number of an error, which is about a path that is told already.
func bare(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Err
	}
	return err
}

// resetSignals undoes what nohup, shells and others do to what they start: a program
// begins with all signals at their default. The Go runtime handles most, which
// executing a program undoes, but some it leaves ignored, and some it leaves alone.
func resetSignals() {
	var byDefault [4]uint64 // struct sigaction
	for sig := uintptr(1); sig <= 64; sig++ {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
}

// giveStdio makes our pipes the user's: they open /dev/stdout by name, too.
func (c *child) giveStdio(fds [3]int) error {
	for i, own := range c.OwnStdio {
		if !own || c.User.UID == 0 && c.User.GID == 0 {
			continue
		}
		if err := unix.Fchown(fds[i], int(c.User.UID), int(c.User.GID)); err != nil && !c.Userns { // there it may be somebody else's
			return fail("give standard streams to the user", err)
		}
	}
	return nil
}

func (c *child) dropBounding() error {
	for n := range 64 {
		if c.Caps.Bounding&(1<<n) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && n > 0 {
			return nil // the kernel's last capability was the one before
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	return nil
}

// setUser becomes the user, without losing capabilities by it. These are raw system
// calls for this thread alone.
func (c *child) setUser() error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	u := &c.User
	groups := unsafe.Pointer(unsafe.SliceData(u.Groups))
	if c.NoSetgroups {
		u.Groups = nil
	} else if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(groups), 0); errno != 0 {
		return fmt.Errorf("set groups %v: %w", u.Groups, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID)); errno != 0 {
		return fmt.Errorf("set gid %d: %w", u.GID, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), uintptr(u.UID)); errno != 0 {
		return fmt.Errorf("set uid %d: %w", u.UID, errno)
	}
	unix.Umask(int(u.Umask))
	// Another uid took the effective capabilities away. CAP_SYS_ADMIN, to load the
	// filter, and CAP_SETPCAP, for the ambient set, are needed for a moment yet.
	now, err := allowed()
	if err != nil {
		return err
	}
	return now.set()
}

// allowed are the capabilities of this thread, with all effective that may be.
func allowed() (capSets, error) {
	const all = 1<<(lastCap+1) - 1
	var now capSets
	err := now.get()
	return now.with(now.Permitted&all, now.Permitted&all, now.Inheritable&all), err
}

func (c *child) loadFilter() error {
	if err := c.loadOwnerFilter(); err != nil {
		return err
	}
	if len(c.Filter) == 0 {
		return nil
	}
	prog := c.filterProgram()
	load := func(flags uint) unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(prog)))
		return errno
	}
	errno := load(c.FilterFlags)
	if errno == unix.EINVAL && c.FilterFlags == unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW {
		errno = load(0) // kernels before 4.17
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func (p *plan) filterProgram() *unix.SockFprog {
	return &unix.SockFprog{
		Len:    uint16(len(p.Filter) / 8),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(p.Filter))),
	}
}

// setCaps leaves the process with the capabilities it is to have.
func (c *child) setCaps() error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := c.Caps.set(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	for n := range lastCap + 1 {
		// What the kernel could not grant is left out: runtimes should not fail for it (config.md, "capabilities").
		if c.Caps.Ambient&c.Caps.Permitted&c.Caps.Inheritable&(1<<n) != 0 {
			if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0); err != nil {
				return fmt.Errorf("ambient capability %d: %w", n, err)
			}
		}
	}
	return nil
}

func (s capSets) with(effective, permitted, inheritable uint64) capSets {
	s.Effective, s.Permitted, s.Inheritable = effective, permitted, inheritable
	return s
}

// set sets the three sets capset(2) knows, of this thread.
func (s capSets) set() error {
	head, data := s.kernel()
	return unix.Capset(head, &data[0])
}

// kernel is how capset(2) takes them.
func (s capSets) kernel() (*unix.CapUserHeader, *[2]unix.CapUserData) {
	data := new([2]unix.CapUserData)
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective: uint32(s.Effective >> shift), Permitted: uint32(s.Permitted >> shift), Inheritable: uint32(s.Inheritable >> shift),
		}
	}
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, data
}

func (s *capSets) get() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	for i := range data {
		shift := 32 * i
		s.Effective |= uint64(data[i].Effective) << shift
		s.Permitted |= uint64(data[i].Permitted) << shift
		s.Inheritable |= uint64(data[i].Inheritable) << shift
	}
	return nil
}

// execute becomes the program. It only returns when that was not possible.
func (c *child) execute() error {
	// We are to die with whoever started us, mostly. Changing the user undid what was asked for at
	// the start; and should it be dead already, nobody reads our reports.
	if !c.Outlives {
		if err := c.dieWithParent(); err != nil {
			return err
		}
	}
	if c.Init {
		return c.executeInit()
	}
	if err := c.report(reportStarting, ""); err != nil {
		return fail("report", err)
	}
	return c.search(func(name string) error { return syscall.Exec(name, c.Args, c.Env) })
}

// dieWithParent asks to be killed when who started us ends. It does not return if that has happened.
func (c *child) dieWithParent() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fail("set parent death signal", err)
	}
	poll := []unix.PollFd{{Fd: socketFd}}
	if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
		os.Exit(CodeSandbox)
	}
	return nil
}

// search has exec execute the program, found in PATH where its name has no slash. It says why that was not possible.
func (c *child) search(exec func(name string) error) error {
	name := c.Args[0]
	notExecuted := func(name string, err error) error { return notExecuted(name, err, there(name), isFile(name)) }
	if strings.Contains(name, "/") {
		if err := exec(name); err != nil {
			return notExecuted(name, err)
		}
		return nil
	}
	denied := false
	for _, dir := range strings.Split(c.searchPath(), ":") {
		err := exec(path.Join(dir, name))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
			if there(path.Join(dir, name)) {
				return notExecuted(path.Join(dir, name), err)
			}
		case errors.Is(err, unix.EACCES):
			denied = denied || isFile(path.Join(dir, name))
		default:
			return notExecuted(path.Join(dir, name), err)
		}
	}
	if denied {
		return notExecuted(name, unix.EACCES)
	}
	return notFound(name)
}

func notFound(name string) error {
	return &StartError{Code: CodeNotFound, Op: fmt.Sprintf("exec %q", name), Err: errors.New("executable file not found in $PATH")}
}

// searchPath is the last PATH of the environment.
func (c *child) searchPath() string {
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range c.Env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			search = value
		}
	}
	return search
}

// notExecuted says why execve(2) failed, with the exit code Docker gives.
func notExecuted(name string, err error, there, isFile bool) error {
	start := &StartError{Code: CodeNotExecutable, Op: fmt.Sprintf("exec %q", name), Err: err}
	switch {
	case errors.Is(err, unix.ENOENT) && there:
		start.Code, start.Err = CodeNotFound, fmt.Errorf("%w: the file is there, its interpreter or loader is not", err)
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		start.Code = CodeNotFound
	case errors.Is(err, unix.EACCES) && there && !isFile:
		start.Err = unix.EISDIR
	}
	return start
}

func there(name string) bool {
	var st unix.Stat_t
	return unix.Stat(name, &st) == nil
}

func isFile(name string) bool {
	var st unix.Stat_t
	return unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR
}
