package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A further process of a sandbox goes in by a program that is nothing but a list of calls (image.go). We execute it here,
// outside: so its memory belongs to our user namespace, and nobody in the sandbox may look into it or trace it until it
// executes a program of the sandbox's, whatever rights they have in a user namespace of their own. (Who may trace
// processes in our own user namespace could, as everywhere.)
//
// It enters the namespaces, and clones itself, as only a child is in the process namespace. That is a child of ours. It
// waits until we have made it a member of the cgroups, gives up its rights and executes the program.
//
// What cannot be done so is left to a copy: see join.go.

// entrance is the start of one process in a sandbox.
type entrance struct {
	*runner
	to          other
	child       child
	cgroups     []string // directories
	calls       *calls
	cloned      *rawCall
	cwd         []*rawCall // what enters the working directory
	outside     *rawCall   // what ends it where that is outside of the root
	noTerminals *rawCall   // what ends it where /dev/pts is something else
	programs    []program  // what it tries to execute, in this order
	socket      int        // ours
	given       int        // a descriptor that came over it, or -1
	sender      int        // the process that wrote to it last
}

// Descriptors of the program, beside its standard streams.
const (
	entranceSocket = 3
	entrancePidfd  = 4
)

// Words that the program writes to its socket. Any other is the beginning of its data, which follow: it has failed.
const (
	entranceHere     = 1 // the child is there; the message says who it is
	entranceTerminal = 2 // a terminal comes with it
	entranceStarting = 3 // the sandbox's program is executed now
)

// enters tells whether a process of this plan can go in by such a program.
func enters(p *plan) bool { return haveCalls && !onlyCopies && len(p.OwnerFilter) == 0 }

// enter starts the process. What becomes of it comes through executed. Errors: *StartError; errNotDirect where this machine
// does not execute such a program.
func (r *runner) enter(pid int, cgroups []string) (err error) {
	OwnDescriptors()
	e := &entrance{runner: r, cgroups: cgroups, socket: -1, given: -1, child: child{plan: *r.plan, joined: true}}
	if e.to, err = openOther(pid); err != nil {
		return err
	}
	defer unix.Close(e.to.pidfd)
	if err := e.build(); err != nil {
		return err
	}
	program, err := e.calls.executable()
	if err != nil {
		return errNotDirect
	}
	defer program.Close()
	l := &launched{socket: -1, done: make(chan struct{}), executed: make(chan error, 1), stays: r.plan.Outlives}
	started := make(chan error)
	go func() {
		// The kernel kills the process when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := e.start(l, program)
		started <- err
		if err == nil {
			l.executed <- e.follow()
			l.await()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	r.launched = l
	return nil
}

// start executes the program, and returns when the child is in the cgroups and goes on.
func (e *entrance) start(l *launched, program *os.File) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return os.NewSyscallError("setsockopt", err)
	}
	first, err := e.execute(program, pair[1])
	if err != nil {
		unix.Close(pair[0])
		return errNotDirect
	}
	e.socket = pair[0]
	err = e.receiveChild(l)
	waitFor(first)
	if err == nil {
		err = e.admit(l)
	}
	if err != nil {
		unix.Close(e.socket)
	}
	return err
}

// execute has the program begin, with a socket that is closed here.
func (e *entrance) execute(program *os.File, socket int) (pid int, err error) {
	defer unix.Close(socket)
	fd, err := above(int(program.Fd())) // where none of its descriptors is to be
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	files := make([]uintptr, 0, 5)
	for _, f := range e.streams.theirs {
		files = append(files, f.Fd())
	}
	pid, _, err = syscall.StartProcess("/proc/self/fd/"+strconv.Itoa(fd), []string{execName}, &syscall.ProcAttr{
		Env: []string{}, Files: append(files, uintptr(socket), uintptr(e.to.pidfd)), Dir: "/", Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	runtime.KeepAlive(e.streams.theirs)
	return pid, err
}

// waitFor waits for the end of a child, of which nothing else is to be known.
func waitFor(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// receiveChild waits for the child, or why there is none.
func (e *entrance) receiveChild(l *launched) error {
	kind, err := e.word()
	if err != nil {
		return errEnded
	}
	if kind != entranceHere {
		err := e.failed(kind)
		if start, ok := errors.AsType[*StartError](err); ok { // for it is about us, not about the process
			return fmt.Errorf("%s: %w", start.Op, start.Err)
		}
		return err
	}
	l.process, err = clonedProcess(e.sender)
	return err
}

// admit makes the child a member of the cgroups and lets it go on.
func (e *entrance) admit(l *launched) error {
	var err error
	for _, dir := range e.cgroups {
		if err == nil {
			err = writeFile(filepath.Join(dir, "cgroup.procs"), fmt.Sprint(l.process.Pid))
		}
	}
	if err == nil {
		err = unix.Sendto(e.socket, make([]byte, 8), unix.MSG_NOSIGNAL, nil)
	}
	if err != nil {
		l.process.Kill()
		l.process.Wait()
	}
	return err
}

// follow waits until the program was executed, which closes the socket, or was not.
func (e *entrance) follow() error {
	defer unix.Close(e.socket)
	defer func() { closeFd(e.given) }()
	for {
		kind, err := e.word()
		switch {
		case err != nil:
			return nil // it was executed; or killed before
		case kind == entranceStarting && !e.starting:
			e.starting = true
		case kind == entranceTerminal && e.plan.Terminal && !e.starting && e.streams.console == nil && e.given >= 0:
			unix.SetNonblock(e.given, true)
			e.streams.console = os.NewFile(uintptr(e.given), "terminal")
			e.given = -1
		default:
			return e.failed(kind)
		}
	}
}

// word reads a word from the socket.
func (e *entrance) word() (uint64, error) {
	var b [8]byte
	err := e.read(b[:])
	return binary.NativeEndian.Uint64(b[:]), err
}

// read fills b. Who sent it is sender, and what descriptor came with it given.
func (e *entrance) read(b []byte) error {
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	for len(b) > 0 {
		n, cn, _, _, err := unix.Recvmsg(e.socket, b, control, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		}
		messages, err := unix.ParseSocketControlMessage(control[:cn])
		if err != nil {
			return err
		}
		for i := range messages {
			if who, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
				e.sender = int(who.Pid)
			} else if fds, err := unix.ParseUnixRights(&messages[i]); err == nil && len(fds) == 1 {
				closeFd(e.given)
				e.given = fds[0]
			}
		}
		b = b[n:]
	}
	return nil
}

func closeFd(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// failed reads the data of the program, of which the first word is there, and says what failed.
func (e *entrance) failed(first uint64) error {
	data := make([]byte, e.calls.size())
	binary.NativeEndian.PutUint64(data, first)
	if err := e.read(data[8:]); err != nil {
		return errEnded
	}
	ended := e.calls.load(data)
	if ended < 0 {
		return errEnded
	}
	return e.failure(ended)
}
