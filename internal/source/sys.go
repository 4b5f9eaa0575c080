package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// maxPath is the longest path handed to the kernel at once; PATH_MAX is 4096
// with the final NUL, and longer paths exist all the same.
const maxPath = 4000

// noOpenat2 is set once openat2 is known to be refused: kernels before 5.6, and
// seccomp profiles older than it.
var noOpenat2 atomic.Bool

// openBelow opens name, relative to the directory root, through no symlink at all:
// one that has taken the place of a directory since the walk must not lead elsewhere.
func openBelow(root int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 { // openat2 refuses flags that make no difference
		flags |= unix.O_NOCTTY
	}
	at := root
	defer func() {
		if at != root {
			unix.Close(at)
		}
	}()
	for len(name) > maxPath {
		cut := strings.LastIndexByte(name[:maxPath], '/')
		if cut < 0 {
			return -1, unix.ENAMETOOLONG
		}
		next, err := open1(at, name[:cut], unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		if err != nil {
			return -1, err
		}
		if at != root {
			unix.Close(at)
		}
		at, name = next, name[cut+1:]
	}
	return open1(at, name, flags)
}

func open1(at int, name string, flags int) (int, error) {
	if !noOpenat2.Load() {
		how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		for {
			fd, err := unix.Openat2(at, name, &how)
			switch {
			case err == unix.EINTR || err == unix.EAGAIN:
				continue
			case err != unix.ENOSYS && err != unix.EPERM:
				return fd, err
			}
			break
		}
		fd, err := openSteps(at, name, flags)
		if err == nil { // openat does what openat2 does not
			noOpenat2.Store(true)
		}
		return fd, err
	}
	return openSteps(at, name, flags)
}

// openSteps is open1 without openat2: one element at a time.
func openSteps(at int, name string, flags int) (int, error) {
	parent := at
	defer func() {
		if parent != at {
			unix.Close(parent)
		}
	}()
	for {
		elem, rest, more := strings.Cut(name, "/")
		if !more {
			return openRetry(parent, elem, flags)
		}
		next, err := openRetry(parent, elem, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		if err != nil {
			return -1, err
		}
		if parent != at {
			unix.Close(parent)
		}
		parent, name = next, rest
	}
}

func openRetry(at int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(at, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// lstatAt is fstatat without the copy of the name, which must be followed by a NUL
// in memory, as the names of readNames are.
func lstatAt(fd int, name string, st *unix.Stat_t) error {
	for {
		_, _, e := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.StringData(name))),
			uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
		if e == 0 {
			return nil
		}
		if e != unix.EINTR {
			return e
		}
	}
}

// dirent is a name in a directory and its DT_ type, as far as the file system tells.
type dirent struct {
	name string
	kind byte
	// onlyParent: ignored itself, but not all of what may be in it.
	onlyParent bool
	match      patternmatcher.MatchInfo // directories only
}

// readNames appends what is in the directory fd to list, in no order. All names
// share one string, in which each is followed by a NUL.
func readNames(fd int, s *scratch) ([]dirent, error) {
	s.arena, s.ents = s.arena[:0], s.ents[:0]
	for {
		n, err := unix.ReadDirent(fd, s.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		for b := s.buf[:n]; len(b) > 0; {
			// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
			size := int(binary.NativeEndian.Uint16(b[16:]))
			name := b[19:size]
			name = name[:bytes.IndexByte(name, 0)+1]
			if string(name) != ".\x00" && string(name) != "..\x00" {
				s.arena = append(append(s.arena, b[18]), name...)
			}
			b = b[size:]
		}
	}
	for all := string(s.arena); len(all) > 0; {
		end := strings.IndexByte(all[1:], 0) + 1
		s.ents = append(s.ents, dirent{name: all[1:end], kind: all[0]})
		all = all[end+1:]
	}
	return s.ents, nil
}

// scratch is the memory one goroutine of the walk works in.
type scratch struct {
	buf   []byte // of getdents64
	arena []byte
	ents  []dirent
}

// readlinkAt reads a symlink of any length.
func readlinkAt(fd int, name string) (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(fd, name, b)
		if err != nil {
			return "", err
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// wantedXattr says which extended attributes belong to an image. Labels of this machine's
// security modules, ACLs by its user numbers and overlayfs' private marks do not.
func wantedXattr(name string) bool {
	if name == "security.capability" {
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// anyXattr reports whether the open file has a wanted extended attribute.
// buf is scratch space.
func anyXattr(fd int, buf []byte) bool {
	n, err := unix.Flistxattr(fd, buf)
	if err != nil {
		return err == unix.ERANGE // more names than fit: worth a proper look
	}
	for _, name := range splitNames(buf[:n]) {
		if wantedXattr(name) {
			return true
		}
	}
	return false
}

// readXattrs returns the wanted extended attributes of an open file, nil if there are none.
func readXattrs(fd int) (map[string]string, error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var m map[string]string
	for _, name := range splitNames(list) {
		if !wantedXattr(name) {
			continue
		}
		v, err := grow(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
		if err == unix.ENODATA { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = map[string]string{}
		}
		m[name] = string(v)
	}
	return m, nil
}

// grow calls an xattr system call with ever more room. File systems without extended
// attributes have none.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for size := 512; ; size *= 4 {
		b := make([]byte, size)
		n, err := call(b)
		switch {
		case err == nil:
			return b[:n], nil
		case errors.Is(err, unix.ENOTSUP):
			return nil, nil
		case err != unix.ERANGE || size > 1<<20:
			return nil, err
		}
	}
}

func splitNames(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// coarseTimes reports whether the file system of fd may stamp files with a clock that is
// not this machine's, or in steps of whole seconds.
func coarseTimes(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return true
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC,
		unix.OVERLAYFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.BCACHEFS_SUPER_MAGIC, 0x2fc12fc1: // zfs
		return false
	}
	return true
}
