package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names under which this program is started again; see Init.
const (
	childName = "nacre: sandbox"
	guardName = "nacre: guard"
)

// Descriptors of the child, beside the three of the process.
const (
	planFd   = 3 // the plan, as JSON in a memfd
	reportFd = 4 // a packet socket: the child's reports; closed by executing the program
)

// Init must be the first thing main does: in a copy of this program that Run started, it
// becomes the sandbox's process and does not return.
func Init() {
	switch os.Args[0] {
	case childName:
		runChild()
	case guardName:
		runGuard()
	}
}

// runChild makes the sandbox around itself and executes the program in it.
func runChild() {
	// Credentials, the seccomp filter and some namespaces are the thread's. The
	// thread that executes the program is the one whose are kept.
	runtime.LockOSThread()
	c := child{}
	err := c.run()
	c.report(report{Fail: newFailure(err)})
	os.Exit(CodeSandbox)
}

// child is the state of the process that becomes the sandbox.
type child struct {
	plan
	root        int    // the root of the sandbox, O_PATH
	null, empty tree   // what covers masked files and directories
	sources     []int  // what plan.Mounts mounts, where it comes from the host or is a file; else -1
	devices     []tree // of plan.Devices
	dev, pts    int    // the file systems of /dev and /dev/pts, where they were mounted; else -1
	mountID     uint64 // of the root
}

// report is one message from the child. Each has one field set.
type report struct {
	Created string   `json:",omitempty"` // a mount point made in the root
	Fail    *failure `json:",omitempty"`
	Console bool     `json:",omitempty"` // the terminal's descriptor comes with it
}

// failure is a StartError on its way.
type failure struct {
	Code  int
	Op    string
	Text  string
	Errno syscall.Errno
}

func newFailure(err error) *failure {
	f := &failure{Code: CodeSandbox, Op: "sandbox", Text: err.Error()}
	var start *StartError
	if errors.As(err, &start) {
		f.Code, f.Op, f.Text = start.Code, start.Op, start.Err.Error()
	}
	errors.As(err, &f.Errno)
	return f
}

// startError is the failure for the caller: its text, and the error number it came from.
func (f *failure) startError() *StartError {
	return &StartError{Code: f.Code, Op: f.Op, Err: &remoteError{f.Text, f.Errno}}
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

func (c *child) report(r report, fds ...int) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(fds) == 0 {
		_, err = unix.Write(reportFd, data)
		return err
	}
	return unix.Sendmsg(reportFd, data, unix.UnixRights(fds...), nil, 0)
}

// run does it all, in this order: what needs the host's paths, the new root, what is
// mounted in it, and last what takes rights away.
func (c *child) run() error {
	if err := c.readPlan(); err != nil {
		return err
	}
	for _, step := range []func() error{
		c.enter, c.openSources, c.attachRoot, c.leaveHost,
		c.mountAll, c.makeTerminal, c.setNames, c.restrict, c.becomeUser,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return c.execute()
}

func (c *child) readPlan() error {
	var st unix.Stat_t
	if err := unix.Fstat(planFd, &st); err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	data := make([]byte, st.Size)
	for done := 0; done < len(data); {
		n, err := unix.Pread(planFd, data[done:], int64(done))
		if n <= 0 {
			return fmt.Errorf("read plan: %w", err)
		}
		done += n
	}
	unix.Close(planFd)
	unix.CloseOnExec(reportFd)
	return json.Unmarshal(data, &c.plan)
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
	if c.OOMScore != nil {
		if err := writeFile("/proc/self/oom_score_adj", fmt.Sprint(*c.OOMScore)); err != nil {
			return fail("set oom_score_adj", err)
		}
	}
	// A session keyring of its own: the one inherited is that of whoever started us.
	unix.KeyctlJoinSessionKeyring("")
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
