package rootfs

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// Changes are what differs from what was recorded, as the files of a layer on lower, which was recorded. They are in the same order and form as
// those of a root that was mounted (the function of this name), and what is there is recorded in
// passing: it is what the next changes are told from. If they were not read to the end the tree is of no more use.
//
// Settle is to be called before the next program.
func (t *WorkTree) Changes(ctx context.Context, lower *FS) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		before := t.known
		t.known, t.made, t.left, t.times = nil, nil, nil, nil
		w := &worktreeWalk{t: t, changes: changes{
			ctx: ctx, upper: t.dir, mark: noMark, lower: lower, yield: yield, note: t.note, root: t.root, links: map[inode]string{},
			owners: newOwners(Mount{}, ChangesOptions{}),
		}}
		k, err := w.compare(before)
		if err == nil {
			t.known = k
		} else if err != errStopped {
			yield(layer.File{}, fmt.Errorf("changes: %w", err))
		}
	}
}

// noMark begins no attribute: overlay has no part in a tree.
const noMark = "\x00"

// madeName is a file that went into a layer.
type madeName struct {
	name string
	time time.Time
}

type timedName struct {
	name  string
	mtime unix.Timespec
}

// Settle makes the tree what the layer made of it is: files that are later than notAfter get that time, sockets go.
func (t *WorkTree) Settle(notAfter *time.Time) error {
	for _, name := range t.left {
		dir, err := openBeneath(t.root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err == nil {
			err = unix.Unlinkat(dir, path.Base(name), 0)
			unix.Close(dir)
		}
		if err != nil {
			return &os.PathError{Op: "remove", Path: name, Err: err}
		}
	}
	for _, d := range t.times {
		if err := t.setTime(d.name, d.mtime); err != nil {
			return err
		}
	}
	if notAfter == nil {
		return nil
	}
	var set []string
	for _, m := range slices.Backward(t.made) { // directories after what is in them
		if m.time.After(*notAfter) {
			if err := t.setTime(m.name, unix.NsecToTimespec(notAfter.UnixNano())); err != nil {
				return err
			}
			set = append(set, m.name)
		}
	}
	for _, name := range set { // once more: names of one file
		if err := t.refresh(name); err != nil {
			return err
		}
	}
	return nil
}

// setTime sets the time of a name, and notes it.
func (t *WorkTree) setTime(name string, mtime unix.Timespec) error {
	dir, err := openBeneath(t.root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		err = unix.UtimesNanoAt(dir, path.Base(name), []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
		unix.Close(dir)
	}
	if err != nil {
		return &os.PathError{Op: "set times", Path: name, Err: err}
	}
	return t.refresh(name)
}

// refresh notes how a name is now.
func (t *WorkTree) refresh(name string) error {
	k := t.find(name)
	if k == nil {
		return nil
	}
	dir, err := openBeneath(t.root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path.Dir(name), Err: err}
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstatat(dir, path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	t.renew(k, &st)
	return nil
}

// renew notes st in k.
func (t *WorkTree) renew(k *known, st *unix.Stat_t) {
	t.saw(st)
	fresh := newKnown(st)
	fresh.kids, fresh.btime = k.kids, k.btime
	*k = *fresh
}

// worktreeWalk goes through a tree. What an entry is made of is the same as where roots are mounted.
type worktreeWalk struct {
	changes
	t *WorkTree
}

// workDir is a directory being gone through.
type workDir struct {
	changedDir
	before *known // nil where it is new
	now    *known
}

func (w *worktreeWalk) record() (*known, error) {
	return w.top(func(d *workDir) error { return w.each(d, w.recordName) })
}

// top begins at the root.
func (w *worktreeWalk) top(walk func(*workDir) error) (*known, error) {
	var st unix.Stat_t
	if err := unix.Fstat(w.root, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if _, err := unix.Seek(w.root, 0, 0); err != nil {
		return nil, os.NewSyscallError("lseek", err)
	}
	k := w.noted(w.root, "", &st)
	d := &workDir{changedDir: changedDir{fd: w.root, name: "."}, now: k}
	return k, walk(d)
}

func (w *worktreeWalk) noted(dir int, base string, st *unix.Stat_t) *known {
	w.t.saw(st)
	k := newKnown(st)
	if k.isDir() {
		k.btime, k.kids = born(dir, base), map[string]*known{}
	}
	return k
}

// each calls f for each name that a directory has, or had, in order. st is nil for those that are gone.
func (w *worktreeWalk) each(d *workDir, f func(d *workDir, base string, st *unix.Stat_t) error) error {
	bases, err := w.names(d.fd)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.name, err)
	}
	if d.before != nil {
		there := len(bases)
		for base := range d.before.kids {
			if _, found := slices.BinarySearch(bases[:there], base); !found {
				bases = append(bases, base)
			}
		}
		slices.Sort(bases)
	}
	for _, base := range bases {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		var st unix.Stat_t
		err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == unix.ENOENT:
			err = f(d, base, nil)
		case err != nil:
			err = &os.PathError{Op: "stat", Path: d.child(base), Err: err}
		default:
			d.now.kids[base] = w.noted(d.fd, base, &st)
			err = f(d, base, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *worktreeWalk) recordName(d *workDir, base string, st *unix.Stat_t) error {
	if st == nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return w.into(d, base, nil, w.recordName)
}

// into goes through a directory of d.
func (w *worktreeWalk) into(d *workDir, base string, before *known, f func(*workDir, string, *unix.Stat_t) error) error {
	name := d.child(base)
	fd, err := openBeneath(w.root, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	sub := &workDir{changedDir: changedDir{fd: fd, name: name, depth: d.depth + 1}, before: before, now: d.now.kids[base]}
	if d.depth < maxHeld {
		defer unix.Close(fd)
		return w.each(sub, f)
	}
	// The descriptor of d is given up meanwhile, so that no tree takes more than there are.
	if err := unix.Dup3(fd, d.fd, unix.O_CLOEXEC); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("dup3", err)
	}
	unix.Close(fd)
	sub.fd = d.fd
	if err := w.each(sub, f); err != nil {
		return err
	}
	fd, err = openBeneath(w.root, d.name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: d.name, Err: err}
	}
	defer unix.Close(fd)
	return os.NewSyscallError("dup3", unix.Dup3(fd, d.fd, unix.O_CLOEXEC))
}

// compare finds what differs from before.
func (w *worktreeWalk) compare(before *known) (*known, error) {
	if before == nil {
		return nil, fmt.Errorf("nothing was recorded of %s", w.upper)
	}
	below, err := w.lower.lookup(".")
	if err != nil {
		return nil, err
	}
	return w.top(func(d *workDir) error {
		var st unix.Stat_t
		if err := unix.Fstat(w.root, &st); err != nil {
			return os.NewSyscallError("fstat", err)
		}
		f, marks, err := w.file(w.root, "", ".", &st)
		if err == nil {
			err = w.owners.settle(&f, w.root, "", marks, nil)
		}
		if err != nil {
			return err
		}
		if !sameDir(&f.Entry, &below.stat.Entry) && (st.Mode != before.mode || st.Uid != before.uid || st.Gid != before.gid || st.Ctim != before.ctime) {
			if err := w.give(f); err != nil {
				return err
			}
		}
		d.before = before
		return w.each(d, w.compareName)
	})
}

// give hands a file on and notes that.
func (w *worktreeWalk) give(f layer.File) error {
	for _, dir := range w.pending {
		w.t.made = append(w.t.made, madeName{dir.Name, dir.ModTime})
	}
	if !f.Whiteout {
		w.t.made = append(w.t.made, madeName{f.Name, f.ModTime})
	}
	return w.emit(f)
}

func (w *worktreeWalk) compareName(d *workDir, base string, st *unix.Stat_t) error {
	name := d.child(base)
	var old *known
	if d.before != nil {
		old = d.before.kids[base]
	}
	if st == nil {
		return w.give(layer.File{Entry: layer.Entry{Name: name, Whiteout: true}})
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		return w.compareDir(d, name, base, st, old)
	case old.same(st):
		return nil
	case kind == unix.S_IFSOCK:
		w.note(fmt.Sprintf("socket %s is left out", name))
		w.t.left = append(w.t.left, name)
		if n := len(w.t.times); n == 0 || w.t.times[n-1].name != d.name {
			w.t.times = append(w.t.times, timedName{d.name, d.now.mtime})
		}
		delete(d.now.kids, base)
		return nil
	}
	return w.changed(d, name, base, st, old)
}

// changed hands on a file that is not as it was.
func (w *worktreeWalk) changed(d *workDir, name, base string, st *unix.Stat_t, old *known) error {
	id := inode{uint64(st.Dev), st.Ino}
	if first, given := w.links[id]; given {
		return w.give(layer.File{Entry: layer.Entry{Name: name, Mode: st.Mode, Hard: true, Link: first, ModTime: mtime(st)}})
	}
	f, marks, err := w.file(d.fd, base, name, st)
	if err == nil {
		err = w.owners.settle(&f, d.fd, base, marks, func() (*node, error) { return w.lower.lookup(name) })
	}
	if err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f.Size = st.Size
		upper := w.upper
		f.Open = func() (io.ReadCloser, error) { return openFile(upper, name) }
	case unix.S_IFLNK:
		if f.Link, err = readlink(d.fd, base, st.Size); err != nil {
			return &os.PathError{Op: "readlink", Path: name, Err: err}
		}
	}
	// What was done may have been to another name of the file: linking, renaming and removing change ctime.
	if old != nil && old.nlink > 1 && uint64(st.Nlink) <= old.nlink && old.sameButCtime(st) {
		same, err := w.asBelow(&f)
		if same || err != nil {
			return err
		}
	}
	if st.Nlink > 1 {
		w.links[id] = name
	}
	return w.give(f)
}

// asBelow tells whether a file is what the root below has under its name, to the byte.
func (w *worktreeWalk) asBelow(f *layer.File) (bool, error) {
	n, err := w.lower.lookup(f.Name)
	if err != nil || n == nil || !maps.Equal(n.stat.Xattrs, f.Xattrs) {
		return false, err
	}
	if f.Open == nil {
		return true, nil
	}
	a, err := f.Open()
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := w.lower.Open(f.Name)
	if err != nil {
		return false, err
	}
	defer b.Close()
	return sameContent(a, b)
}

func sameContent(a, b io.Reader) (bool, error) {
	one, other := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, one)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return false, err
		}
		m, otherErr := io.ReadFull(b, other)
		if otherErr != nil && otherErr != io.EOF && otherErr != io.ErrUnexpectedEOF {
			return false, otherErr
		}
		if string(one[:n]) != string(other[:m]) {
			return false, nil
		}
		if err != nil {
			return true, nil
		}
	}
}

func (w *worktreeWalk) compareDir(d *workDir, name, base string, st *unix.Stat_t, old *known) error {
	f, marks, err := w.file(d.fd, base, name, st)
	if err == nil {
		err = w.owners.settle(&f, d.fd, base, marks, nil)
	}
	if err != nil {
		return err
	}
	now := d.now.kids[base]
	held := len(w.pending)
	switch {
	case !old.isDir(): // a file that was there is hidden by it
		old = nil
		err = w.give(f)
	case old.ino != now.ino || old.btime != now.btime: // another, in its place
		old, f.Opaque = nil, true
		err = w.give(f)
	case old.ctime == now.ctime && old.sameButCtime(st):
		w.pending = append(w.pending, f) // it goes along with what is in it
	default:
		err = w.give(f)
	}
	if err != nil {
		return err
	}
	if err := w.into(d, base, old, w.compareName); err != nil {
		return err
	}
	w.pending = w.pending[:min(len(w.pending), held)]
	return nil
}
