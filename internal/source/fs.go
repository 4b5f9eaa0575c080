package source

import (
	"errors"
	"io/fs"
	"iter"
	"strings"
	"time"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// Lstat describes name without following it if it is a symlink. Owners are those of the
// disk. Sys is a *layer.Stat. Names are bytes; "" and "." are the context itself.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	n, err := t.lookup("lstat", name)
	if err != nil {
		return nil, err
	}
	return t.info(n, name)
}

// ReadDir lists the directory name, or the one that the symlink name leads to, sorted by the bytes of the names.
// Sockets are listed; who copies leaves them out.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.follow("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, pathError("readdir", name, unix.ENOTDIR)
	}
	d := n.ext.sub
	if d.err != nil {
		return nil, d.err
	}
	list := make([]fs.DirEntry, len(d.nodes))
	for i := range d.nodes {
		list[i] = dirEntry{t: t, d: d, n: &d.nodes[i]}
	}
	return list, nil
}

// ReadLink returns the target of the symlink name, verbatim.
func (t *Tree) ReadLink(name string) (string, error) {
	n, err := t.lookup("readlink", name)
	if err != nil {
		return "", err
	}
	if !n.isLink() {
		return "", pathError("readlink", name, unix.EINVAL)
	}
	return n.ext.link, nil
}

// Excluded reports whether name is there on the disk but left out by .dockerignore:
// the usual reason why a file that the user can see is not found.
func (t *Tree) Excluded(name string) bool {
	if _, err := t.lookup("lstat", name); err == nil || t.ign == nil || !validName(name) {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.fd < 0 {
		return false
	}
	fd, err := openBelow(t.fd, name, unix.O_PATH)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// validName says whether name may be looked up at all.
func validName(name string) bool {
	if name == "." || name == "" {
		return true
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "" || elem == "." || elem == ".." {
			return false
		}
	}
	return strings.IndexByte(name, 0) < 0
}

// splitPath yields the elements of a valid name; none for the top.
func splitPath(name string) iter.Seq[string] {
	if name == "." || name == "" {
		return func(func(string) bool) {}
	}
	return strings.SplitSeq(name, "/")
}

// lookup finds the node called name, following nothing.
func (t *Tree) lookup(op, name string) (*node, error) {
	if !validName(name) {
		return nil, pathError(op, name, fs.ErrInvalid)
	}
	n := &t.top
	for elem := range splitPath(name) {
		next, err := n.child(elem)
		if err != nil {
			return nil, pathError(op, name, err)
		}
		n = next
	}
	return n, nil
}

// child finds one element in the directory n.
func (n *node) child(elem string) (*node, error) {
	if !n.isDir() {
		return nil, unix.ENOTDIR
	}
	if c := n.ext.sub.find(elem); c != nil {
		return c, nil
	}
	if n.ext.sub.err != nil {
		return nil, n.ext.sub.err
	}
	return nil, unix.ENOENT
}

// info makes the public form of n, known as name.
func (t *Tree) info(n *node, name string) (fs.FileInfo, error) {
	s, err := t.stat(n, name)
	if err != nil {
		return nil, err
	}
	return layer.NewFileInfo(s), nil
}

func (t *Tree) stat(n *node, name string) (*layer.Stat, error) {
	if name == "" {
		name = "."
	}
	s := n.stat(name)
	if n.nlink > 1 && n.dev != t.top.dev {
		s.Ino = t.number(n)
	}
	var err error
	if s.Xattrs, err = t.xattrs(n, name); err != nil {
		return nil, pathError("xattrs", name, err)
	}
	return s, nil
}

// number makes up an inode number for a file of another device than the context's own, so that it
// cannot be taken for a hard link to one of those.
func (t *Tree) number(n *node) uint64 {
	t.numbersMu.Lock()
	defer t.numbersMu.Unlock()
	id := [2]uint64{n.dev, n.ino}
	if _, ok := t.numbers[id]; !ok {
		if t.numbers == nil {
			t.numbers = map[[2]uint64]uint64{}
		}
		t.numbers[id] = 1<<63 + uint64(len(t.numbers))
	}
	return t.numbers[id]
}

// xattrs reads extended attributes where there may be some. Walks and digests find out in
// passing that nearly no file has any.
func (t *Tree) xattrs(n *node, name string) (map[string]string, error) {
	if n.has(knowsXattrs) && !n.has(hasXattrs) {
		return nil, nil
	}
	fd, err := t.open(name)
	if errors.Is(err, unix.EACCES) {
		return nil, nil // its content will not be readable either
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	m, err := readXattrs(fd)
	if err == nil {
		bits := uint32(knowsXattrs)
		if m != nil {
			bits |= hasXattrs
		}
		n.set(bits)
	}
	return m, err
}

// open opens the regular file or directory called name.
func (t *Tree) open(name string) (int, error) {
	if name == "" {
		name = "."
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.fd < 0 {
		return -1, fs.ErrClosed
	}
	// O_NONBLOCK: a FIFO that took the file's place must not hang the build.
	fd, err := openBelow(t.fd, name, unix.O_RDONLY|unix.O_NONBLOCK)
	switch {
	case err == unix.ENOENT, err == unix.ELOOP, err == unix.ENOTDIR, err == unix.ENXIO:
		return -1, ErrChanged
	case err != nil:
		return -1, err
	}
	return fd, nil
}

// dirEntry is an entry of ReadDir.
type dirEntry struct {
	t *Tree
	d *dir
	n *node
}

func (e dirEntry) Name() string               { return e.n.name }
func (e dirEntry) IsDir() bool                { return e.n.isDir() }
func (e dirEntry) Type() fs.FileMode          { return layer.FileMode(e.n.mode).Type() }
func (e dirEntry) Info() (fs.FileInfo, error) { return e.t.info(e.n, e.d.join(e.n.name)) }
func (e dirEntry) String() string             { return fs.FormatDirEntry(e) }

// pathError is an *fs.PathError, unless err already is one.
func pathError(op, name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	if name == "" {
		name = "."
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// nanoTime is the inverse of time.Time.UnixNano.
func nanoTime(ns int64) time.Time { return time.Unix(0, ns) }
