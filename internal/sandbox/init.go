package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names under which this program is started again; see Init.
const (
	childName = "nacre: sandbox"
	aboveName = "nacre: chroot"
	guardName = "nacre: guard"
	execName  = "nacre: exec"
	initName  = "nacre: init"
)

// Descriptors of the child, beside the three of the process.
const (
	// socketFd is a packet socket. The plan's file and the standard streams come in by
	// it, reports go out. Executing the program closes it.
	socketFd = 3
)

// Init must be the first thing main does: in a copy of this program that Run started, it
// becomes the sandbox's process and does not return.
func Init() {
	switch os.Args[0] {
	case childName:
		runChild()
	case aboveName:
		runAbove()
	case guardName:
		runGuard()
	case execName:
		runExec()
	case initName:
		runInit(true)
	case initPath:
		runInit(false)
	}
}

// runChild makes the sandbox around itself and executes the program in it.
func runChild() {
	// Credentials, the seccomp filter and some namespaces are the thread's. The
	// thread that executes the program is the one whose are kept.
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) // if we start too late for it, the socket has an end
	c := child{}
	c.created = func(name string) error { return c.report(reportCreated, name) }
	err := c.run()
	c.report(reportFailure, encodeFailure(err))
	os.Exit(CodeSandbox)
}

// child is the state of what puts the sandbox together: the process that becomes it, in a copy of
// this program, or else a thread.
type child struct {
	plan
	created func(name string) error      // is told what had to be made in the root
	proc    func(mount int) (int, error) // has mounted /proc; nil: it can be mounted here

	root        int         // the root of the sandbox, O_PATH
	null, empty tree        // what covers masked files and directories
	sources     []int       // what plan.Mounts mounts, where it comes from the host or is a file; else -1
	devices     []int       // of plan.Devices
	dev, pts    int         // the file systems of /dev and /dev/pts, where they were mounted; else -1
	mountID     uint64      // of the root
	exe         int         // this program, with plan.Init
	joined      bool        // it is in a sandbox that was there before
	startSocket int         // with plan.Waits
	givenRoot   int         // with plan.RootGiven
	givenMounts map[int]int // by index of plan.Given
}

// init is to be called once the plan is known, which it leaves as it is.
func (c *child) init() {
	c.root, c.null.fd, c.empty.fd, c.dev, c.pts = -1, -1, -1, -1, -1
	c.sources = make([]int, len(c.Mounts))
	for i := range c.sources {
		c.sources[i] = -1
	}
	c.Root.Lower, c.Mounts = slices.Clone(c.Root.Lower), slices.Clone(c.Mounts)
}

// close closes all that is open.
func (c *child) close() {
	for _, list := range [][]int{{c.root, c.null.fd, c.empty.fd, c.dev, c.pts}, c.sources, c.devices} {
		for _, fd := range list {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
}

// report is one message from the child: its kind in the first byte, then a text.
//
//	c  path: a mount point was made in the root
//	t  the terminal's descriptor comes with it
//	o  the listener of a filter comes with it, the text is the mount id of the root: see owners.go
//	h  hooks are to be run on the host now; an empty packet in return lets it go on
//	w  it waits for Start; what follows goes to who calls that
//	s  the program is executed now: it is this message's sender or nobody
//	f  code, error number, operation, text with newlines between: it failed
const (
	reportCreated  = 'c'
	reportTerminal = 't'
	reportOwners   = 'o'
	reportHooks    = 'h'
	reportWaiting  = 'w'
	reportStarting = 's'
	reportFailure  = 'f'
)

// encodeFailure writes down why the child gave up.
func encodeFailure(err error) string {
	start := &StartError{Code: CodeSandbox, Op: "sandbox", Err: err}
	errors.As(err, &start)
	var errno syscall.Errno
	errors.As(err, &errno)
	op := strings.ReplaceAll(start.Op, "\n", " ")
	return fmt.Sprintf("%d\n%d\n%s\n%s", start.Code, errno, op, start.Err)
}

// decodeFailure makes it the caller's error, with the error number it came from.
func decodeFailure(text string) *StartError {
	part := append(strings.SplitN(text, "\n", 4), "", "", "")
	code, _ := strconv.Atoi(part[0])
	errno, _ := strconv.Atoi(part[1])
	return &StartError{Code: code, Op: part[2], Err: &remoteError{part[3], syscall.Errno(errno)}}
}

// remoteError is an error of another process.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}

// report sends a message, with descriptors if any.
func (c *child) report(kind byte, text string, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(socketFd, append([]byte{kind}, text...), rights, nil, 0)
}

// run does it all, in this order: what needs the host's paths, the new root with what is
// mounted in it, and last what takes rights away.
func (c *child) run() error {
	if err := c.readPlan(); err != nil {
		return err
	}
	steps := []func() error{
		c.openProgram, c.enter, c.openSources, c.attachRoot, c.mountAll, c.createHooks, c.leaveHost,
		c.makeTerminal, c.setNames, c.restrict, c.becomeUser, c.awaitStart, c.startHooks,
	}
	if c.Chroot != "" {
		steps = []func() error{c.enter, c.chroot, c.becomeUser}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return c.execute()
}

// readPlan waits for the plan and the standard streams.
func (c *child) readPlan() error {
	unix.CloseOnExec(socketFd)
	fds, err := receivePlan()
	if err != nil {
		return fail("receive plan", err)
	}
	for fd, theirs := range fds[1:4] {
		if err := unix.Dup3(theirs, fd, 0); err != nil {
			return fail("take over standard streams", err)
		}
		unix.Close(theirs)
	}
	data, err := readAll(fds[0])
	if err != nil {
		return fail("read plan", err)
	}
	unix.Close(fds[0])
	fds = fds[4:]
	if err = c.plan.decode(data); err == nil {
		err = c.outlive()
	}
	if err == nil && c.Waits && len(fds) > 0 {
		c.startSocket, fds = fds[0], fds[1:]
	}
	if err == nil {
		err = c.takeGiven(fds)
	}
	c.init()
	return err
}

// receivePlan waits for the descriptors: the plan's file and three streams. It does
// not return if there is nobody any more to send them.
func receivePlan() ([]int, error) {
	buf, rights := make([]byte, 16), make([]byte, unix.CmsgSpace(4*maxRights))
	for {
		n, rn, _, _, err := unix.Recvmsg(socketFd, buf, rights, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, err
		case n == 0:
			os.Exit(CodeSandbox)
		}
		return receivedSome(rights[:rn], 4)
	}
}

// maxRights is how many descriptors a message has at most (SCM_MAX_FD).
const maxRights = 253

// receivedSome takes the descriptors that came with a message, least of them or more.
func receivedSome(rights []byte, least int) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptors came with the message")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil && len(fds) < least {
		err = fmt.Errorf("%d descriptors came with the message, not %d", len(fds), least)
	}
	return fds, err
}

// dropFds closes the descriptors that came with a message.
func dropFds(rights []byte) {
	if fds, err := receivedSome(rights, 0); err == nil {
		closeAll(fds)
	}
}

// receivedFds takes the descriptors that came with a message.
func receivedFds(rights []byte, count int) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptors came with the message")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err == nil && len(fds) != count {
		err = fmt.Errorf("%d descriptors came with the message, not %d", len(fds), count)
	}
	return fds, err
}

// readAll reads the file fd is, from its start.
func readAll(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	data := make([]byte, st.Size)
	for done := 0; done < len(data); {
		n, err := unix.Pread(fd, data[done:], int64(done))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		done += n
	}
	return data, nil
}

// enter joins what the process is to be a member of.
func (c *child) enter() error {
	for _, file := range c.Cgroups {
		if err := writeFile(file, "0"); err != nil {
			return fail("enter cgroup", err)
		}
	}
	if c.NewCgroupNS {
		// Only now, so that it begins at the cgroup entered.
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fail("new cgroup namespace", err)
		}
	}
	if err := c.join(); err != nil {
		return err
	}
	if c.SetOOMScore {
		if err := writeFile("/proc/self/oom_score_adj", strconv.Itoa(c.OOMScore)); err != nil {
			return fail("set oom_score_adj", err)
		}
	}
	newKeyring()
	return nil
}

// newKeyring gives this thread a session keyring of its own: the one inherited is that of whoever started us. It has no
// name; an empty one, as unix.KeyctlJoinSessionKeyring would have it, is refused. Without keys in the kernel there is none
// to be had.
func newKeyring() {
	unix.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
}

// join enters namespaces of others.
func (c *child) join() error {
	for _, j := range c.Join {
		fd, err := unix.Open(j.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, j.Flag)
			unix.Close(fd)
		}
		if err != nil {
			return fail("enter namespace "+j.Path, err)
		}
	}
	return nil
}

func writeFile(name, text string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return &os.PathError{Op: "write", Path: name, Err: err}
	}
	return nil
}
