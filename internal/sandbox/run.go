package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Run runs one process and waits for its end and that of its output.
//
// The error is nil if the process ran, whatever its exit code. A *StartError says that
// it did not. Where ctx ends, the process is killed, with all it started, and the
// error is the context's cause. Where writing its output failed the error is that,
// and the process got SIGPIPE if it went on writing. Status is valid in all cases.
func Run(ctx context.Context, c Config) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, context.Cause(ctx)
	}
	p, err := newPlan(&c)
	if err != nil {
		return Status{}, fail("sandbox", err)
	}
	if p.Scratch, err = scratchDir(); err != nil {
		return Status{}, fail("sandbox", err)
	}
	r := runner{Config: &c, plan: p, flags: cloneFlags(c.Spec)}
	return r.run(ctx)
}

// runner is one Run.
type runner struct {
	*Config
	plan    *plan
	flags   uintptr
	streams streams
	cgroup  cgroup
	process *os.Process
	status  Status
}

func (r *runner) run(ctx context.Context) (Status, error) {
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := r.makeCgroup(); err != nil {
		return r.status, fail("cgroup", err)
	}
	defer r.cgroup.remove()
	reports, err := r.start()
	if err != nil {
		r.streams.abandon()
		return r.status, err
	}
	watch := startGuard(r.process, r.cgroup.dirs)
	defer watch.stop()
	stopKill := context.AfterFunc(ctx, func() { r.process.Kill() })
	startErr := r.receive(reports)
	if startErr == nil {
		r.streams.run(r.Config)
	}
	state, err := r.wait()
	stopKill()
	if startErr != nil {
		r.streams.abandon()
		if ctx.Err() != nil {
			return r.status, context.Cause(ctx)
		}
		return r.status, startErr
	}
	outErr := r.streams.wait()
	if err != nil {
		return r.status, fmt.Errorf("wait for process: %w", err)
	}
	r.finish(state)
	if ctx.Err() != nil && r.status.Signal == syscall.SIGKILL {
		return r.status, context.Cause(ctx)
	}
	return r.status, outErr
}

// wait passes signals on until the process ended, and reaps it.
func (r *runner) wait() (*os.ProcessState, error) {
	done := make(chan struct{})
	var forward sync.WaitGroup
	if r.Signals != nil {
		forward.Go(func() { r.forward(done) })
	}
	state, err := r.process.Wait()
	close(done)
	forward.Wait()
	return state, err
}

func (r *runner) forward(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case sig, ok := <-r.Signals:
			if !ok {
				return
			}
			r.process.Signal(sig) // it may have ended by now
		}
	}
}

// finish reads the status out of the process's end.
func (r *runner) finish(state *os.ProcessState) {
	ws := state.Sys().(syscall.WaitStatus)
	r.status.Code = ws.ExitStatus()
	if ws.Signaled() {
		r.status.Signal = ws.Signal()
		r.status.Code = 128 + int(ws.Signal())
	}
	if u, ok := state.SysUsage().(*syscall.Rusage); ok {
		r.status.Usage = Usage{User: u.Utime, System: u.Stime, MaxRSS: int64(u.Maxrss) << 10}
	}
	r.status.OOMKilled = r.cgroup.oomKilled()
}

// start starts the child. What it has to say comes over the socket that is returned.
func (r *runner) start() (reports int, err error) {
	plan, err := r.writePlan()
	if err != nil {
		return -1, fail("sandbox", err)
	}
	defer plan.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fail("sandbox", os.NewSyscallError("socketpair", err))
	}
	theirs := os.NewFile(uintptr(pair[1]), "reports")
	defer theirs.Close()
	exe, err := selfExe()
	if err != nil {
		unix.Close(pair[0])
		return -1, fail("sandbox", err)
	}
	files := append(r.streams.theirs[:], plan, theirs)
	r.process, err = os.StartProcess(exe, []string{childName}, &os.ProcAttr{
		Env:   []string{"GOGC=off", "GOMAXPROCS=1"},
		Files: files,
		Dir:   "/",
		Sys:   &syscall.SysProcAttr{Cloneflags: r.flags, Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	r.streams.closeTheirs()
	if err != nil {
		unix.Close(pair[0])
		return -1, fail("start sandbox", err)
	}
	return pair[0], nil
}

// writePlan opens the streams, of which the plan tells, and puts the plan in a file.
func (r *runner) writePlan() (*os.File, error) {
	if err := r.streams.open(r.Config); err != nil {
		return nil, err
	}
	r.plan.OwnStdio = r.streams.own
	data, err := json.Marshal(r.plan)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("nacre-plan", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "plan")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// receive reads reports until the child executed its program or failed to.
func (r *runner) receive(socket int) error {
	defer unix.Close(socket)
	buf := make([]byte, 64<<10)
	rights := make([]byte, unix.CmsgSpace(4))
	for {
		n, rn, _, _, err := unix.Recvmsg(socket, buf, rights, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fail("read reports", err)
		case n == 0:
			return r.started()
		}
		var m report
		if err := json.Unmarshal(bytes.TrimRight(buf[:n], "\x00"), &m); err != nil {
			return fail("read reports", err)
		}
		if m.Created != "" {
			r.status.Created = append(r.status.Created, m.Created)
		}
		if m.Fail != nil {
			return m.Fail.startError()
		}
		if m.Console {
			if r.streams.console, err = receivedFile(rights[:rn]); err != nil {
				return fail("terminal", err)
			}
		}
	}
}

// started tells a process that executed its program from one that ended on the way.
func (r *runner) started() error {
	// A program may end at once; what ends before it became that program had not
	// said why: killed from outside, or for want of memory.
	return nil
}

func receivedFile(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, errors.New("no descriptor came with the message")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("no descriptor came with the message")
	}
	unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// scratchDir is the directory the child mounts over before it leaves the host's root. It
// is always the same and always empty: mounts on it are seen by none but the child.
var scratchDir = sync.OnceValues(func() (string, error) {
	candidates := []string{"/run/nacre/sandbox", filepath.Join(os.TempDir(), "nacre-sandbox-"+strconv.Itoa(os.Getuid()))}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Getuid() != 0 {
		candidates[0] = filepath.Join(dir, "nacre/sandbox")
	}
	var errs []error
	for _, dir := range candidates {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
})

// selfExe is a path of this program, as a read-only mount that is nowhere in the file
// system: a process in the sandbox could get hold of the file through
// /proc/1/exe, and write to it once nobody executes it any more (CVE-2019-5736).
var selfExe = sync.OnceValues(func() (string, error) {
	fd, err := openTree(unix.AT_FDCWD, "/proc/self/exe", 0)
	if err != nil {
		return "", fmt.Errorf("open own program: %w", err)
	}
	if err := setAttr(fd, unix.MOUNT_ATTR_RDONLY, 0, unix.MS_PRIVATE, false); err != nil {
		return "", fmt.Errorf("open own program: %w", err)
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), nil
})
