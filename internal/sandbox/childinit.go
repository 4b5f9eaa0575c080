package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// executeInit makes this process the sandbox's init. All rights are gone by now, and what of a Go program cannot
// be undone (handlers of signals above all) goes by executing it once more.
func (c *child) executeInit() error {
	if _, err := unix.FcntlInt(socketFd, unix.F_SETFD, 0); err != nil { // for reports
		return fail("start init", err)
	}
	argv, err := syscall.SlicePtrFromStrings(append([]string{initName}, c.Args...))
	if err != nil {
		return fail("start init", err)
	}
	envv, err := syscall.SlicePtrFromStrings(c.Env)
	if err != nil {
		return fail("start init", err)
	}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(c.exe), uintptr(unsafe.Pointer(new(byte))),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	runtime.KeepAlive(argv)
	runtime.KeepAlive(envv)
	return fail("start init", errno)
}

// openProgram keeps our own program open, where it is to be executed again: what has its name in the sandbox may
// be something else.
func (c *child) openProgram() (err error) {
	if c.Init {
		if c.exe, err = unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return fail("open own program", err)
		}
	}
	return nil
}

// initComm is the name of a thread of the process once it takes signals.
const initComm = "nacre-init"

// initPatience is how long an init may take from its start to its signals, on a machine that has other things to do.
const initPatience = 30 * time.Second

// awaitInit waits until a process that another runtime has started is an init, or has ended.
func (l *launched) awaitInit() error {
	for end := time.Now().Add(initPatience); !isInit(l.process.Pid); {
		if time.Now().After(end) {
			return fmt.Errorf("the container's init takes no signals after %v", initPatience)
		}
		select {
		case <-l.done:
			return nil
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// isInit tells whether any thread of a process has the name: which of them Go gives it to is not known.
func isInit(pid int) bool {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(file string) bool {
		name, err := os.ReadFile(file)
		return err == nil && strings.TrimSpace(string(name)) == initComm
	})
}

// runInit starts the program and looks after it. With reports it tells who started us what became of that.
func runInit(reports bool) {
	if reports {
		unix.CloseOnExec(socketFd)
	}
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20)
	c := child{}
	c.Args, c.Env = os.Args[1:], os.Environ()
	all := make(chan os.Signal, 64)
	signal.Notify(all)
	// A terminal is handed to the program, and is ours no more.
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN)
	// That it is an init is what others wait for before they send it signals.
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&[]byte(initComm + "\x00")[0])), 0, 0, 0)
	_, err := unix.IoctlGetTermios(0, unix.TCGETS)
	attr := &os.ProcAttr{Env: c.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setpgid: err != nil, Foreground: err == nil}}
	var program *os.Process
	err = c.search(func(name string) (err error) {
		program, err = os.StartProcess(name, c.Args, attr)
		if perr, ok := err.(*os.PathError); ok {
			return perr.Err
		}
		return err
	})
	switch {
	case err != nil && reports:
		c.report(reportStarting, "")
		c.report(reportFailure, encodeFailure(err))
		os.Exit(CodeSandbox)
	case err != nil:
		notStarted(err)
	case reports:
		c.report(reportStarting, "")
		unix.Close(socketFd)
	}
	for s := range all {
		switch s {
		case syscall.SIGCHLD:
			reap(program.Pid)
		case syscall.SIGURG: // Go's own
		default:
			program.Signal(s)
		}
	}
}

// notStarted ends with the exit code that says so.
func notStarted(err error) {
	start := &StartError{Code: CodeSandbox, Op: "init", Err: err}
	errors.As(err, &start)
	fmt.Fprintln(os.Stderr, start)
	os.Exit(start.Code)
}

// reap takes the exit codes there are, and ends with the program.
func reap(program int) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid != program || ws.Stopped() {
			continue
		}
		if ws.Signaled() {
			os.Exit(128 + int(ws.Signal()))
		}
		os.Exit(ws.ExitStatus())
	}
}
