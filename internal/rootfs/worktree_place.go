package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// Place is something that is in a WorkTree while a program runs and no longer: what would be mounted elsewhere.
type Place struct {
	Target string // absolute, in the root
	// From is a file or directory of the same file system that is moved there, and with Back moved to where it was at the end; a
	// directory that the program removed is then made anew, empty. Without Back it is removed. From empty: a file with
	// Data, or with Dir an empty directory.
	From string
	Back bool

	Dir      bool
	Data     []byte
	Size     int64  // of a file: its end is zeros up to there
	Link     string // a symlink to there
	Mode     uint32 // permission bits of what is made; with S_IFCHR the device Rdev
	Rdev     uint64
	UID, GID int
}

// placed is one Place, done.
type placed struct {
	Place
	dir    *heldDir
	base   string
	hidden string // in the stash: what had the name; empty: nothing
	made   bool   // a directory on the way there
	id     inode  // of what was moved there
	st     unix.Stat_t
}

// heldDir is a directory in which names are changed. Programs and layers are to see it as it was.
type heldDir struct {
	fd    int // O_PATH
	name  string
	was   unix.Stat_t
	ready unix.Stat_t // when the program starts
}

// Place puts things into the tree, each over those before it, until Restore. If there is an error, Restore is to be called, too.
func (t *WorkTree) Place(list []Place) error {
	for _, p := range list {
		if err := t.place(p); err != nil {
			return fmt.Errorf("put %s in place: %w", p.Target, err)
		}
	}
	for _, d := range t.touched {
		if err := d.setTime(d.was.Mtim); err != nil {
			return err
		}
		if err := d.stat(&d.ready); err != nil {
			return err
		}
		t.saw(&d.ready)
	}
	return t.settled()
}

func (t *WorkTree) place(p Place) error {
	target := path.Clean("/" + p.Target)
	if target == "/" {
		return errors.New("it is the root")
	}
	dir, err := t.makeDirs(path.Dir(target))
	if err != nil {
		return err
	}
	d := placed{Place: p, dir: dir, base: path.Base(target)}
	err = unix.Fstatat(dir.fd, d.base, &d.st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		d.hidden = filepath.Join(t.stash, strconv.Itoa(len(t.placed)))
		err = unix.Renameat(dir.fd, d.base, unix.AT_FDCWD, d.hidden)
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	t.placed = append(t.placed, d)
	return t.placed[len(t.placed)-1].put()
}

// put makes what is to be there.
func (d *placed) put() error {
	var err error
	switch {
	case d.From != "":
		if err = unix.Renameat(unix.AT_FDCWD, d.From, d.dir.fd, d.base); errors.Is(err, unix.EXDEV) {
			return fmt.Errorf("%s is on another file system, or in a lower layer of this one, and cannot be moved: %w", d.From, err)
		}
	case d.Link != "":
		err = unix.Symlinkat(d.Link, d.dir.fd, d.base)
	case d.Mode&unix.S_IFMT == unix.S_IFCHR:
		if err = unix.Mknodat(d.dir.fd, d.base, d.Mode, int(d.Rdev)); err == nil {
			err = d.dress()
		}
	case d.Dir:
		if err = unix.Mkdirat(d.dir.fd, d.base, 0o700); err == nil {
			err = d.dress()
		}
	default:
		var fd int
		if fd, err = openat2(d.dir.fd, d.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600); err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), d.Target)
		_, err = f.Write(d.Data)
		if err == nil && d.Size > 0 {
			err = f.Truncate(d.Size)
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = d.dress()
		}
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(d.dir.fd, d.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	d.id = inode{uint64(st.Dev), st.Ino}
	return err
}

func (d *placed) dress() error {
	if err := unix.Fchownat(d.dir.fd, d.base, d.UID, d.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(d.dir.fd, d.base, d.Mode&0o7777, 0)
}

// TryDevice tells what keeps devices from being of use in the tree: they cannot be made, or not be opened.
func (t *WorkTree) TryDevice() error {
	name := filepath.Join(t.stash, "null")
	if err := unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		return os.NewSyscallError("mknod", err)
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Join(os.NewSyscallError("open", err), unix.Unlink(name))
}

// hold opens a directory in which something is about to change, each once.
func (t *WorkTree) hold(fd int) (*heldDir, error) {
	d := &heldDir{fd: fd}
	if err := d.stat(&d.was); err != nil {
		unix.Close(fd)
		return nil, err
	}
	for _, other := range t.touched {
		if other.was.Dev == d.was.Dev && other.was.Ino == d.was.Ino {
			unix.Close(fd)
			return other, nil
		}
	}
	root, err := os.Readlink(fdPath(t.root))
	if err != nil {
		return nil, err
	}
	name, err := os.Readlink(fdPath(fd))
	if err != nil {
		return nil, err
	}
	if d.name = strings.TrimPrefix(strings.TrimPrefix(name, root), "/"); d.name == "" {
		d.name = "."
	}
	t.touched = append(t.touched, d)
	return d, nil
}

// inRoot keeps a lookup in the root as a program in it would see it.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

func (t *WorkTree) openDir(dir int, name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inRoot}
	return unix.Openat2(dir, name, &how)
}

// makeDirs gives a directory of the root, made with those above it where it is not there. Symlinks are followed.
func (t *WorkTree) makeDirs(name string) (*heldDir, error) { return t.makeDirsAt(name, 0) }

func (t *WorkTree) makeDirsAt(name string, depth int) (*heldDir, error) {
	fd, err := t.openDir(t.root, name)
	if err == nil {
		return t.hold(fd)
	}
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	parent, err := t.makeDirsAt(path.Dir(name), depth)
	if err != nil {
		return nil, err
	}
	base := path.Base(name)
	err = unix.Mkdirat(parent.fd, base, 0o755)
	if errors.Is(err, unix.EEXIST) && depth < maxFollowed { // a symlink to what is not there yet
		if link, lerr := readlink(parent.fd, base, 0); lerr == nil {
			if !path.IsAbs(link) {
				link = path.Join("/", parent.name, link)
			}
			return t.makeDirsAt(path.Clean(link), depth+1)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	if err := unix.Fchmodat(parent.fd, base, 0o755, 0); err != nil {
		return nil, &os.PathError{Op: "chmod", Path: name, Err: err}
	}
	t.placed = append(t.placed, placed{dir: parent, base: base, made: true})
	if fd, err = openat2(parent.fd, base, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return t.hold(fd)
}

// stat is what fstat says.
func (d *heldDir) stat(st *unix.Stat_t) error {
	return os.NewSyscallError("fstat", unix.Fstat(d.fd, st))
}

func (d *heldDir) setTime(mtime unix.Timespec) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(d.fd), []unix.Timespec{mtime, mtime}, 0)
	return os.NewSyscallError("utimensat", err)
}

// Restore takes out what Place put in. What the program did to the rest stays, and is a change.
func (t *WorkTree) Restore() error {
	now := make([]unix.Stat_t, len(t.touched))
	var errs []error
	for i, d := range t.touched {
		errs = append(errs, d.stat(&now[i]))
	}
	for i := len(t.placed) - 1; i >= 0; i-- {
		if err := t.placed[i].takeOut(); err != nil {
			errs = append(errs, fmt.Errorf("take %s out: %w", t.placed[i].Target, err))
		}
	}
	for i, d := range t.touched {
		errs = append(errs, t.letGo(d, &now[i]))
	}
	for _, d := range t.placed {
		if d.hidden != "" {
			errs = append(errs, t.refreshHidden(d))
		}
	}
	for _, d := range t.touched {
		unix.Close(d.fd)
	}
	t.placed, t.touched = nil, nil
	return errors.Join(errs...)
}

// takeOut undoes one Place.
func (d *placed) takeOut() error {
	if d.made {
		err := unix.Unlinkat(d.dir.fd, d.base, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return nil // the program has made something of it
		}
		return err
	}
	if d.Back && d.id != (inode{}) {
		if err := d.moveBack(); err != nil {
			return err
		}
	}
	if err := removeIn(d.dir.fd, d.base); err != nil {
		return err
	}
	if d.hidden == "" {
		return nil
	}
	err := unix.Renameat(unix.AT_FDCWD, d.hidden, d.dir.fd, d.base)
	if errors.Is(err, unix.ENOENT) { // the directory has been removed, with all that was in it
		return os.RemoveAll(d.hidden)
	}
	return err
}

// moveBack returns what was moved there. What has its name by now may be another.
func (d *placed) moveBack() error {
	var st unix.Stat_t
	err := unix.Fstatat(d.dir.fd, d.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.Renameat(d.dir.fd, d.base, unix.AT_FDCWD, d.From)
	}
	if err != nil && err != unix.ENOENT {
		return err
	}
	if err := os.Mkdir(d.From, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := Chown(d.From, d.UID, d.GID); err != nil {
		return err
	}
	return os.Chmod(d.From, layer.FileMode(d.Mode)&^fs.ModeType)
}

// letGo gives a directory its time back: what it was, or what the program made it. now is how the program left it.
func (t *WorkTree) letGo(d *heldDir, now *unix.Stat_t) error {
	if now.Nlink == 0 {
		return nil // removed
	}
	untouched := now.Ctim == d.ready.Ctim && now.Mtim == d.ready.Mtim
	if err := d.setTime(now.Mtim); err != nil {
		return err
	}
	if !untouched {
		return nil
	}
	k := t.find(d.name)
	if k == nil || k.ino != d.was.Ino {
		return nil
	}
	var st unix.Stat_t
	if err := d.stat(&st); err != nil {
		return err
	}
	t.renew(k, &st)
	return nil
}

// refreshHidden notes what renaming did to something that is back.
func (t *WorkTree) refreshHidden(d placed) error {
	var st unix.Stat_t
	if err := unix.Fstatat(d.dir.fd, d.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	dir := t.find(d.dir.name)
	if dir == nil || dir.kids[d.base] == nil || dir.kids[d.base].ino != st.Ino {
		return nil
	}
	if st.Mtim != d.st.Mtim { // a directory may note that it has another above it
		times := []unix.Timespec{d.st.Mtim, d.st.Mtim}
		if err := unix.UtimesNanoAt(d.dir.fd, d.base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := unix.Fstatat(d.dir.fd, d.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	t.renew(dir.kids[d.base], &st)
	return nil
}
