package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// launched is a copy of this program in new namespaces. It waits for a plan.
type launched struct {
	process *process
	socket  int // ours; see the report constants for what is said over it; or -1
	// executed tells, where there is no socket, once that the program was executed, or why not.
	executed chan error
	done     chan struct{}
	// stays leaves the end of a process for others to hear of, after us: it is not waited for but by Detached.Wait.
	stays bool
	state *ended // valid once done is closed
	err   error  // of waiting
}

// launch starts a copy. It is waited for from the start, so that it never stays as a zombie.
func launch(flags uintptr) (*launched, error) { return launchIn(flags, nil, "") }

// launchIn is launch in a user namespace of its own, where maps are given, and in the process namespace
// pids, where that is named.
func launchIn(flags uintptr, maps *idMaps, pids string) (*launched, error) {
	l := &launched{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel kills the copy when the thread that started it ends, be it that
		// some other part of the program has no more use for that thread: it stays
		// with us until the copy has ended.
		runtime.LockOSThread()
		if l.stay(flags, maps, pids, started) {
			runtime.UnlockOSThread()
		}
	}()
	return l, <-started
}

// await closes done at the process's end.
func (l *launched) await() {
	if l.stays {
		l.err = l.process.waitEnd()
	} else {
		l.state, l.err = l.process.Wait()
	}
	close(l.done)
}

// stay starts the copy on this thread, and waits for its end. It is false where the thread could not go back to our
// namespaces: it is not to be used by others, and ends with its goroutine.
func (l *launched) stay(flags uintptr, maps *idMaps, pids string, started chan<- error) (home bool) {
	home = true
	if maps != nil && maps.network != "" {
		inNetwork(maps.network, maps.sysctl, func(err error) {
			if err == nil {
				maps.network = ""
				home = l.stay(flags, maps, pids, started)
				return
			}
			started <- err
		})
		return home
	}
	leave, err := enterPIDs(pids)
	if err == nil {
		err = l.start(flags, maps, pids != "")
		home = leave() == nil
	}
	started <- err
	if err == nil {
		l.await()
	}
	return home
}

// start executes the copy. One that is joined to a process namespace sees no parent, and would take it for dead: it asks
// to die with it itself.
func (l *launched) start(flags uintptr, maps *idMaps, joined bool) error {
	OwnDescriptors()
	exe, err := selfExe()
	if err != nil {
		return err
	}
	null, err := devNull()
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	attributes := &syscall.SysProcAttr{Cloneflags: flags, Setsid: true, Pdeathsig: syscall.SIGKILL}
	if joined {
		attributes.Pdeathsig = 0
	}
	if maps != nil {
		maps.attributes(attributes)
	}
	p, err := os.StartProcess(exe, []string{childName}, &os.ProcAttr{
		// It has no work for a second processor nor time for garbage, and need not read
		// its cgroup to learn that.
		Env:   []string{"GOGC=off", "GOMAXPROCS=1", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"},
		Files: []*os.File{null, null, null, theirs},
		Dir:   "/",
		Sys:   attributes,
	})
	if err != nil {
		unix.Close(pair[0])
		return err
	}
	l.process = startedProcess(p)
	l.socket = pair[0]
	return nil
}

// give sends the plan and the standard streams.
func (l *launched) give(p *plan, stdio [3]*os.File, mounts ...int) error {
	fd, err := unix.MemfdCreate("nacre-plan", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "plan")
	defer f.Close()
	if _, err := f.Write(p.encode()); err != nil {
		return err
	}
	fds := []int{fd}
	for _, s := range stdio {
		fds = append(fds, int(s.Fd()))
	}
	fds = append(fds, mounts...)
	err = unix.Sendmsg(l.socket, []byte{0}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	runtime.KeepAlive(stdio)
	return os.NewSyscallError("sendmsg", err)
}

// OwnDescriptors has nothing that is open here but the standard streams be open in what this process starts, unless it is
// handed over on purpose. Our own descriptors are like that; but whoever started us may have left a directory open, or a
// lock. It comes before the first copy of this program that outlives us or enters a sandbox.
var OwnDescriptors = sync.OnceFunc(func() { closeOnExec() })

// closeOnExec has all descriptors but the three standard ones end where another program begins.
func closeOnExec() error {
	const most = 1 << 20 // fs.nr_open, unless somebody changes it
	err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	for fd := range most { // Linux before 5.11. The limit of descriptors may be a new one already, and lower than what is open.
		if fd < 3 {
			continue
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil && err != unix.EBADF {
			return err
		}
	}
	return nil
}

// devNull is open for good: every copy starts with it as its standard streams.
var devNull = sync.OnceValues(func() (*os.File, error) { return os.OpenFile(os.DevNull, os.O_RDWR, 0) })

// selfExe is a path of this program, as a read-only mount that is nowhere in the file
// system: a process in the sandbox could get hold of the file through
// /proc/1/exe, and write to it once nobody executes it any more (CVE-2019-5736).
var selfExe = sync.OnceValues(func() (string, error) {
	fd, err := readonlySelf()
	return "/proc/self/fd/" + strconv.Itoa(fd), err
})

// readonlySelf is a new mount of this program.
func readonlySelf() (int, error) {
	fd, err := openTree(unix.AT_FDCWD, "/proc/self/exe", 0)
	if err == nil {
		err = setAttr(fd, unix.MOUNT_ATTR_RDONLY, 0, unix.MS_PRIVATE, false)
	}
	if err != nil {
		return -1, fmt.Errorf("open own program: %w", err)
	}
	return fd, nil
}
