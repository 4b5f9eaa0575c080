package sandbox

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A guard is another copy of this program that outlives it, for as long as it takes to
// clean up. If we are killed, the kernel kills the processes we started; but a
// process that changes its user or executes a setuid program is no longer among those
// (prctl(2), PR_SET_PDEATHSIG), and cgroups stay. So one guard is told of all processes
// and cgroups there are, and notices our end by the end of its socket.

// guardDelay is how long a process without cgroups runs before the guard is told of it.
// Most are over by then, and starting the guard costs as much as they do.
const guardDelay = 20 * time.Millisecond

// guardProcess is the guard's socket. It is started when first needed.
var guardProcess = sync.OnceValues(func() (int, error) {
	exe, err := selfExe()
	if err != nil {
		return -1, err
	}
	OwnDescriptors()
	null, err := devNull()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	p, err := os.StartProcess(exe, []string{guardName}, &os.ProcAttr{
		Env:   []string{"GOMAXPROCS=1"},
		Files: []*os.File{null, null, null, theirs},
		Dir:   "/",
		Sys:   &syscall.SysProcAttr{Setsid: true}, // what is typed to stop us is not for it
	})
	if err != nil {
		unix.Close(pair[0])
		return -1, err
	}
	go p.Wait()
	return pair[0], nil
})

// startGuard has a process guarded until the function it returns is called, and the directories
// that are to go with it: cgroups, and the bundle of hooks.
func startGuard(p *os.Process, dirs []string) (stop func()) {
	w := &watch{id: watchCount.Add(1), process: p, dirs: dirs}
	if len(dirs) > 0 {
		w.begin()
		return w.end
	}
	timer := time.AfterFunc(guardDelay, w.begin)
	return func() {
		timer.Stop()
		w.end()
	}
}

// Guard has a process that serves a sandbox killed when this one ends, however that is, until the
// function it returns is called.
func Guard(p *os.Process) (stop func()) {
	w := &watch{id: watchCount.Add(1), process: p}
	w.begin()
	return w.end
}

var watchCount atomic.Int64

// watch is one process the guard is, or is not yet, told of.
type watch struct {
	id      int64
	process *os.Process
	dirs    []string
	mu      sync.Mutex
	begun   bool
	ended   bool
}

// begin tells the guard: the process by a descriptor that cannot come to mean another. Where
// there is no guard to be had, the kernel's help is all there is.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	socket, err := guardProcess()
	if err != nil {
		return
	}
	text := append([]string{strconv.FormatInt(w.id, 10)}, w.dirs...)
	w.process.WithHandle(func(fd uintptr) {
		err := unix.Sendmsg(socket, []byte(strings.Join(text, "\n")), unix.UnixRights(int(fd)), nil, unix.MSG_NOSIGNAL)
		w.begun = err == nil
	})
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if !w.begun {
		return
	}
	if socket, err := guardProcess(); err == nil {
		unix.Sendmsg(socket, []byte(strconv.FormatInt(w.id, 10)), nil, nil, unix.MSG_NOSIGNAL)
	}
}

// removeLeft removes a cgroup or the bundle of hooks.
func removeLeft(dir string) {
	if strings.HasPrefix(dir, cgroupRoot+"/") {
		removeCgroup(dir)
	} else {
		os.RemoveAll(dir)
	}
}

// charge is what the guard knows of one process.
type charge struct {
	pidfd int
	dirs  []string
}

// runGuard listens until the other side is gone, then cleans up after it.
func runGuard() {
	charges := map[string]charge{}
	buf, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	unix.CloseOnExec(socketFd)
	for {
		n, rn, _, _, err := unix.Recvmsg(socketFd, buf, rights, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		id, dirs, _ := strings.Cut(string(buf[:n]), "\n")
		fds, err := receivedFds(rights[:rn], 1)
		if err != nil { // the process has ended
			unix.Close(charges[id].pidfd)
			delete(charges, id)
			continue
		}
		charges[id] = charge{fds[0], strings.FieldsFunc(dirs, func(r rune) bool { return r == '\n' })}
	}
	for _, c := range charges {
		unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
	}
	for _, c := range charges {
		// Its end is told by the descriptor becoming readable.
		unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}, 5000)
		for _, dir := range c.dirs {
			removeLeft(dir)
		}
	}
	os.Exit(0)
}
