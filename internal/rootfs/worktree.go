package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// WorkTree is a root as one directory of real files, for where nothing can be mounted: layers are
// unpacked on one another, a program changes what is there, and what it changed is found by comparing
// each name with what was recorded of it before. It is used by one step after the other, and never copied.
//
// What is done in it follows no symlink out of it, whatever a program left there. It is not for concurrent use.
type WorkTree struct {
	dir, stash string // the root, and where things wait that are not to be seen in it
	root       int    // a descriptor of dir
	note       func(string)
	known      *known // of the root; nil: unknown
	latest     unix.Timespec
	placed     []placed
	touched    []*heldDir
	made       []madeName  // by Changes
	left       []string    // by Changes: what is in no layer
	times      []timedName // directories whose time is to be put back once left is gone
}

// NewWorkTree makes an empty tree in dir, an empty directory. note is told, a sentence each, what could not be made of layers.
func NewWorkTree(dir string, note func(string)) (*WorkTree, error) {
	t := &WorkTree{dir: filepath.Join(dir, "root"), stash: filepath.Join(dir, "stash"), root: -1, note: note}
	for _, d := range []string{t.dir, t.stash} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	t.root, err = openPath(t.dir, unix.O_RDONLY|unix.O_DIRECTORY)
	return t, err
}

// Dir is the directory that is the root.
func (t *WorkTree) Dir() string { return t.dir }

// Close closes what is open; it removes nothing.
func (t *WorkTree) Close() error {
	for _, d := range t.touched {
		unix.Close(d.fd)
	}
	t.touched = nil
	return unix.Close(t.root)
}

// Apply lays layers on what is there, the lowest first, and records the outcome. whole is the root that it then is.
func (t *WorkTree) Apply(ctx context.Context, whole *FS, layers ...*layer.Layer) error {
	for _, l := range layers {
		u := &unpacker{
			l: l, root: t.root, note: t.note, wearer: newWearer(t.note),
			stack: []openDir{{name: ".", fd: t.root}}, over: true,
		}
		if err := u.run(ctx); err != nil {
			return fmt.Errorf("unpack layer: %w", err)
		}
		if err := t.dressDirs(whole, u.dirs); err != nil {
			return fmt.Errorf("unpack layer: %w", err)
		}
	}
	root, err := whole.lookup(".")
	if err != nil {
		return err
	}
	if err := quietWearer().file(t.root, &root.stat.Entry); err != nil {
		return err
	}
	return t.Record(ctx)
}

// dressDirs gives directories what they have in the whole, from the deepest on: of some a layer says nothing, though
// it has things in them.
func (t *WorkTree) dressDirs(whole *FS, dirs []*layer.Stat) error {
	w := quietWearer()
	for _, st := range slices.Backward(dirs) {
		n, err := whole.lookup(st.Name)
		if err != nil {
			return err
		}
		if n == nil || n.parts == nil {
			continue // a layer above takes it away
		}
		if err := dressBeneath(w, t.root, n.stat); err != nil {
			return err
		}
	}
	return nil
}

// known is what was recorded of a name.
type known struct {
	ino, nlink, rdev    uint64
	size                int64
	mode, uid, gid      uint32
	mtime, ctime, btime unix.Timespec // btime of directories only
	kids                map[string]*known
}

func newKnown(st *unix.Stat_t) *known {
	return &known{
		ino: st.Ino, nlink: uint64(st.Nlink), rdev: uint64(st.Rdev), size: st.Size,
		mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim, ctime: st.Ctim,
	}
}

func (k *known) isDir() bool { return k != nil && k.mode&unix.S_IFMT == unix.S_IFDIR }

// same tells whether nothing was done to a file or directory since it was recorded: whatever is done
// changes ctime, which no program can set.
func (k *known) same(st *unix.Stat_t) bool {
	return k != nil && k.ctime == st.Ctim && k.sameButCtime(st) && k.nlink == uint64(st.Nlink)
}

// sameButCtime leaves out what another name of a file changes by coming or going.
func (k *known) sameButCtime(st *unix.Stat_t) bool {
	return k.ino == st.Ino && k.mode == st.Mode && k.uid == st.Uid && k.gid == st.Gid && k.mtime == st.Mtim &&
		(k.size == st.Size || k.isDir()) && k.rdev == uint64(st.Rdev)
}

// born is when a directory was made: another may have its number since. Not all file systems know.
func born(dir int, base string) unix.Timespec {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(dir, base, flags, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return unix.Timespec{}
	}
	return unix.NsecToTimespec(st.Btime.Sec*1e9 + int64(st.Btime.Nsec))
}

// Record notes what is there.
func (t *WorkTree) Record(ctx context.Context) error {
	w := worktreeWalk{t: t, changes: changes{ctx: ctx, root: t.root}}
	t.known = nil
	k, err := w.record()
	if err != nil {
		return fmt.Errorf("record tree: %w", err)
	}
	t.known = k
	return nil
}

func (t *WorkTree) saw(st *unix.Stat_t) {
	if after(st.Ctim, t.latest) {
		t.latest = st.Ctim
	}
}

func after(a, b unix.Timespec) bool { return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec }

// settled waits until what is changed from now on gets a later ctime than all that was recorded: clocks of file systems tick.
func (t *WorkTree) settled() error {
	name := filepath.Join(t.stash, "clock")
	for range 3000 {
		fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return &os.PathError{Op: "create", Path: name, Err: err}
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err == nil {
			err = unix.Unlink(name)
		}
		if err != nil {
			return &os.PathError{Op: "stat", Path: name, Err: err}
		}
		if after(st.Ctim, t.latest) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("the clock of the file system stands still")
}

// find gives what is known of a name, nil if nothing is.
func (t *WorkTree) find(name string) *known {
	if name == "." || t.known == nil {
		return t.known
	}
	dir := t.find(path.Dir(name))
	if dir == nil {
		return nil
	}
	return dir.kids[path.Base(name)]
}
