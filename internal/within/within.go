// Package within reads and writes files below a directory that others change meanwhile, without ever being led out
// of it: by symlinks, by "..", or by a directory that becomes one or the other at the wrong moment.
//
// A container's root is such a directory. Paths are the container's own: absolute, with the directory as "/",
// symlinks followed as a process in there follows them. Every path is resolved by the kernel, in one call, from
// a descriptor of the directory (openat2(2), RESOLVE_IN_ROOT); what is found is a descriptor, too, and from then on
// no name is trusted. Mounts are crossed; the links of /proc that lead anywhere are not followed.
package within

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// Tree is a directory and all below it.
type Tree struct{ root *os.File }

// Open makes a Tree of an open directory, which stays the caller's; O_PATH is enough.
func Open(root *os.File) *Tree { return &Tree{root} }

// maxTries bounds how often a lookup is begun anew because something was renamed meanwhile: with somebody who
// does nothing else it might never end.
const maxTries = 10_000

// openat opens name as a process would whose root is the tree.
func (t *Tree) openat(name string, flags int, mode uint32) (int, error) {
	return resolve(int(t.root.Fd()), name, flags, mode, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// entry opens base, one name, in a directory. It does not follow it.
func entry(dir int, base string, flags int, mode uint32) (int, error) {
	return resolve(dir, base, flags|unix.O_NOFOLLOW, mode, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func resolve(dir int, name string, flags int, mode uint32, how uint64) (int, error) {
	h := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Mode: uint64(mode), Resolve: how}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, name, &h)
		// EAGAIN: something was renamed meanwhile, and the kernel could not be sure.
		if (err == unix.EINTR || err == unix.EAGAIN) && try < maxTries {
			continue
		}
		return fd, err
	}
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Open implements fs.FS: the regular file or directory that name leads to, for reading.
func (t *Tree) Open(name string) (fs.File, error) {
	f, _, err := t.open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// open opens what name leads to if it is a file or a directory: opening a pipe or a device does things to it.
func (t *Tree) open(name string) (*os.File, *unix.Stat_t, error) {
	fd, err := t.openat(name, unix.O_PATH, 0)
	if err != nil {
		return nil, nil, pathError("open", name, err)
	}
	defer unix.Close(fd)
	return reopen(fd, name)
}

// procPath is a path of what an open descriptor is, whatever its name is now.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// errSpecial: it cannot be read as a file is.
var errSpecial = errors.New("not a regular file or directory")

// reopen opens for reading what the O_PATH descriptor fd is.
func reopen(fd int, name string) (*os.File, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, pathError("stat", name, err)
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return nil, nil, pathError("open", name, errSpecial)
	}
	readable, err := unix.Open(procPath(fd), flags, 0)
	if err != nil {
		return nil, nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(readable), name), &st, nil
}

// Info is what is known of a file.
type Info struct {
	Name string // the last part of its path; "/" for the root
	unix.Stat_t
	Link string // of a symlink
}

// IsDir tells whether it is a directory.
func (i *Info) IsDir() bool { return i.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsLink tells whether it is a symlink.
func (i *Info) IsLink() bool { return i.Mode&unix.S_IFMT == unix.S_IFLNK }

// Lstat describes what is at name, symlinks on the way followed, the last not; Stat follows that, too.
func (t *Tree) Lstat(name string) (*Info, error) { return t.stat(name, unix.O_NOFOLLOW) }

// Stat describes what name leads to.
func (t *Tree) Stat(name string) (*Info, error) { return t.stat(name, 0) }

func (t *Tree) stat(name string, flag int) (*Info, error) {
	fd, err := t.openat(name, unix.O_PATH|flag, 0)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	defer unix.Close(fd)
	return statFd(fd, name)
}

func statFd(fd int, name string) (*Info, error) {
	i := &Info{Name: path.Base(path.Clean("/" + name))}
	if err := unix.Fstat(fd, &i.Stat_t); err != nil {
		return nil, pathError("stat", name, err)
	}
	if i.IsLink() {
		link, err := readlink(fd)
		if err != nil {
			return nil, pathError("readlink", name, err)
		}
		i.Link = link
	}
	return i, nil
}

// readlink reads the symlink that an O_PATH descriptor is.
func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
