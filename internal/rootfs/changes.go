package rootfs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// ChangesOptions are what to leave out of Changes and whom to tell.
type ChangesOptions struct {
	// Skip has names that were made as mount points only. They are left out, unless
	// something below them is kept; a directory above them that is as it was below
	// but for its time is left out with them.
	Skip []string
	// Note is told, a sentence each, what was left out for other reasons.
	Note func(text string)
	// Consume removes files as their content was read: nobody wants the writable side
	// any more, and what is made of it takes the memory and the disk that they took.
	Consume bool
	// Owner is whose everything is that was made there, in a root that was used by nobody but this user; nil: it is as it shows.
	Owner *Owner
	// Recorded are owners that files cannot have an attribute for.
	Recorded []Recorded
}

// Changes reads the writable side of a root that is no longer in use as the files of a
// layer, in canonical order. lower is the root without it; nil is an empty one.
//
// What overlay left there is taken as it is: each changed file whole, the directories
// above it with their metadata, files deleted as whiteouts, directories deleted and
// made anew as opaque. A hard link to a lower file is a copy with two names, which is
// what the process saw. The root itself is included where its owner, mode or
// attributes changed. Sockets, which no tar can hold, are left out with a note.
func Changes(ctx context.Context, m Mount, lower *FS, o ChangesOptions) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		if m.Upper == "" {
			return
		}
		if lower == nil {
			lower = NewFS()
		}
		c := &changes{ctx: ctx, upper: m.Upper, mark: overlayPrefix(m.UserXattr), lower: lower, yield: yield, note: o.Note, consume: o.Consume, owners: newOwners(m, o)}
		if c.note == nil {
			c.note = func(string) {}
		}
		if len(m.Links) > 0 {
			c.below = m.Links
			c.owners.moved = c.movedFrom
		}
		c.skips(o.Skip)
		if err := c.run(); err != nil && err != errStopped {
			yield(layer.File{}, fmt.Errorf("changes: %w", err))
		}
	}
}

// changes is one walk over an upper directory.
type changes struct {
	ctx     context.Context
	upper   string
	mark    string // prefix of overlay's attributes
	lower   *FS
	yield   func(layer.File, error) bool
	note    func(string)
	consume bool
	owners  owners
	below   []LinkOwner // of the layers, where trees could not record them

	root    int             // descriptor of upper
	skip    map[string]bool // names to leave out
	above   map[string]bool // directories above them
	pending []layer.File    // directories that go out with the first thing below them
	links   map[inode]string
	xattrs  xattrReader
	dirents []byte
}

// inode tells files with several names apart.
type inode struct{ dev, ino uint64 }

var errStopped = errors.New("stopped")

func (c *changes) skips(names []string) {
	c.skip, c.above = map[string]bool{}, map[string]bool{}
	for _, name := range names {
		c.skip[name] = true
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			c.above[dir] = true
		}
	}
}

func (c *changes) run() error {
	fd, err := openPath(c.upper, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	c.root, c.links = fd, map[inode]string{}
	below, err := c.lower.lookup(".")
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", c.upper, err)
	}
	f, marks, err := c.file(fd, "", ".", &st)
	if err == nil {
		err = c.owners.settle(&f, fd, "", marks, nil)
	}
	if err != nil {
		return err
	}
	// Its time changes with every name made in it; that alone is not worth an entry.
	if !sameDir(&f.Entry, &below.stat.Entry) {
		if err := c.emit(f); err != nil {
			return err
		}
	}
	return c.dir(fd, ".", below, 0)
}

// maxHeld is how deep directories stay open while what is below them is read.
const maxHeld = 128

// dir reads the directory fd. below is its place in the root below, nil where no
// directory of it shows there.
func (c *changes) dir(fd int, name string, below *node, depth int) error {
	bases, err := c.names(fd)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	d := changedDir{fd: fd, name: name, below: below, depth: depth}
	for _, base := range bases {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(&d, base); err != nil {
			return err
		}
	}
	return nil
}

// changedDir is a directory being read.
type changedDir struct {
	fd    int
	name  string
	below *node
	depth int
}

func (d *changedDir) child(base string) string {
	if d.name == "." {
		return base
	}
	return d.name + "/" + base
}

// names lists a directory in the order of a layer.
func (c *changes) names(fd int) ([]string, error) {
	if c.dirents == nil {
		c.dirents = make([]byte, 64<<10)
	}
	var names []string
	for {
		n, err := unix.Getdents(fd, c.dirents)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("getdents64", err)
		}
		if n == 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(c.dirents[:n], -1, names)
	}
}

// entry turns one name into entries of the layer.
func (c *changes) entry(d *changedDir, base string) error {
	name := d.child(base)
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFDIR:
		return c.subdir(d, name, base, &st)
	case c.skip[name]:
		return nil
	case kind == unix.S_IFCHR && st.Rdev == 0:
		return c.whiteout(d, name)
	case kind == unix.S_IFSOCK:
		c.note(fmt.Sprintf("socket %s is left out", name))
		return nil
	}
	id := inode{uint64(st.Dev), st.Ino}
	if first, known := c.links[id]; known {
		return c.emit(layer.File{Entry: layer.Entry{Name: name, Mode: st.Mode, Hard: true, Link: first, ModTime: mtime(&st)}})
	}
	f, marks, err := c.file(d.fd, base, name, &st)
	if err != nil {
		return err
	}
	if marks.whiteout {
		return c.whiteout(d, name)
	}
	switch kind {
	case unix.S_IFREG:
		f.Size = st.Size
		f.Open = c.content(name, uint64(st.Nlink))
	case unix.S_IFLNK:
		if f.Link, err = readlink(d.fd, base, st.Size); err != nil {
			return &os.PathError{Op: "readlink", Path: name, Err: err}
		}
	}
	if st.Nlink > 1 {
		c.links[id] = name
	}
	if err := c.owners.settle(&f, d.fd, base, marks, func() (*node, error) { return c.lookup(d.below, name) }); err != nil {
		return err
	}
	return c.emit(f)
}

// whiteout says that name is gone, where there was anything.
func (c *changes) whiteout(d *changedDir, name string) error {
	n, err := c.lookup(d.below, name)
	if err != nil || n == nil {
		return err
	}
	return c.emit(layer.File{Entry: layer.Entry{Name: name, Whiteout: true}})
}

// lookup finds name in the root below, of which parent shows.
func (c *changes) lookup(parent *node, name string) (*node, error) {
	if parent == nil || parent.parts == nil {
		return nil, nil
	}
	n, err := c.lower.lookup(name)
	if err != nil {
		return nil, fmt.Errorf("root below: %w", err)
	}
	return n, nil
}

func (c *changes) subdir(d *changedDir, name, base string, st *unix.Stat_t) error {
	below, err := c.lookup(d.below, name)
	if err != nil {
		return err
	}
	f, marks, err := c.file(d.fd, base, name, st)
	if err == nil {
		err = c.owners.settle(&f, d.fd, base, marks, nil)
	}
	if err != nil {
		return err
	}
	if below != nil && below.parts == nil {
		below = nil // a file was there: a directory hides it
	}
	f.Opaque = marks.opaque && below != nil
	held := len(c.pending)
	if c.mountPoint(name, below, &f.Entry) {
		c.pending = append(c.pending, f)
	} else if err := c.emit(f); err != nil {
		return err
	}
	if f.Opaque {
		below = nil
	}
	if err := c.descend(d, name, base, below); err != nil {
		return err
	}
	if len(c.pending) > held {
		c.pending = c.pending[:held] // nothing below it was kept
	}
	return nil
}

// mountPoint tells whether a directory is here only because something was mounted on
// or below it.
func (c *changes) mountPoint(name string, below *node, e *layer.Entry) bool {
	return c.skip[name] || c.above[name] && below != nil && !e.Opaque && sameDir(e, &below.stat.Entry)
}

// sameDir compares what is known of two directories but for their time.
func sameDir(a, b *layer.Entry) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && maps.Equal(a.Xattrs, b.Xattrs)
}

// descend reads the directory base of d. Below some depth d is closed meanwhile, so
// that no tree takes more descriptors than there are.
func (c *changes) descend(d *changedDir, name, base string, below *node) error {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	fd, err := openat2(d.fd, base, flags, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	if d.depth < maxHeld {
		defer unix.Close(fd)
		return c.dir(fd, name, below, d.depth+1)
	}
	// The child takes the place of d, under d's number, and d comes back after it.
	if err := unix.Dup3(fd, d.fd, unix.O_CLOEXEC); err != nil {
		return errors.Join(os.NewSyscallError("dup3", err), unix.Close(fd))
	}
	unix.Close(fd)
	if err := c.dir(d.fd, name, below, d.depth+1); err != nil {
		return err
	}
	fd, err = openBeneath(c.root, d.name, flags, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: d.name, Err: err}
	}
	defer unix.Close(fd)
	return os.NewSyscallError("dup3", unix.Dup3(fd, d.fd, unix.O_CLOEXEC))
}

// emit hands a file on, after the directories that waited for one.
func (c *changes) emit(f layer.File) error {
	for _, dir := range c.pending {
		if !c.yield(dir, nil) {
			return errStopped
		}
	}
	c.pending = c.pending[:0]
	if !c.yield(f, nil) {
		return errStopped
	}
	return nil
}

// marks are what overlay's attributes say about a file, and ours.
type marks struct {
	opaque, whiteout bool
	copied           bool   // it was in the root below
	owner            string // as recorded
}

// file describes base in dir, known in the layer as name, but for its content.
func (c *changes) file(dir int, base, name string, st *unix.Stat_t) (layer.File, marks, error) {
	f := layer.File{Entry: layer.Entry{
		Name: name, Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid), ModTime: mtime(st),
	}}
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		f.Major, f.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	var m marks
	err := c.xattrs.read(dir, base, func(attr, value string) {
		switch rest, ours := strings.CutPrefix(attr, c.mark); {
		case ofHost(attr):
		case ours && rest == "opaque":
			m.opaque = value == "y"
		case ours && rest == "whiteout":
			m.whiteout = st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
		case ours && !strings.HasPrefix(rest, "overlay."):
			m.copied = m.copied || rest == "origin"
		case attr == OwnerXattr && c.owners.active:
			m.owner = value
		case private(attr):
			// Set by a process: overlay moves such names aside, into overlay.overlay.
			c.note(fmt.Sprintf("attribute %s of %s is left out: it would be taken for a mark of overlay", attr, name))
		default:
			if f.Xattrs == nil {
				f.Xattrs = map[string]string{}
			}
			f.Xattrs[attr] = value
		}
	})
	if err != nil {
		return f, m, &os.PathError{Op: "read attributes", Path: name, Err: err}
	}
	return f, m, nil
}

func mtime(st *unix.Stat_t) time.Time { return time.Unix(st.Mtim.Unix()) }

func readlink(dir int, base string, size int64) (string, error) {
	for buf := make([]byte, max(size, 63)+1); ; buf = make([]byte, 2*len(buf)) {
		n, err := unix.Readlinkat(dir, base, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
	}
}
