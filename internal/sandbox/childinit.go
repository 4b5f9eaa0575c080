package sandbox

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
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

// runInit starts the program and looks after it.
func runInit() {
	unix.CloseOnExec(socketFd)
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&[]byte("nacre-init\x00")[0])), 0, 0, 0)
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20)
	c := child{}
	c.Args, c.Env = os.Args[1:], os.Environ()
	all := make(chan os.Signal, 64)
	signal.Notify(all)
	// A terminal is handed to the program, and is ours no more.
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN)
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
	if err != nil {
		c.report(reportStarting, "")
		c.report(reportFailure, encodeFailure(err))
		os.Exit(CodeSandbox)
	}
	c.report(reportStarting, "")
	unix.Close(socketFd)
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
