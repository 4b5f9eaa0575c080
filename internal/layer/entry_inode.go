package layer

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// overlay keeps its own state in these attributes; from an archive or a file
// they would be orders to it, so they are never taken over.
func isPrivateXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

// newInode checks what e says of itself, name apart, and turns it into a node.
func newInode(e *Entry) (*inode, error) {
	n := &inode{mode: e.Mode & (unix.S_IFMT | 0o7777)}
	n.opaque = e.Opaque
	if e.UID < 0 || e.UID >= math.MaxUint32 || e.GID < 0 || e.GID >= math.MaxUint32 {
		return nil, fmt.Errorf("entry %q: owner %d:%d is out of range: %w", e.Name, e.UID, e.GID, ErrFormat)
	}
	n.uid, n.gid = uint32(e.UID), uint32(e.GID)
	if !e.ModTime.IsZero() {
		n.sec, n.nsec = e.ModTime.Unix(), uint32(e.ModTime.Nanosecond())
	}
	switch n.mode & unix.S_IFMT {
	case unix.S_IFREG:
		if e.Size < 0 {
			return nil, fmt.Errorf("entry %q: size %d: %w", e.Name, e.Size, ErrFormat)
		}
		n.size = e.Size
	case unix.S_IFDIR, unix.S_IFIFO:
	case unix.S_IFLNK:
		if e.Link == "" || len(e.Link) >= maxName || strings.IndexByte(e.Link, 0) >= 0 {
			return nil, fmt.Errorf("entry %q: symlink to %.40q: %w", e.Name, e.Link, ErrFormat)
		}
		n.uncommon().link, n.size = e.Link, int64(len(e.Link))
	case unix.S_IFCHR, unix.S_IFBLK:
		if e.Major >= 1<<12 || e.Minor >= 1<<20 {
			return nil, fmt.Errorf("entry %q: device %d:%d is out of range: %w", e.Name, e.Major, e.Minor, ErrFormat)
		}
		n.rdev = encodeDev(e.Major, e.Minor)
	default:
		return nil, fmt.Errorf("entry %q: file type %#o has no place in a layer: %w", e.Name, n.mode&unix.S_IFMT, ErrFormat)
	}
	if n.mode&unix.S_IFMT != unix.S_IFDIR {
		n.opaque = false
	}
	return n, n.setXattrs(e)
}

// setXattrs keeps e's attributes, sorted. Linux allows names of 255 bytes and
// values of 64 KiB; EROFS counts a value's bytes in 16 bits, one less.
func (n *inode) setXattrs(e *Entry) error {
	if len(e.Xattrs) == 0 {
		return nil
	}
	xattrs := make([]xattr, 0, len(e.Xattrs))
	for name, value := range e.Xattrs {
		if isPrivateXattr(name) {
			continue
		}
		if name == "" || len(name) > 255 || strings.IndexByte(name, 0) >= 0 || len(value) > math.MaxUint16 {
			return fmt.Errorf("entry %q: extended attribute %.40q of %d bytes: %w", e.Name, name, len(value), ErrFormat)
		}
		xattrs = append(xattrs, xattr{name, value})
	}
	slices.SortFunc(xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	if len(xattrs) > 0 {
		n.uncommon().xattrs = xattrs
	}
	if n.xattrBytes() > maxXattrArea {
		return fmt.Errorf("entry %q: %d bytes of extended attributes: %w", e.Name, n.xattrBytes(), ErrFormat)
	}
	return nil
}

// encodeDev is new_encode_dev of Linux (include/linux/kdev_t.h).
func encodeDev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func decodeDev(dev uint32) (major, minor uint32) {
	return dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00
}
