package within

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// ExtractOptions are how Extract writes; the zero value keeps the owners that the tar has.
type ExtractOptions struct {
	Owner *Owner       // of everything
	Own   bool         // everything is of whoever we are
	Note  func(string) // is told what is left out
	// Give makes somebody the owner of what a descriptor is, by whatever is taken for that; nil: by chown.
	Give func(ctx context.Context, fd int, st *unix.Stat_t, uid, gid int) error
}

// Extract writes the entries of a tar below dir, which must be a directory. Files that are there are replaced, never
// written to; directories stay, and get the modes of the tar. A directory in the place of something else is
// an error, and the other way round.
func (t *Tree) Extract(ctx context.Context, r *tar.Reader, dir string, o ExtractOptions) (bytes int64, err error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	x := &extractor{ctx: ctx, tree: t, dir: dir, o: o, parent: -1, buf: make([]byte, 256<<10)}
	defer x.close()
	for {
		if err := ctx.Err(); err != nil {
			return x.bytes, err
		}
		h, err := r.Next()
		if err == io.EOF {
			return x.bytes, x.setTimes()
		}
		if err != nil {
			return x.bytes, err
		}
		if err := x.entry(h, r); err != nil {
			return x.bytes, err
		}
	}
}

type extractor struct {
	ctx   context.Context
	tree  *Tree
	dir   string
	o     ExtractOptions
	bytes int64
	buf   []byte

	parentName string // of the directory that is open as parent; -1: none is
	parent     int
	times      []dirTime
	left       []string // devices that could not be made
}

// dirTime is the time a directory gets when nothing is written to it any more.
type dirTime struct {
	name string
	time time.Time
}

func (x *extractor) close() {
	if x.parent >= 0 {
		unix.Close(x.parent)
		x.parent = -1
	}
}

// path is the place of an entry in the tree.
func (x *extractor) path(name string) string { return path.Join("/", x.dir, path.Join("/", name)) }

// open opens the directory of an entry, and makes it where it is missing.
func (x *extractor) open(name string) error {
	if x.parent >= 0 && x.parentName == name {
		return nil
	}
	x.close()
	fd, err := x.tree.openat(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) && name != x.path("") {
		if err := x.open(path.Dir(name)); err != nil {
			return err
		}
		if err := unix.Mkdirat(x.parent, path.Base(name), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return pathError("mkdir", name, err)
		}
		x.close()
		fd, err = x.tree.openat(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	if err != nil {
		return pathError("open", name, err)
	}
	x.parent, x.parentName = fd, name
	return nil
}

func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	name := x.path(h.Name)
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeDir:
		if name == x.path("") {
			return nil // the destination, which is somebody else's
		}
	}
	if err := x.open(path.Dir(name)); err != nil {
		return err
	}
	base := path.Base(name)
	if h.Typeflag == tar.TypeDir {
		return x.makeDir(name, base, h)
	}
	if err := x.clear(name, base); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, '\x00':
		return x.file(name, base, h, content)
	case tar.TypeLink:
		return x.link(name, base, h)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, x.parent, base); err != nil {
			return pathError("symlink", name, err)
		}
	case tar.TypeFifo:
		if err := unix.Mknodat(x.parent, base, unix.S_IFIFO|0o600, 0); err != nil {
			return pathError("mkfifo", name, err)
		}
	case tar.TypeChar, tar.TypeBlock:
		if done, err := x.device(name, base, h); !done {
			return err
		}
	default:
		x.o.Note(fmt.Sprintf("%s is left out: it is of a kind (%q) that is not known", name, h.Typeflag))
		return nil
	}
	fd, err := entry(x.parent, base, unix.O_PATH, 0)
	if err != nil {
		return pathError("open", name, err)
	}
	defer unix.Close(fd)
	return x.dress(fd, name, h)
}

// clear removes what is in the place of something that is no directory.
func (x *extractor) clear(name, base string) error {
	var st unix.Stat_t
	err := unix.Fstatat(x.parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("cannot overwrite directory %q with non-directory", name)
	}
	if err := unix.Unlinkat(x.parent, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("replace", name, err)
	}
	return nil
}

func (x *extractor) makeDir(name, base string, h *tar.Header) error {
	err := unix.Mkdirat(x.parent, base, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return pathError("mkdir", name, err)
	}
	fd, err := entry(x.parent, base, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("cannot overwrite non-directory %q with directory", name)
	}
	if err != nil {
		return pathError("open", name, err)
	}
	defer unix.Close(fd)
	x.times = append(x.times, dirTime{name, h.ModTime})
	return x.dress(fd, name, h)
}

// file writes a new file. Blocks of zeros become holes.
func (x *extractor) file(name, base string, h *tar.Header, content io.Reader) error {
	fd, err := entry(x.parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return pathError("create", name, err)
	}
	defer unix.Close(fd)
	at := int64(0)
	for at < h.Size {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		p := x.buf[:min(int64(len(x.buf)), h.Size-at)]
		if _, err := io.ReadFull(content, p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !zero(p) {
			if err := pwrite(fd, p, at); err != nil {
				return pathError("write", name, err)
			}
		}
		at += int64(len(p))
	}
	if err := unix.Ftruncate(fd, h.Size); err != nil {
		return pathError("write", name, err)
	}
	x.bytes += h.Size
	return x.dress(fd, name, h)
}

func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func pwrite(fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// link makes a name more of a file that came before.
func (x *extractor) link(name, base string, h *tar.Header) error {
	fd, err := x.tree.openat(x.path(h.Linkname), unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) && slices.Contains(x.left, x.path(h.Linkname)) {
		x.left = append(x.left, name)
		return nil
	}
	if err != nil {
		return pathError("link", x.path(h.Linkname), err)
	}
	defer unix.Close(fd)
	if err := unix.Linkat(unix.AT_FDCWD, procPath(fd), x.parent, base, unix.AT_SYMLINK_FOLLOW); err != nil {
		return pathError("link", name, err)
	}
	return nil
}

// device makes a device, where we may.
func (x *extractor) device(name, base string, h *tar.Header) (done bool, err error) {
	mode := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	err = unix.Mknodat(x.parent, base, mode|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	if errors.Is(err, unix.EPERM) {
		x.o.Note(fmt.Sprintf("device %s is left out: it takes root to make it", name))
		x.left = append(x.left, name)
		return false, nil
	}
	return err == nil, pathError("mknod", name, err)
}

// dress gives what fd is its owner, mode, attribute and time, in the order in which none undoes another.
func (x *extractor) dress(fd int, name string, h *tar.Header) error {
	owner := x.o.Owner
	if owner == nil && !x.o.Own {
		owner = &Owner{h.Uid, h.Gid}
	}
	if owner != nil {
		if err := x.give(fd, owner); err != nil {
			return pathError("chown", name, err)
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		mode := uint32(h.Mode) & 0o7777
		if x.o.Own && h.Typeflag != tar.TypeDir {
			mode &^= unix.S_ISUID | unix.S_ISGID // it would run as us now, for whoever may execute it
		}
		if err := unix.Chmod(procPath(fd), mode); err != nil {
			return pathError("chmod", name, err)
		}
	}
	if value, ok := h.PAXRecords["SCHILY.xattr."+capability]; ok && !x.o.Own {
		err := unix.Setxattr(procPath(fd), capability, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) {
			return pathError("set "+capability+" of", name, err)
		}
	}
	return x.setTime(fd, name, h.ModTime)
}

func (x *extractor) setTime(fd int, name string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return nil // before or after all times
	}
	times := []unix.Timespec{ts, ts}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), times, 0); err != nil && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOENT) {
		return pathError("set time of", name, err)
	}
	return nil
}

// setTimes gives directories their times, the innermost first. One that is gone by now is none of ours.
func (x *extractor) setTimes() error {
	for i := len(x.times) - 1; i >= 0; i-- {
		d := x.times[i]
		fd, err := x.tree.openat(strings.TrimSuffix(d.name, "/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		err = x.setTime(fd, d.name, d.time)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) give(fd int, owner *Owner) error {
	if x.o.Give == nil {
		// Who does not exist in our user namespace cannot own anything: it stays ours.
		err := unix.Fchownat(fd, "", owner.UID, owner.GID, unix.AT_EMPTY_PATH)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return x.o.Give(x.ctx, fd, &st, owner.UID, owner.GID)
}
