package rootfs

import (
	"errors"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Overlay keeps its marks in extended attributes under one of these.
const (
	trustedOverlay = "trusted.overlay."
	userOverlay    = "user.overlay."
)

// overlayPrefix is where an overlay mounted with or without userxattr keeps its marks.
func overlayPrefix(userXattr bool) string {
	if userXattr {
		return userOverlay
	}
	return trustedOverlay
}

// private tells whether an attribute means something to overlay, whichever way it is
// mounted, and so can be no part of a layer.
func private(attr string) bool {
	return strings.HasPrefix(attr, trustedOverlay) || strings.HasPrefix(attr, userOverlay)
}

// ofHost tells whether an attribute says something about this machine rather than
// about the file: SELinux' label by local policy, EVM's seal of this very inode.
func ofHost(attr string) bool { return attr == "security.selinux" || attr == "security.evm" }

// xattrReader reads attributes; it reuses its buffer.
type xattrReader struct {
	buf []byte
	old bool // the kernel has no listxattrat(2), which came with Linux 6.13
}

// read calls each for every attribute of base in the directory dir; base is not
// followed and may be empty for dir itself.
func (r *xattrReader) read(dir int, base string, each func(attr, value string)) error {
	n, err := r.grow(func(buf []byte) (int, error) { return r.list(dir, base, buf) })
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	}
	attrs := string(r.buf[:n])
	path := pathIn(dir, base)
	for attr := range strings.SplitSeq(strings.TrimSuffix(attrs, "\x00"), "\x00") {
		n, err := r.grow(func(buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return err
		}
		each(attr, string(r.buf[:n]))
	}
	return nil
}

// pathIn is a path to base in dir that is always short enough. It ends in a slash for
// dir itself, since what is in /proc are symlinks.
func pathIn(dir int, base string) string { return fdPath(dir) + "/" + base }

// list lists attributes, most often of a file that has none. The way by /proc, which
// is there on every kernel, takes three times as long.
func (r *xattrReader) list(dir int, base string, buf []byte) (int, error) {
	if !r.old {
		n, err := listxattrat(dir, base, buf)
		if err != unix.ENOSYS && err != unix.EPERM {
			return n, err
		}
		r.old = true
	}
	return unix.Llistxattr(pathIn(dir, base), buf)
}

func listxattrat(dir int, base string, buf []byte) (int, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags = unix.AT_EMPTY_PATH
	}
	name, err := unix.BytePtrFromString(base)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(flags),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// grow calls get with a buffer, larger ones as long as that is too small.
func (r *xattrReader) grow(get func([]byte) (int, error)) (int, error) {
	if r.buf == nil {
		r.buf = make([]byte, 4096)
	}
	for {
		n, err := get(r.buf)
		if err != unix.ERANGE || len(r.buf) > 1<<20 {
			return n, err
		}
		r.buf = make([]byte, 4*len(r.buf))
	}
}
