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

// Guard has a process that serves a sandbox killed when this one ends, however that is, until the
// function it returns is called.
func Guard(p *os.Process) (stop func()) {
	var w watch
	w.follow(startedProcess(p))
	w.tell()
	return w.end
}

var watchCount atomic.Int64

// watch is one process that is guarded, and the directories that are to go with it: cgroups, and the bundle of
// hooks. The zero value has neither.
type watch struct {
	mu      sync.Mutex
	id      int64
	process *process
	dirs    []string
	late    *time.Timer // after which the guard is told
	begun   bool        // it was
	ended   bool
}

// leave has a directory guarded that is about to be made.
func (w *watch) leave(dir string) {
	w.mu.Lock()
	w.dirs = append(w.dirs, dir)
	w.mu.Unlock()
	w.tell()
}

// follow has a process guarded; one without directories if it runs for some time.
func (w *watch) follow(p *process) {
	w.mu.Lock()
	w.process = p
	alone := len(w.dirs) == 0
	if alone {
		w.late = time.AfterFunc(guardDelay, w.tell)
	}
	w.mu.Unlock()
	if !alone {
		w.tell()
	}
}

// tell tells the guard: the process by a descriptor that cannot come to mean another. Where
// there is no guard to be had, the kernel's help is all there is.
func (w *watch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	socket, err := guardProcess()
	if err != nil {
		return
	}
	if w.id == 0 {
		w.id = watchCount.Add(1)
	}
	text := []byte(strings.Join(append([]string{strconv.FormatInt(w.id, 10)}, w.dirs...), "\n"))
	send := func(rights []byte) {
		if unix.Sendmsg(socket, text, rights, nil, unix.MSG_NOSIGNAL) == nil {
			w.begun = true
		}
	}
	if w.process == nil {
		send(nil)
		return
	}
	w.process.WithHandle(func(fd uintptr) { send(unix.UnixRights(int(fd))) })
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.late != nil {
		w.late.Stop()
	}
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

// charge is what the guard knows of one process, which may not have been started yet.
type charge struct {
	pidfd int // or -1
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
		if old, ok := charges[id]; ok && old.pidfd >= 0 {
			unix.Close(old.pidfd)
		}
		c := charge{-1, strings.FieldsFunc(dirs, func(r rune) bool { return r == '\n' })}
		if fds, err := receivedFds(rights[:rn], 1); err == nil {
			c.pidfd = fds[0]
		}
		if charges[id] = c; c.pidfd < 0 && len(c.dirs) == 0 { // it has ended
			delete(charges, id)
		}
	}
	for _, c := range charges {
		if c.pidfd >= 0 {
			unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
		}
	}
	for _, c := range charges {
		if c.pidfd >= 0 { // its end is told by the descriptor becoming readable
			unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}, 5000)
		}
		for _, dir := range c.dirs {
			removeLeft(dir)
		}
	}
	os.Exit(0)
}
