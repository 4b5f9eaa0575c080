package sandbox

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The usual way to start a sandbox, direct, needs no copy of this program. A thread of ours enters
// new namespaces and puts the root together there. Its process, the first of its pid namespace, is
// made beforehand, by clone(2) with our memory, files and directories: /proc can be
// mounted only by a member of the namespace. It runs no Go, but a list of system calls, in
// registers (calls_amd64.s): it mounts /proc, waits for the thread, parts with what it
// shares, gives up all rights and executes the program. The thread goes back to our namespaces,
// and waits there for the end of the process, which would be killed if the thread ended.
//
// What cannot be done so is left to a copy: see direct and plainProgram.

// errNotDirect: this is for a copy of the program to do.
var errNotDirect = errors.New("a copy of this program is needed")

// onlyCopies has all sandboxes started by copies; tests set it.
var onlyCopies bool

// direct tells whether a process may be started without a copy of this program. As long as it has
// our memory, its oom_score_adj is ours, and in a memory cgroup's need we would be killed with it.
func direct(s *specs.Spec) bool {
	return haveCalls && !onlyCopies && fullRoot() && s.Hooks == nil && !hasLimits(s.Linux) &&
		!inUserns() && len(s.Linux.UIDMappings) == 0 &&
		s.Process != nil && s.Process.OOMScoreAdj == nil && cloneFlags(s)&unix.CLONE_NEWPID != 0 &&
		!slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == typeOf })
}

// fullRoot tells whether this process is root with the capabilities that are needed here: to change
// namespaces and to come back, and to let others see those of a process that has our memory.
var fullRoot = sync.OnceValue(func() bool {
	const needed = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SETPCAP
	var now capSets
	return os.Geteuid() == 0 && now.get() == nil && now.Effective&needed == needed
})

// thread is the start of one process by a thread of ours.
type thread struct {
	*runner
	child   child
	process *process         // which is to become the program
	head    *calls           // up to when the process waits
	tail    *calls           // what follows; nil until known
	procs   map[int]*rawCall // what mounts /proc, by index of the plan's mount
	opened  [][2]*rawCall    // what opens a descriptor, and what closes it
	flags   int              // of namespaces the thread has left
	words   *words
	event   int // eventfd, a semaphore: the process waits for it, see begin
	mounts  int // the mount namespace, held to the end where Config.Unmounts is set; or -1
	slave   int // of the terminal, or -1

	programs []program // what it tries to execute, in this order
}

// words are memory that the kernel writes to.
type words struct {
	shares uint32 // 1 as long as the process has our memory
	alive  uint32 // 1 as long as the thread that starts it lives
	event  [8]byte
}

// launchDirect starts the process. What becomes of it comes through executed.
func (r *runner) launchDirect(ctx context.Context) (*launched, error) {
	hide()
	l := &launched{socket: -1, done: make(chan struct{}), executed: make(chan error, 1)}
	started := make(chan error)
	onThread(func() {
		t := &thread{runner: r, words: &words{shares: 1, alive: 1}, event: -1, mounts: -1, slave: -1}
		defer t.watch()()
		err := t.start()
		l.process = t.process
		started <- err
		if err != nil {
			t.close()
			return
		}
		l.executed <- t.run(ctx)
		l.state, l.err = l.process.Wait()
		t.letMountsGo()
		close(l.done)
	})
	return l, <-started
}

// hide keeps other processes from looking into this one, for good: for moments one that has given
// up its rights has our memory.
var hide = sync.OnceFunc(func() { unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) })

// start enters namespaces and makes the process.
func (t *thread) start() (err error) {
	t.child = child{plan: *t.plan, created: t.noteCreated, proc: t.mountedProc}
	t.child.init()
	flags := int(cloneFlags(t.Spec))
	t.flags = flags &^ unix.CLONE_NEWPID
	if err := unix.Unshare(t.flags); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	for _, j := range t.plan.Join {
		t.flags |= j.Flag
	}
	if err := t.child.join(); err != nil {
		return err
	}
	if t.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_SEMAPHORE); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	t.begin()
	restore, err := blockSignals()
	if err != nil {
		return err
	}
	pid := cloneCalls(unix.CLONE_VM|unix.CLONE_FILES|unix.CLONE_FS|unix.CLONE_CHILD_CLEARTID|
		uintptr(flags&unix.CLONE_NEWPID)|uintptr(unix.SIGCHLD), &t.words.shares, &t.head.list[0])
	restore()
	if errno := -int(pid); errno > 0 {
		return os.NewSyscallError("clone", unix.Errno(errno))
	}
	t.process, err = clonedProcess(int(pid))
	return err
}

// begin is what the process does at first: it mounts /proc, and waits until the host's root can be unmounted. That takes the kernel
// as long as all that the thread still has to do then. The process waits once more for what follows.
func (t *thread) begin() {
	size := 16
	for i := range t.plan.Mounts {
		if m := &t.plan.Mounts[i]; m.Type == procType {
			size += 8 + len(m.Data)
		}
	}
	t.head, t.procs = newCalls(size), map[int]*rawCall{}
	t.dieWithThread(t.head)
	for i := range t.plan.Mounts {
		if m := &t.plan.Mounts[i]; m.Type == procType {
			context, mounted := t.head.newFS("mount "+m.Dest, m.Type, m.Source, m.Data, m.Set)
			t.head.wake(mounted)
			closed := t.head.add("close", unix.SYS_CLOSE, t.head.pointer(unsafe.Pointer(&context.result)))
			closed.indirect = 1
			t.opened = append(t.opened, [2]*rawCall{context, closed})
			t.procs[i] = mounted
		}
	}
	wait := func() {
		t.head.add("wait", unix.SYS_READ, uintptr(t.event), t.head.pointer(unsafe.Pointer(&t.words.event)), 8)
	}
	wait()
	t.head.add("unmount the host's root", unix.SYS_UMOUNT2, t.head.text("/"), unix.MNT_DETACH)
	wait()
	t.head.add("", callJump)
}

// procType is the type of the file system that a member of the pid namespace has to mount.
const procType = "proc"

// dieWithThread adds what has the process die with us, and ends it if we are dead already.
func (t *thread) dieWithThread(l *calls) {
	l.add("set parent death signal", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	l.add("", callCheck, l.pointer(unsafe.Pointer(&t.words.alive)))
}

// watch has the kernel clear words.alive when this thread ends, which comes before it sends
// parent death signals. The function returned undoes it.
func (t *thread) watch() (undo func()) {
	var before uintptr // the C library's, where there is one
	unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_TID_ADDRESS, uintptr(unsafe.Pointer(&before)), 0)
	unix.RawSyscall(unix.SYS_SET_TID_ADDRESS, uintptr(unsafe.Pointer(&t.words.alive)), 0, 0)
	return func() { unix.RawSyscall(unix.SYS_SET_TID_ADDRESS, before, 0, 0) }
}
