package sandbox

import (
	"errors"
	"os"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Paths of the sandbox are the image's: any component may be a symlink to anywhere. They
// are only ever followed in the kernel's care, inside the root and not through
// the links in /proc, which lead out of it.

// open opens name in the root with O_PATH and more flags.
func (c *child) open(name string, flags uint64) (int, error) { return openIn(c.root, name, flags) }

// openIn is open for the root that a descriptor refers to.
func openIn(root int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(root, name, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			// Something on this machine was renamed or mounted at that moment.
		default:
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// mountPoint opens name in the root and makes it where it is not there, as a directory
// or an empty file. What it makes in the root itself is reported.
func (c *child) mountPoint(name string, dir bool) (int, error) {
	fd, err := c.open(name, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if fd, err = c.makeLast(path.Clean("/"+name), dir); err == nil {
		return fd, nil
	}
	return c.make(name, dir)
}

// makeLast is the usual case: all but the last component of name, which has no symlinks
// in it, are there.
func (c *child) makeLast(name string, dir bool) (int, error) {
	parent, base := path.Split(name)
	up, err := c.open(parent, unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	if id, err := mountID(up); err != nil || id == c.mountID {
		return -1, unix.EXDEV // to be reported under its real name, which takes a walk
	}
	if err := mknod(up, base, dir); err != nil {
		return -1, err
	}
	return unix.Openat(up, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func mknod(up int, name string, dir bool) error {
	if dir {
		return unix.Mkdirat(up, name, 0o755)
	}
	return unix.Mknodat(up, name, unix.S_IFREG|0o644, 0)
}

// make makes what is missing of name.
func (c *child) make(name string, dir bool) (int, error) { return makeIn(c.root, name, dir, c.create) }

// makeIn walks name in a root, following symlinks by hand, and has create make what is missing.
func makeIn(root int, name string, dir bool, create func(parent, name string, dir bool) error) (int, error) {
	at, todo, links := ".", splitPath(name), 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		fd, err := openIn(root, next, unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			err = create(at, part, dir || len(todo) > 0)
			if err != nil {
				return -1, err
			}
			at = next
			continue
		}
		if err != nil {
			return -1, err
		}
		target, isLink, err := readLink(fd)
		unix.Close(fd)
		switch {
		case err != nil:
			return -1, &os.PathError{Op: "readlink", Path: next, Err: err}
		case !isLink:
			at = next
			continue
		}
		if links++; links > 40 {
			return -1, &os.PathError{Op: "open", Path: name, Err: unix.ELOOP}
		}
		if path.IsAbs(target) {
			at = "."
		}
		todo = append(splitPath(target), todo...)
	}
	return openIn(root, at, unix.O_NOFOLLOW)
}

func splitPath(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// readLink reads the link fd refers to; false if it is something else.
func readLink(fd int) (string, bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", true, err
	}
	return string(buf[:n]), true, nil
}

// create makes an empty directory or file. A directory of the root that it is made
// in keeps its time: it shall not look changed because of us.
func (c *child) create(parent, name string, dir bool) error {
	full := path.Join(parent, name)
	up, err := c.open(parent, unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(up)
	var before unix.Stat_t
	if err := unix.Fstat(up, &before); err != nil {
		return &os.PathError{Op: "stat", Path: parent, Err: err}
	}
	if err := mknod(up, name, dir); err != nil {
		return &os.PathError{Op: "make mount point", Path: "/" + full, Err: err}
	}
	id, err := mountID(up)
	if err != nil || id != c.mountID {
		return err
	}
	if err := setTimes(up, &before); err != nil {
		return &os.PathError{Op: "set times", Path: "/" + parent, Err: err}
	}
	return c.created(full)
}

// setTimes sets the times of the directory an O_PATH descriptor refers to.
func setTimes(fd int, st *unix.Stat_t) error {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	times := [2]unix.Timespec{st.Atim, st.Mtim}
	_, _, errno := unix.RawSyscall6(unix.SYS_UTIMENSAT, uintptr(dir), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// mountID identifies the mount fd is on.
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, os.NewSyscallError("statx", err)
	}
	return st.Mnt_id, nil
}
