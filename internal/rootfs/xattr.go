package rootfs

import (
	"errors"
	"strings"

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

// xattrReader reads attributes by path; it reuses its buffer.
type xattrReader struct{ buf []byte }

// read calls each for every attribute of path, which is not followed.
func (r *xattrReader) read(path string, each func(attr, value string)) error {
	n, err := r.grow(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	}
	attrs := string(r.buf[:n])
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
