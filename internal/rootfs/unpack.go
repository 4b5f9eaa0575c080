package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// UnpackOptions: the zero value is right for root.
type UnpackOptions struct {
	// UserXattr: overlay's marks are user.overlay.*; see the function of that name.
	UserXattr bool
	// Note is told, a sentence each, what this user or file system could not take:
	// devices, some attributes. It may be called from several goroutines.
	Note func(text string)
}

// Unpack writes a layer as a tree that overlay takes as a lower directory into dir,
// which exists and is empty: whiteouts are devices 0:0, opaque directories have
// overlay's mark. Owners are restored by root only. Nothing is written outside of dir,
// whatever the layer says: each name is made in a directory made before it.
//
// After an error dir holds part of the layer.
func Unpack(ctx context.Context, l *layer.Layer, dir string, o UnpackOptions) error {
	return unpack(ctx, l, dir, o)
}

// unpackable is a layer, or what is listed and opened like one.
type unpackable interface {
	All() iter.Seq2[*layer.Stat, error] // a directory before what is in it, the first name of a file before the others
	Open(name string) (fs.File, error)
}

func unpack(ctx context.Context, l unpackable, dir string, o UnpackOptions) error {
	root, err := openPath(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	if o.Note == nil {
		o.Note = func(string) {}
	}
	u := &unpacker{
		l: l, root: root, mark: overlayPrefix(o.UserXattr), note: o.Note,
		wearer: newWearer(o.Note),
		stack:  []openDir{{name: ".", fd: root}},
	}
	if err := u.run(ctx); err != nil {
		return fmt.Errorf("unpack layer: %w", err)
	}
	return nil
}

// unpacker makes names one after another and leaves contents to goroutines.
type unpacker struct {
	l       unpackable
	root    int
	mark    string
	note    func(string)
	wearer  wearer
	foreign bool // something has an owner that could not be recorded
	over    bool // on what is there: marks do what they say

	stack []openDir     // the directory being filled, with those above it
	dirs  []*layer.Stat // in the order they were made; dressed at the end
	fill  chan filling
}

type openDir struct {
	name   string
	fd     int
	opaque bool
}

// filling is a new file that waits for its content.
type filling struct {
	fd int
	st *layer.Stat
}

func (u *unpacker) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	u.fill = make(chan filling, 64)
	for range max(2, min(runtime.GOMAXPROCS(0), 8)) {
		g.Go(func() error {
			for f := range u.fill {
				if err := u.content(f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(u.fill)
		return u.names(ctx)
	})
	err := g.Wait()
	for f := range u.fill {
		unix.Close(f.fd)
	}
	if err != nil {
		return err
	}
	if u.over {
		return nil // whoever knows the whole dresses directories
	}
	if u.foreign {
		if err := markLinks(u.root); err != nil {
			return err
		}
	}
	for _, st := range slices.Backward(u.dirs) {
		if err := dressBeneath(u.wearer, u.root, st); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) names(ctx context.Context) error {
	defer func() {
		for _, d := range u.stack[1:] {
			unix.Close(d.fd)
		}
	}()
	for st, err := range u.l.All() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = u.make(ctx, st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// make makes one name.
func (u *unpacker) make(ctx context.Context, st *layer.Stat) error {
	if st.Name == "." {
		u.dirs = append(u.dirs, st)
		if u.over && st.Opaque {
			return clearDir(u.root)
		}
		return nil
	}
	for parent := path.Dir(st.Name); u.stack[len(u.stack)-1].name != parent; {
		if len(u.stack) == 1 {
			return fmt.Errorf("%s: comes without its directory", st.Name)
		}
		unix.Close(u.stack[len(u.stack)-1].fd)
		u.stack = u.stack[:len(u.stack)-1]
	}
	dir, base := u.stack[len(u.stack)-1], path.Base(st.Name)
	if u.over {
		if done, err := u.makeRoom(dir.fd, base, st); done || err != nil {
			return err
		}
	}
	var err error
	switch kind := st.Mode & unix.S_IFMT; {
	case st.Whiteout && dir.opaque:
		return nil // there is nothing left to hide
	case st.Whiteout:
		if err = u.whiteout(dir.fd, base); err == nil {
			err = u.holdsWhiteouts(dir.fd)
		}
	case kind == unix.S_IFDIR:
		err = u.mkdir(dir.fd, base, st)
	case st.Hard:
		err = u.link(dir.fd, base, st.Link)
		if errors.Is(err, unix.ENOENT) && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
			return nil // to a device that was left out
		}
	case kind == unix.S_IFREG:
		return u.create(ctx, dir.fd, base, st)
	case kind == unix.S_IFLNK:
		err = unix.Symlinkat(st.Link, dir.fd, base)
	default:
		err = unix.Mknodat(dir.fd, base, st.Mode, int(unix.Mkdev(st.Major, st.Minor)))
		if errors.Is(err, unix.EPERM) && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
			u.note(fmt.Sprintf("device %s is left out: %v", st.Name, err))
			return nil
		}
	}
	if err != nil {
		return &os.PathError{Op: "make", Path: st.Name, Err: err}
	}
	if st.Whiteout || st.Hard || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	u.foreign = u.foreign || u.wearer.records && !HasOwner(st.UID, st.GID)
	return u.wearer.other(dir.fd, base, &st.Entry)
}

func (u *unpacker) mkdir(dir int, base string, st *layer.Stat) error {
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		return err
	}
	fd, err := openat2(dir, base, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	u.stack = append(u.stack, openDir{st.Name, fd, st.Opaque})
	u.dirs = append(u.dirs, st)
	if st.Opaque && !u.over {
		return u.setMark(fd, "opaque", "y")
	}
	return nil
}

// setMark sets one of overlay's attributes.
func (u *unpacker) setMark(fd int, mark, value string) error {
	return unix.Fsetxattr(fd, u.mark+mark, []byte(value), 0)
}

// whiteout makes a device 0:0, which takes no privilege since Linux 5.8. Where that is
// refused all the same, by a container's seccomp filter for one, it makes the form of
// Linux 6.7: an empty file with a mark, in a directory with another.
func (u *unpacker) whiteout(dir int, base string) error {
	err := unix.Mknodat(dir, base, unix.S_IFCHR, 0)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, err := openat2(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.setMark(fd, "whiteout", "y"); err != nil {
		return err
	}
	err = unix.Fsetxattr(dir, u.mark+"opaque", []byte("x"), unix.XATTR_CREATE)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// holdsWhiteouts makes overlay look for whiteouts in a directory where it would not
// expect any: one that no layer below has too. It would list them, names without a
// file, since what it lists there is the directory as it is. The mark is the one of a
// directory copied from below (ovl_path_check_origin_xattr), of which it is unknown
// which. An index has the same mark.
func (u *unpacker) holdsWhiteouts(dir int) error { return u.setMark(dir, "origin", "") }

// link makes another name of a file made before.
func (u *unpacker) link(dir int, base, first string) error {
	at, err := openBeneath(u.root, path.Dir(first), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.Linkat(at, path.Base(first), dir, base, 0)
}

// create makes a file and has it filled.
func (u *unpacker) create(ctx context.Context, dir int, base string, st *layer.Stat) error {
	fd, err := openat2(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: st.Name, Err: err}
	}
	select {
	case u.fill <- filling{fd, st}:
		return nil
	case <-ctx.Done():
		unix.Close(fd)
		return ctx.Err()
	}
}

// content fills a file.
func (u *unpacker) content(f filling) error {
	out := os.NewFile(uintptr(f.fd), f.st.Name)
	defer out.Close()
	if f.st.Size > 0 {
		if err := u.copy(out, f.st); err != nil {
			return err
		}
	}
	return u.wearer.file(f.fd, &f.st.Entry)
}

func (u *unpacker) copy(out *os.File, st *layer.Stat) error {
	in, err := u.l.Open(st.Name)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil && n != st.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w", st.Name, err)
	}
	return nil
}
