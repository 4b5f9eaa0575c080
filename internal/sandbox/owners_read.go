package sandbox

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// request is a call as it was asked for.
type request struct {
	dir    int32
	path   string
	byPath bool
	follow bool
	empty  bool // an empty path is the directory itself
	flags  int

	uid, gid int // of a chown; -1: stays

	// Of a stat: where the answer goes.
	buf   uint64
	statx bool
	mask  int
}

// read makes out what was asked for.
func read(c ownerCall, n *notification) (r request, err error) {
	a := n.args
	r = request{dir: unix.AT_FDCWD, byPath: true, follow: true}
	var path, uid, gid uint64
	switch c.name {
	case "chown":
		path, uid, gid = a[0], a[1], a[2]
	case "lchown":
		path, uid, gid, r.follow = a[0], a[1], a[2], false
	case "fchown":
		r.dir, uid, gid, r.byPath = int32(a[0]), a[1], a[2], false
	case "fchownat":
		r.dir, path, uid, gid = int32(a[0]), a[1], a[2], a[3]
		r.setFlags(a[4])
	case "stat":
		path, r.buf = a[0], a[1]
	case "lstat":
		path, r.buf, r.follow = a[0], a[1], false
	case "fstat":
		r.dir, r.buf, r.byPath = int32(a[0]), a[1], false
	case "newfstatat":
		r.dir, path, r.buf = int32(a[0]), a[1], a[2]
		r.setFlags(a[3])
	case "statx":
		r.dir, path, r.mask, r.buf, r.statx = int32(a[0]), a[1], int(uint32(a[3])), a[4], true
		r.setFlags(a[2])
	}
	r.uid, r.gid = ownerID(uid, c.short), ownerID(gid, c.short)
	if r.byPath && !(path == 0 && r.empty) {
		r.path, err = readPath(int(n.pid), path)
	}
	return r, err
}

func (r *request) setFlags(flags uint64) {
	r.flags = int(uint32(flags))
	r.follow, r.empty = flags&unix.AT_SYMLINK_NOFOLLOW == 0, flags&unix.AT_EMPTY_PATH != 0
}

func ownerID(v uint64, short bool) int {
	id := uint32(v)
	if id == 1<<32-1 || short && uint16(id) == 1<<16-1 {
		return -1
	}
	if short {
		id &= 1<<16 - 1
	}
	return int(id)
}

// readPath reads a string from the caller's memory.
func readPath(pid int, at uint64) (string, error) {
	buf := make([]byte, 0, 256)
	for len(buf) < unix.PathMax {
		// Up to the end of a page at a time: the next may not be there.
		room := min(unix.PathMax-len(buf), 4096-int((at+uint64(len(buf)))%4096))
		buf = slices.Grow(buf, room)
		part := buf[len(buf) : len(buf)+room]
		n, err := unix.ProcessVMReadv(pid, []unix.Iovec{iovec(part)}, []unix.RemoteIovec{{Base: uintptr(at) + uintptr(len(buf)), Len: room}}, 0)
		if err != nil || n == 0 {
			return "", unix.EFAULT
		}
		if end := bytes.IndexByte(part[:n], 0); end >= 0 {
			return string(buf[:len(buf)+end]), nil
		}
		buf = buf[:len(buf)+n]
	}
	return "", unix.ENAMETOOLONG
}

// writeTo writes to the caller's memory.
func writeTo(pid int, at uint64, data []byte) error {
	n, err := unix.ProcessVMWritev(pid, []unix.Iovec{iovec(data)}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(data)}}, 0)
	if err != nil || n != len(data) {
		return unix.EFAULT
	}
	return nil
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}

// open opens what is to get another owner, from where the caller stands.
func (o *ownerThread) open(caller int, r request, n *notification) (int, error) {
	root, err := unix.Openat(caller, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	from := "cwd"
	if r.dir != unix.AT_FDCWD {
		from = "fd/" + strconv.Itoa(int(r.dir))
	}
	base := root
	if !r.byPath || r.path == "" || r.path[0] != '/' {
		base, err = unix.Openat(caller, from, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			err = unix.EBADF
		}
		if err != nil {
			return -1, err
		}
	}
	// Still the same process, so that what was opened was its own.
	if errno := o.ioctl(notifValid, unsafe.Pointer(&n.id)); errno != 0 {
		err = errno
	} else if !r.byPath || r.path == "" && r.empty {
		return base, nil
	} else if r.path == "" {
		err = unix.ENOENT
	} else if err = unix.Fchdir(root); err == nil {
		err = unix.Chroot(".")
	}
	if base != root {
		defer unix.Close(base)
	}
	if err != nil {
		return -1, err
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if !r.follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	for {
		fd, err := unix.Openat2(base, r.path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}
