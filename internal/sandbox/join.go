package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Only a process of one thread can enter a user namespace, and only a child of who has entered a process
// namespace is in it (setns(2)). A Go program always has several threads. So we fork twice, as C would: the
// first child enters the namespaces, the second, a sibling of the first and so a child of ours, executes this
// program again there. Between fork and exec nothing but raw system calls may happen: the
// other threads, and whatever locks they held, are not there (syscall.forkAndExecInChild does it the same way).
// Nor may a function look whether its stack is large enough: with the same look the runtime asks goroutines
// to yield, and the copy of one that was asked would go on as a second scheduler.

// joining is what the children need, all of it made before.
type joining struct {
	pidfd, flags      uintptr // setns(2)
	root              bool    // become the namespace's root before anything is executed
	exe, null, socket uintptr
	result            uintptr // a pipe
	argv, envp        []*byte
	empty             *byte
	all, none         uint64 // sets of signals
	answer            [3]int64
}

// Steps that may fail, as told by answer[1].
const (
	joinNamespaces = iota + 1
	joinFork
	joinExec
)

// joinProcess starts a copy of this program in all namespaces of a process. It waits for a plan. See launched.stays.
func joinProcess(pid int, stays bool) (*launched, error) {
	OwnDescriptors()
	j, files, err := newJoining(pid)
	defer func() {
		for _, fd := range files {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs, err := above(pair[1])
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer unix.Close(theirs)
	j.socket = uintptr(theirs)
	l := &launched{socket: pair[0], done: make(chan struct{}), stays: stays}
	started := make(chan error)
	go func() {
		// As in launch: the copy ends with this thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := l.fork(j)
		started <- err
		if err == nil {
			l.await()
		}
	}()
	if err := <-started; err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	return l, nil
}

// above copies a descriptor to a number that nothing of the children's is to have.
func above(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10) }

// newJoining opens what the children need; the caller closes files.
func newJoining(pid int) (j *joining, files []int, err error) {
	j = &joining{all: ^uint64(0)}
	open := func(fd int, err error) uintptr {
		if err == nil {
			fd, err = above(fd)
		}
		if err == nil {
			files = append(files, fd)
		}
		j.fail(err)
		return uintptr(fd)
	}
	o, err := openOther(pid)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(o.pidfd)
	j.pidfd, j.flags, j.root = open(o.pidfd, nil), uintptr(o.flags), o.root
	exe, err := selfExe()
	if err != nil {
		return nil, files, err
	}
	n, err := strconv.Atoi(strings.TrimPrefix(exe, "/proc/self/fd/"))
	j.exe = open(n, err)
	null, err := devNull()
	if err != nil {
		return nil, files, err
	}
	j.null = open(int(null.Fd()), nil)
	if j.argv, err = syscall.SlicePtrFromStrings([]string{execName}); err != nil {
		return nil, files, err
	}
	j.envp, err = syscall.SlicePtrFromStrings([]string{"GOGC=off", "GOMAXPROCS=1", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"})
	if err == nil {
		j.empty, err = syscall.BytePtrFromString("")
	}
	if err == nil && j.answer[2] != 0 {
		err = syscall.Errno(j.answer[2])
	}
	return j, files, err
}

func (j *joining) fail(err error) {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		j.answer[2] = int64(errno)
	} else if err != nil {
		j.answer[2] = int64(unix.EINVAL)
	}
}

// other is a process whose namespaces are to be entered.
type other struct {
	pidfd, flags int  // setns(2)
	root         bool // who enters them becomes their root before anything else
}

// openOther finds out which namespaces of a process are not ours. The caller closes pidfd.
func openOther(pid int) (o other, err error) {
	if o.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return o, fmt.Errorf("process %d: %w", pid, err)
	}
	if err = o.namespaces(pid); err == nil {
		if err = unix.PidfdSendSignal(o.pidfd, 0, nil, 0); err != nil { // else these were another's
			err = fmt.Errorf("process %d: %w", pid, err)
		}
	}
	if err != nil {
		unix.Close(o.pidfd)
	}
	return o, err
}

func (o *other) namespaces(pid int) error {
	for kind, flag := range map[string]int{
		"user": unix.CLONE_NEWUSER, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err != nil {
			return fmt.Errorf("namespaces of process %d: %w", pid, err)
		}
		if !sameNamespace(pid, kind) {
			o.flags |= flag
		}
	}
	o.root = o.flags&unix.CLONE_NEWUSER != 0
	if o.flags&unix.CLONE_NEWNS == 0 {
		return errors.New("it has no mount namespace of its own")
	}
	return nil
}

// fork makes the copy, on the thread that it will end with.
func (l *launched) fork(j *joining) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	r := os.NewFile(uintptr(pipe[0]), "pipe")
	defer r.Close()
	w, err := above(pipe[1])
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	j.result = uintptr(w)
	j.answer = [3]int64{}
	syscall.ForkLock.RLock() // nothing without CLOEXEC is open
	first, errno := rawJoin(j)
	syscall.ForkLock.RUnlock()
	unix.Close(w)
	runtime.KeepAlive(j)
	if errno != 0 {
		return os.NewSyscallError("clone", errno)
	}
	defer unix.Wait4(int(first), nil, 0, nil)
	return l.answer(r)
}

// answer reads what became of the children: the second's process id, and what failed, if anything.
func (l *launched) answer(r *os.File) error {
	var second int
	var failed error
	for {
		var a [3]int64
		if n, err := r.Read(unsafe.Slice((*byte)(unsafe.Pointer(&a)), unsafe.Sizeof(a))); n != int(unsafe.Sizeof(a)) || err != nil {
			break
		}
		switch {
		case a[1] == 0:
			second = int(a[0])
		default:
			what := map[int64]string{joinNamespaces: "enter namespaces", joinFork: "clone", joinExec: "execute own program"}[a[1]]
			failed = fmt.Errorf("%s: %w", what, syscall.Errno(a[2]))
			if a[1] == joinExec && syscall.Errno(a[2]) == unix.ENOENT {
				failed = fmt.Errorf("%w: it is linked to a C library, which the container lacks; build it with CGO_ENABLED=0", failed)
			}
		}
	}
	if second == 0 && failed == nil {
		failed = errors.New("it ended at once")
	}
	if second != 0 {
		p, err := os.FindProcess(second)
		if err == nil && failed != nil {
			p.Wait()
		}
		if err == nil {
			l.process = startedProcess(p)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// rawJoin forks, enters the namespaces, forks again and executes this program. It and what it calls must not
// look at the stack's limit: where the runtime asks for a pause a function would go to the scheduler by that, and
// in a child wait there for ever for threads that are not there.
//
//go:norace
//go:nosplit
//go:noinline
func rawJoin(j *joining) (pid uintptr, errno syscall.Errno) {
	var before uint64
	// A signal would be handled by a runtime that is only half there.
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&j.all)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	pid, _, errno = syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
		return pid, errno
	}
	j.inFirst()
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// inFirst is the first child.
//
//go:norace
//go:nosplit
//go:noinline
func (j *joining) inFirst() {
	// We have the memory and the files of who started us. In a user namespace with all rights in it, as in any with
	// CAP_SYS_PTRACE, processes could look into ours as soon as we are there (CVE-2016-9962).
	syscall.RawSyscall6(syscall.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
	if _, _, errno := syscall.RawSyscall(unix.SYS_SETNS, j.pidfd, j.flags, 0); errno != 0 {
		j.tell(0, joinNamespaces, errno)
		return
	}
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD)|unix.CLONE_PARENT, 0, 0, 0, 0, 0)
	if errno != 0 {
		j.tell(0, joinFork, errno)
		return
	}
	if pid != 0 {
		j.tell(pid, 0, 0)
		return
	}
	j.inSecond()
}

// inSecond is the second child: it becomes the copy, with its four descriptors.
//
//go:norace
//go:nosplit
//go:noinline
func (j *joining) inSecond() {
	syscall.RawSyscall6(syscall.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
	if j.root {
		syscall.RawSyscall(syscall.SYS_SETRESGID, 0, 0, 0)
		syscall.RawSyscall(syscall.SYS_SETRESUID, 0, 0, 0)
	}
	for fd := uintptr(0); fd < socketFd; fd++ {
		syscall.RawSyscall(unix.SYS_DUP3, j.null, fd, 0)
	}
	syscall.RawSyscall(unix.SYS_DUP3, j.socket, socketFd, 0)
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 2, uintptr(unsafe.Pointer(&j.none)), 0, 8, 0, 0)
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, j.exe, uintptr(unsafe.Pointer(j.empty)),
		uintptr(unsafe.Pointer(&j.argv[0])), uintptr(unsafe.Pointer(&j.envp[0])), unix.AT_EMPTY_PATH, 0)
	j.tell(0, joinExec, errno)
}

//go:norace
//go:nosplit
//go:noinline
func (j *joining) tell(pid uintptr, step int64, errno syscall.Errno) {
	j.answer[0], j.answer[1], j.answer[2] = int64(pid), step, int64(errno)
	syscall.RawSyscall(syscall.SYS_WRITE, j.result, uintptr(unsafe.Pointer(&j.answer)), unsafe.Sizeof(j.answer))
}
