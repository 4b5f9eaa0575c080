package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// run puts the sandbox together and has the process execute its program. Then the thread is at
// home again, and has no descriptor left of it.
func (t *thread) run(ctx context.Context) error {
	err := t.setUp(ctx)
	if err == nil {
		atomic.StoreUintptr(&t.last(t.head).args[0], uintptr(unsafe.Pointer(&t.tail.list[0])))
		t.holdMounts()
		err = t.wakeProcess()
	}
	if err != nil {
		t.process.Kill()
	}
	for t.shared() {
		await(&t.words.shares, 1, unix.Timespec{Sec: 1})
	}
	if err == nil {
		err = t.outcome()
	}
	t.close()
	var start *StartError
	switch {
	case err == nil || errors.Is(err, errNotDirect):
		return err
	case errors.As(err, &start):
		return start
	}
	return fail("sandbox", err)
}

// setUp does here what a copy of the program does in child.run, up to where rights are given up.
func (t *thread) setUp(ctx context.Context) error {
	c := &t.child
	for _, step := range []func() error{
		c.openSources, c.attachRoot, c.mountAll, func() error { return t.askOutside(ctx) }, t.leaveHost,
		t.makeTerminal, c.setNames, c.restrict, c.enterCwd, t.giveStdio, t.giveUp,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// wakeProcess has the process go on where it waits.
func (t *thread) wakeProcess() error {
	_, err := unix.Write(t.event, binary.NativeEndian.AppendUint64(nil, 1))
	return os.NewSyscallError("write to eventfd", err)
}

// leaveHost makes the new root the root, of which the process is to take the old one away. Until it has, that lies on top of the new one, where
// no path leads that begins at an open directory.
func (t *thread) leaveHost() error {
	if err := t.child.pivot(); err != nil {
		return err
	}
	return t.wakeProcess()
}

// holdMounts keeps what is mounted from being unmounted by the process as it ends, which has whoever waits for that end wait for all
// processors of the machine, several times. Kernels before 6.11 do not give the namespace.
func (t *thread) holdMounts() {
	if t.Unmounts == nil {
		return
	}
	t.process.WithHandle(func(pidfd uintptr) {
		if fd, _, errno := unix.Syscall(unix.SYS_IOCTL, pidfd, unix.PIDFD_GET_MNT_NAMESPACE, 0); errno == 0 {
			t.mounts = int(fd)
		}
	})
}

// letMountsGo undoes holdMounts.
func (t *thread) letMountsGo() {
	if fd := t.mounts; fd >= 0 {
		t.Unmounts.Go(func() { unix.Close(fd) })
	}
}

// close lets go of everything. A thread that cannot go home lets go of its namespaces when it ends.
func (t *thread) close() {
	t.child.close()
	for _, mounted := range t.procs { // which nobody came to mount
		t.opened = append(t.opened, [2]*rawCall{mounted, {result: notDone}})
	}
	for _, c := range t.opened {
		if c[0].made() && c[0].err() == 0 && !c[1].made() {
			unix.Close(int(c[0].result))
		}
	}
	for _, fd := range []int{t.event, t.slave} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	goHome(t.flags)
}

func (t *thread) last(l *calls) *rawCall { return &l.list[len(l.list)-1] }

// shared tells whether the process still has our memory: it has not executed its program, or
// ended.
func (t *thread) shared() bool { return atomic.LoadUint32(&t.words.shares) != 0 }

// noteCreated is told of mount points.
func (t *thread) noteCreated(name string) error {
	t.status.Created = append(t.status.Created, name)
	return nil
}

// mountedProc is what the process mounted for a mount of the plan.
func (t *thread) mountedProc(index int) (int, error) {
	c := t.procs[index]
	for !c.made() {
		if !t.shared() {
			if err := t.failure(t.head); err != nil {
				return -1, err
			}
			return -1, errEnded
		}
		await((*uint32)(unsafe.Pointer(&c.result)), notDone, unix.Timespec{Nsec: 50e6})
	}
	if err := c.err(); err != 0 {
		return -1, err
	}
	delete(t.procs, index)
	return int(c.result), nil
}

var errEnded = errors.New("its process ended too early")

// askOutside calls Config.Created, on another thread: this one is not where one would expect.
func (t *thread) askOutside(ctx context.Context) error {
	if t.Created == nil {
		return nil
	}
	result := make(chan error)
	go func() { result <- t.prepare(ctx, t.process.Pid) }()
	return <-result
}

func (t *thread) makeTerminal() error {
	if !t.plan.Terminal {
		return nil
	}
	master, slave, err := t.child.openTerminal()
	if err != nil {
		return err
	}
	t.slave = slave
	unix.SetNonblock(master, true)
	t.streams.console = os.NewFile(uintptr(master), "terminal")
	return nil
}

// giveStdio: see child.giveStdio.
func (t *thread) giveStdio() error { return t.child.giveStdio(t.stdio()) }

// stdio are the descriptors that become the process's standard streams.
func (t *thread) stdio() (fds [3]int) {
	for i, f := range t.streams.theirs {
		fds[i] = t.slave
		if t.slave < 0 {
			fds[i] = int(f.Fd())
		}
	}
	return fds
}

// outcome tells what became of the program, once the process no longer has our memory.
func (t *thread) outcome() error {
	for _, l := range []*calls{t.head, t.tail} {
		if err := t.failure(l); err != nil {
			return err
		}
	}
	for i := range t.tail.list {
		switch c := &t.tail.list[i]; {
		case c.made() && c.passed():
		case c.nr == unix.SYS_EXECVE && !c.made():
			t.starting = true
			return nil
		case c.nr == unix.SYS_EXECVE || c.nr == unix.SYS_EXIT_GROUP:
			return t.notExecuted()
		default:
			return nil // it was killed before
		}
	}
	return nil
}

// failure is the call of a list that ended it.
func (t *thread) failure(l *calls) error {
	for i := range l.list {
		c := &l.list[i]
		if !c.made() {
			return nil
		}
		if !c.passed() && c.nr != unix.SYS_EXECVE {
			return fail(l.what[i], c.err())
		}
	}
	return nil
}

// program is one file that may be what is to be executed.
type program struct {
	name         string
	execve, stat *rawCall
	info         *unix.Stat_t

	// Of an entrance: where its memory has info, and what ends it when there is no use in going on.
	infoAt uintptr
	end    *rawCall
}

// there tells whether the file is there, for all that the process can see.
func (p *program) there() bool {
	if p.stat.made() {
		return p.stat.err() == 0
	}
	return there(p.name)
}

func (p *program) isFile() bool {
	if p.stat.made() {
		return p.stat.err() == 0 && p.info.Mode&unix.S_IFMT != unix.S_IFDIR
	}
	return isFile(p.name)
}

// notExecuted says why nothing was: see child.execute.
func (t *thread) notExecuted() error {
	name := t.plan.Args[0]
	denied := false
	for i := range t.programs {
		p := &t.programs[i]
		err := p.execve.err()
		if err != unix.EACCES || strings.Contains(name, "/") {
			return notExecuted(p.name, err, p.there(), p.isFile())
		}
		denied = denied || p.isFile()
	}
	if denied {
		return notExecuted(name, unix.EACCES, false, false)
	}
	return notFound(name)
}

// findPrograms says which files are to be executed: the first that can be. It looks for them with
// all rights; what the process may do shows when it tries.
func (t *thread) findPrograms() ([]string, error) {
	name := t.plan.Args[0]
	if strings.Contains(name, "/") {
		if err := t.child.plainProgram(name); errors.Is(err, errNotDirect) {
			return nil, err
		}
		return []string{name}, nil
	}
	var names []string
	for _, dir := range strings.Split(t.child.searchPath(), ":") {
		file := path.Join(dir, name)
		switch err := t.child.plainProgram(file); {
		case errors.Is(err, errNotDirect):
			return nil, err
		case err == nil:
			names = append(names, file)
		}
	}
	return names, nil
}
