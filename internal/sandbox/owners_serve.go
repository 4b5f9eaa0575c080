package sandbox

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"unsafe"

	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// ownerServer answers calls of one sandbox.
//
// What it does it does with the rights the sandbox's root has itself, and on files that are reached from the
// caller's root and working directory, as the kernel would: on a thread that has the caller's root for its own. A
// program that changes the name it gave meanwhile fools nobody but itself.
type ownerServer struct {
	*Owners
	listener int
	stop     int    // an eventfd(2)
	root     uint64 // the mount of the root: elsewhere nothing is recorded
	serving  sync.WaitGroup
}

// ownerThread is one of its threads, with a root of its own.
type ownerThread struct {
	*ownerServer
	proc int // our /proc
}

// notification is struct seccomp_notif, answer struct seccomp_notif_resp (include/uapi/linux/seccomp.h).
type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// ioctl(2) numbers of a listener.
const (
	notifReceive = 0xc0502100
	notifSend    = 0xc0182101
	notifValid   = 0x40082102
)

// end ends the service, once the process has ended, and says what was recorded that no file could have itself.
func (o *ownerServer) end() []rootfs.Recorded {
	if o == nil {
		return nil
	}
	unix.Write(o.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	o.serving.Wait()
	unix.Close(o.stop)
	unix.Close(o.listener)
	return o.list()
}

// linger lets the service go on for as long as there is a process of it: the first one's end is not that of others.
func (o *ownerServer) linger() {
	if o == nil {
		return
	}
	go func() {
		o.serving.Wait()
		unix.Close(o.stop)
		unix.Close(o.listener)
	}()
}

func (o *ownerServer) serve() {
	runtime.LockOSThread() // never unlocked: the thread, with its root, ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		defer runtime.UnlockOSThread()
		end := make(chan struct{})
		go func() { defer close(end); o.serve() }() // the first thread stays what it is
		<-end
		return
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil || unix.Unshare(unix.CLONE_FS) != nil {
		return
	}
	defer unix.Close(proc)
	t := ownerThread{o, proc}
	for t.next() {
	}
}

// next serves one call; false: there will be none any more.
func (o *ownerThread) next() bool {
	poll := []unix.PollFd{{Fd: int32(o.listener), Events: unix.POLLIN}, {Fd: int32(o.stop), Events: unix.POLLIN}}
	if _, err := unix.Poll(poll, -1); err != nil {
		return errors.Is(err, unix.EINTR)
	}
	if poll[0].Revents&unix.POLLIN == 0 {
		return false
	}
	var n notification
	if errno := o.ioctl(notifReceive, unsafe.Pointer(&n)); errno != 0 {
		return errno == unix.EINTR || errno == unix.ENOENT // the caller was killed
	}
	a := answer{id: n.id}
	var errno unix.Errno
	switch err := o.handle(&n); {
	case err == errNotOurs:
		const goOn = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE
		a.flags = goOn
	case errors.As(err, &errno):
		a.errno = -int32(errno)
	}
	o.ioctl(notifSend, unsafe.Pointer(&a)) // it may have been killed by now
	return true
}

func (o *ownerServer) ioctl(request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(o.listener), request, uintptr(arg))
	return errno
}

// errNotOurs: the kernel shall do what was asked for.
var errNotOurs = errors.New("not ours to answer")

func (o *ownerThread) handle(n *notification) error {
	c, ok := ownerCalls()[[2]uint32{n.arch, uint32(n.nr)}]
	if !ok {
		return errNotOurs
	}
	caller, err := unix.Openat(o.proc, strconv.Itoa(int(n.pid)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(caller)
	r, err := read(c, n)
	if err != nil {
		return err
	}
	target, err := o.open(caller, r, n)
	switch {
	case err != nil && c.stat:
		return errNotOurs
	case errors.Is(err, unix.ELOOP) && r.follow:
		return nil // a link of /proc, to an open file or the like: nothing that is in a layer
	case err != nil:
		return err
	}
	defer unix.Close(target)
	if c.stat {
		return o.stat(target, r, n)
	}
	return o.chown(target, r)
}

// linkMask is what has to be known of a file.
const linkMask = unix.STATX_MODE | unix.STATX_INO | unix.STATX_BTIME | unix.STATX_MTIME | unix.STATX_MNT_ID

// chown does to the file what a chown does besides (it is copied up, and loses setuid and capabilities), and records
// the owner.
func (o *ownerThread) chown(fd int, r request) error {
	real := func(id int) int { return min(id, 0) }
	err := unix.Fchownat(fd, "", real(r.uid), real(r.gid), unix.AT_EMPTY_PATH)
	var st unix.Statx_t
	if serr := unix.Statx(fd, "", unix.AT_EMPTY_PATH, linkMask, &st); serr != nil {
		return serr
	}
	if st.Mnt_id != o.root {
		if errors.Is(err, unix.EPERM) {
			return nil // a file of the machine's
		}
		return err
	}
	if err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		o.recordLink(fd, &st, r)
		return nil
	}
	was, name, err := o.recorded(fd)
	if err != nil {
		return err
	}
	now := r.apply(was)
	if now == (rootfs.Owner{}) {
		err = unix.Removexattr(name, rootfs.OwnerXattr)
		if errors.Is(err, unix.ENODATA) {
			err = nil
		}
		return err
	}
	return unix.Setxattr(name, rootfs.OwnerXattr, []byte(now.String()), 0)
}

// recorded reads the owner that a file or directory has recorded, root where none is. name is its name in our /proc: a
// descriptor that is only a place takes no attributes.
func (o *ownerThread) recorded(fd int) (owner rootfs.Owner, name string, err error) {
	if err := unix.Fchdir(o.proc); err != nil {
		return owner, "", err
	}
	name = "self/fd/" + strconv.Itoa(fd)
	buf := make([]byte, 64)
	if size, err := unix.Getxattr(name, rootfs.OwnerXattr, buf); err == nil {
		owner, _ = rootfs.ParseOwner(string(buf[:size]))
	}
	return owner, name, nil
}

func (r request) apply(o rootfs.Owner) rootfs.Owner {
	if r.uid >= 0 {
		o.UID = r.uid
	}
	if r.gid >= 0 {
		o.GID = r.gid
	}
	return o
}

// recordLink keeps the owner of what cannot have an attribute.
func (o *ownerThread) recordLink(fd int, st *unix.Statx_t, r request) {
	owner, _ := o.ofLink(fd, st)
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.links[st.Ino]
	if was.Born != st.Btime {
		was = rootfs.Recorded{Ino: st.Ino, Born: st.Btime, Owner: owner}
	}
	if path := o.path(fd); path != "" {
		was.Path = path
	}
	was.MTime = mtimeOf(st)
	was.Owner = r.apply(was.Owner)
	o.record(was)
}

// path is where in the root fd is; empty where that is not known.
func (o *ownerThread) path(fd int) string {
	buf := make([]byte, unix.PathMax)
	if unix.Fchdir(o.proc) != nil {
		return ""
	}
	n, err := unix.Readlink("self/fd/"+strconv.Itoa(fd), buf)
	if err != nil || n < 2 || buf[0] != '/' {
		return ""
	}
	return string(buf[1:n])
}

// belowOwner is the owner of a link as a layer has it, where it is still that one.
func (o *ownerThread) belowOwner(fd int, st *unix.Statx_t) rootfs.Owner {
	if len(o.below) == 0 {
		return rootfs.Owner{}
	}
	l, ok := o.below[o.path(fd)]
	if !ok || l.MTime != mtimeOf(st) {
		return rootfs.Owner{}
	}
	return l.Owner
}

func mtimeOf(st *unix.Statx_t) int64 { return st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec) }

// ofLink is the owner of what cannot have an attribute; false: none is known, and it is as it shows.
func (o *ownerThread) ofLink(fd int, st *unix.Statx_t) (rootfs.Owner, bool) {
	o.mu.Lock()
	r, ok := o.links[st.Ino]
	some := len(o.known) > 0
	o.mu.Unlock()
	if ok && r.Born == st.Btime {
		return r.Owner, true
	}
	if some {
		path := o.path(fd)
		o.mu.Lock()
		r, ok = o.known[path]
		o.mu.Unlock()
		if ok && r.Ino != st.Ino && r.MTime == mtimeOf(st) {
			return r.Owner, true
		}
	}
	owner := o.belowOwner(fd, st)
	return owner, owner != rootfs.Owner{}
}
