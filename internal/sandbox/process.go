package sandbox

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a child of ours, by a descriptor that cannot come to mean another. It is an os.Process, or one that was made by
// clone(2): the first of all os.FindProcess forks once to see what descriptors of processes can do here, which takes as long as making one.
type process struct {
	Pid   int
	known *os.Process // nil: fd is all there is

	mu sync.Mutex
	fd int // -1: it was waited for
}

// startedProcess is one that package os has started or found.
func startedProcess(p *os.Process) *process { return &process{Pid: p.Pid, known: p, fd: -1} }

// clonedProcess is a child that nobody else waits for. It takes Linux 5.3; where it fails the child is ended.
func clonedProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		syscall.Kill(pid, syscall.SIGKILL)
		syscall.Wait4(pid, nil, 0, nil)
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &process{Pid: pid, fd: fd}, nil
}

// WithHandle calls f with a descriptor of the process, which is f's until it returns.
func (p *process) WithHandle(f func(fd uintptr)) error {
	if p.known != nil {
		return p.known.WithHandle(f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return os.ErrProcessDone
	}
	f(uintptr(p.fd))
	return nil
}

// Signal sends a signal. Errors: os.ErrProcessDone.
func (p *process) Signal(sig os.Signal) error {
	if p.known != nil {
		return p.known.Signal(sig)
	}
	number, ok := sig.(syscall.Signal)
	if !ok {
		return errors.New("unsupported signal type")
	}
	var err error
	if gone := p.WithHandle(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), number, nil, 0) }); gone != nil {
		return gone
	}
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Kill ends the process.
func (p *process) Kill() error { return p.Signal(syscall.SIGKILL) }

// waitEnd waits for its end and leaves that to be waited for.
func (p *process) waitEnd() error {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("waitid", err)
		}
	}
}

// Wait waits for its end. It is called once.
func (p *process) Wait() (*ended, error) {
	if p.known != nil {
		state, err := p.known.Wait()
		if err != nil {
			return nil, err
		}
		e := &ended{status: state.Sys().(syscall.WaitStatus)}
		if u, ok := state.SysUsage().(*syscall.Rusage); ok {
			e.usage = *u
		}
		return e, nil
	}
	e := &ended{}
	for {
		_, err := syscall.Wait4(p.Pid, &e.status, 0, &e.usage)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		p.mu.Lock()
		unix.Close(p.fd)
		p.fd = -1
		p.mu.Unlock()
		if err != nil {
			return nil, os.NewSyscallError("wait4", err)
		}
		return e, nil
	}
}

// ended is how a process ended, and what it used with all its children.
type ended struct {
	status syscall.WaitStatus
	usage  syscall.Rusage
}

func (e *ended) String() string {
	switch {
	case e == nil:
		return "nothing is known of its end"
	case e.status.Signaled():
		return fmt.Sprintf("signal: %s", e.status.Signal())
	}
	return fmt.Sprintf("exit status %d", e.status.ExitStatus())
}

func (e *ended) used() Usage {
	return Usage{User: e.usage.Utime, System: e.usage.Stime, MaxRSS: e.usage.Maxrss << 10}
}
