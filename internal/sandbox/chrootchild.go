package sandbox

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endFd is, in the process above, the socket to whoever started it.
const endFd = 4

// runAbove starts the process that is to have the root, as its only child, and becomes the parent of all that lose theirs.
func runAbove() {
	runtime.LockOSThread() // its child is killed when the thread that started it ends
	unix.CloseOnExec(endFd)
	unix.CloseOnExec(socketFd)
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	pid, err := syscall.ForkExec("/proc/self/exe", []string{childName}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2, socketFd}, Dir: "/",
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	unix.Close(socketFd)
	if err != nil {
		os.Exit(CodeSandbox)
	}
	go func() {
		var b [1]byte
		for {
			n, err := unix.Read(endFd, b[:])
			if n == 1 {
				unix.Kill(pid, unix.Signal(b[0]))
			} else if err != unix.EINTR {
				break // nobody is interested any more
			}
		}
		for { // until the other thread has nobody left to wait for
			killChildren()
			time.Sleep(time.Millisecond)
		}
	}()
	var end []byte
	for {
		if end != nil {
			killChildren()
		}
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			break
		}
		if got == pid {
			end = binary.NativeEndian.AppendUint32(nil, uint32(ws))
		}
	}
	unix.Write(endFd, end)
	os.Exit(0)
}

// killChildren kills all processes whose parent this one is.
func killChildren() {
	self := strconv.Itoa(os.Getpid())
	list, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range list {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && parentOf(dir) == self {
			killChild(pid, dir, self)
		}
	}
}

// killChild asks once more whose child it is when no other process can get that number.
func killChild(pid int, dir, self string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if parentOf(dir) == self {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// parentOf reads "pid (name) state ppid ..."; the name may have anything in it.
func parentOf(dir string) string {
	text, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}

// adoptOrphans has what a process above leaves behind become ours, should somebody have killed that.
var adoptOrphans = sync.OnceFunc(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })

// killOrphans kills what has become ours and has another root than we have: no process that we start ourselves has. Of
// those of other users nobody without more rights may see the root, which tells them as well.
func killOrphans() {
	self := strconv.Itoa(os.Getpid())
	for {
		found := false
		list, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range list {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil || parentOf(dir) != self {
				continue
			}
			root, err := os.Readlink(dir + "/root")
			if err == nil && root == "/" || errors.Is(err, unix.ENOENT) {
				continue
			}
			found = true
			killChild(pid, dir, self)
			unix.Wait4(pid, nil, 0, nil)
		}
		if !found {
			return
		}
	}
}

// chroot makes the tree the root. What is open that leads out of it is closed before the program is executed.
func (c *child) chroot() error {
	if err := unix.Chroot(c.Chroot); err != nil {
		return fail("chroot", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fail("chroot", err)
	}
	return c.allowedOnly()
}

// allowedOnly takes from the sets what we do not have ourselves: nobody can be given that.
func (c *child) allowedOnly() error {
	var now capSets
	if err := now.get(); err != nil {
		return fail("read capabilities", err)
	}
	for _, set := range []*uint64{&c.Caps.Effective, &c.Caps.Permitted, &c.Caps.Inheritable, &c.Caps.Ambient} {
		*set &= now.Permitted
	}
	if now.Permitted&(1<<unix.CAP_SETPCAP) == 0 {
		// It stays as it is, and root would have all of it again with the first program that is executed, unless that gives no new rights.
		c.NoNewPriv = c.NoNewPriv || bounding()&^c.Caps.Bounding != 0
		c.Caps.Bounding = ^uint64(0)
	}
	return nil
}

// bounding is the bounding set.
func bounding() (set uint64) {
	for n := range 64 {
		if has, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(n), 0); errno == 0 && has == 1 {
			set |= 1 << n
		}
	}
	return set
}

// filterLeftOut tells whether a filter is left out since there is no right to load one but together with no_new_privs, which would
// break sudo and su. That of the container around, if any, holds all the same.
func (c *child) filterLeftOut(err error) bool { return c.Chroot != "" && errors.Is(err, unix.EACCES) }
