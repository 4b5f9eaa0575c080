package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Layer is one layer open for reading. It is raw: whiteouts are seen, nothing is
// resolved or merged. Names are as in Entry.Name. All methods may be called at
// once from many goroutines; after Close they fail with fs.ErrClosed, but for
// files that are open.
type Layer struct {
	dir    string
	ix     *index
	refs   atomic.Int64 // 1 until Close, and 1 for each use under way
	closed atomic.Bool

	tarOnce sync.Once
	tar     *os.File
	tarErr  error
}

// Open opens the layer in dir. Only its index is read, and only where it is
// asked for; layer.tar is opened by the first file that is.
func Open(dir string) (*Layer, error) {
	f, err := os.Open(filepath.Join(dir, indexFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < superOffset+superSize || st.Size() > 2*maxIndex {
		return nil, fmt.Errorf("%s: %d bytes are no index: %w", f.Name(), st.Size(), ErrFormat)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, &fs.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	ix, err := parseIndex(data)
	if err != nil {
		unix.Munmap(data)
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	l := &Layer{dir: dir, ix: ix}
	l.refs.Store(1)
	return l, nil
}

// Close lets go of the layer once nothing uses it any more.
func (l *Layer) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.release()
	return nil
}

// acquire keeps the index mapped until release.
func (l *Layer) acquire() error {
	for {
		n := l.refs.Load()
		if n == 0 || l.closed.Load() {
			return fs.ErrClosed
		}
		if l.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (l *Layer) release() {
	if l.refs.Add(-1) > 0 {
		return
	}
	unix.Munmap(l.ix.data)
	l.tarOnce.Do(func() { l.tarErr = fs.ErrClosed })
	if l.tar != nil {
		l.tar.Close()
	}
}

// openTar opens layer.tar once for all files.
func (l *Layer) openTar() (*os.File, error) {
	l.tarOnce.Do(func() { l.tar, l.tarErr = os.Open(filepath.Join(l.dir, tarFile)) })
	return l.tar, l.tarErr
}

// DiffID is the digest of layer.tar that the index was made for.
func (l *Layer) DiffID() digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, l.ix.tag)
}

// HasImplicit reports whether any directory, the root included, is implied.
func (l *Layer) HasImplicit() bool { return l.ix.implied }

// Empty reports whether the layer changes nothing: no entries, not even one for
// the root, so that it may be left out of mounts.
func (l *Layer) Empty() bool {
	if l.acquire() != nil {
		return false
	}
	defer l.release()
	n, err := l.ix.inode(l.ix.root)
	if err != nil || n.size() != emptyDirSize {
		return false
	}
	s, err := l.ix.stat(".", n)
	return err == nil && s.Implicit && !s.Opaque
}

// emptyDirSize is what "." and ".." take.
const emptyDirSize int64 = 2*direntSize + int64(len("...")) // their names

// use runs f on the inode of name, and makes a *fs.PathError of what goes wrong.
func (l *Layer) use(op, name string, f func(n diskInode) error) error {
	err := l.acquire()
	if err == nil {
		defer l.release()
		var n diskInode
		var ok bool
		switch {
		case !isClean(name):
			err = fs.ErrInvalid
		default:
			n, ok, err = l.ix.walk(name)
		}
		if err == nil && !ok {
			err = fs.ErrNotExist
		}
		if err == nil {
			err = f(n)
		}
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Lstat describes name itself; Sys of the result is a *Stat.
func (l *Layer) Lstat(name string) (info fs.FileInfo, err error) {
	err = l.use("lstat", name, func(n diskInode) error {
		s, err := l.ix.stat(name, n)
		if err != nil {
			return err
		}
		info = fileInfo{s}
		return nil
	})
	return info, err
}

// ReadLink returns the target of a symlink, verbatim.
func (l *Layer) ReadLink(name string) (target string, err error) {
	err = l.use("readlink", name, func(n diskInode) error {
		if !n.isSymlink() {
			return fs.ErrInvalid
		}
		var err error
		target, err = l.ix.link(n)
		return err
	})
	return target, err
}

// ReadDir lists a directory, sorted by name as bytes, whiteouts included. Info of
// an entry is like Lstat, without looking the name up again.
func (l *Layer) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = l.use("readdir", name, func(n diskInode) error {
		var err error
		list, err = l.readDir(name, n)
		return err
	})
	return list, err
}

var errNotDir = errors.New("not a directory")

func (l *Layer) readDir(name string, n diskInode) ([]fs.DirEntry, error) {
	if !n.isDir() {
		return nil, errNotDir
	}
	blocks := dirBlocks(n)
	if n.size() > int64(len(l.ix.data)) {
		return nil, fmt.Errorf("index: directory of %d bytes: %w", n.size(), ErrFormat)
	}
	entries := make([]dirEntry, 0, n.size()/(direntSize+8))
	for i := range blocks {
		b, err := l.ix.dirBlock(n, i)
		if err != nil {
			return nil, err
		}
		all := string(b.data) // one copy for all names of the block
		for j := range b.count {
			from, to := b.name(j)
			if base := all[from:to]; base != "." && base != ".." {
				entries = append(entries, dirEntry{l, name, base, b.inode(j), b.fileType(j)})
			}
		}
	}
	list := make([]fs.DirEntry, len(entries))
	for i := range entries {
		list[i] = &entries[i]
	}
	return list, nil
}

type dirEntry struct {
	l         *Layer
	dir, base string
	pos       int64
	kind      byte
}

func (e *dirEntry) Name() string      { return e.base }
func (e *dirEntry) IsDir() bool       { return e.kind == fileTypeDir }
func (e *dirEntry) Type() fs.FileMode { return FileMode(typeMode(e.kind)) & fs.ModeType }
func (e *dirEntry) String() string    { return fs.FormatDirEntry(e) }
func (e *dirEntry) Info() (fs.FileInfo, error) {
	name := joinName(e.dir, e.base)
	err := e.l.acquire()
	if err == nil {
		defer e.l.release()
		var n diskInode
		var s *Stat
		if n, err = e.l.ix.inode(e.pos); err == nil {
			if s, err = e.l.ix.stat(name, n); err == nil {
				return fileInfo{s}, nil
			}
		}
	}
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
}

func typeMode(kind byte) uint32 {
	return [...]uint32{
		fileTypeReg: unix.S_IFREG, fileTypeDir: unix.S_IFDIR, fileTypeChr: unix.S_IFCHR, fileTypeBlk: unix.S_IFBLK,
		fileTypeFifo: unix.S_IFIFO, fileTypeSocket: unix.S_IFSOCK, fileTypeSymlink: unix.S_IFLNK,
	}[min(kind, fileTypeSymlink)]
}

func joinName(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

// All yields every name of the layer, whiteouts and implied directories
// included, in canonical order. A further name of a file that has several has
// Hard set and its first name as Link, so that what All yields can be written again.
func (l *Layer) All() iter.Seq2[*Stat, error] {
	return func(yield func(*Stat, error) bool) {
		if err := l.acquire(); err != nil {
			yield(nil, err)
			return
		}
		defer l.release()
		w := walker{l: l, yield: yield, first: make(map[int64]string), left: len(l.ix.data) / direntSize}
		if n, err := l.ix.inode(l.ix.root); err != nil {
			yield(nil, err)
		} else {
			w.visit(".", n)
		}
	}
}

// walker visits a tree, depth first.
type walker struct {
	l     *Layer
	yield func(*Stat, error) bool
	first map[int64]string // inode with several links → first name
	left  int              // more records than an index has bytes for are a loop
}

// visit reports whether to go on.
func (w *walker) visit(name string, n diskInode) bool {
	s, err := w.l.ix.stat(name, n)
	if w.left--; err == nil && (w.left < 0 || len(name) > maxName) {
		err = fmt.Errorf("index: directories in a loop: %w", ErrFormat)
	}
	if err != nil {
		w.yield(nil, err)
		return false
	}
	if s.Nlink > 1 && !n.isDir() {
		if first, ok := w.first[n.pos]; ok {
			s.Hard, s.Link = true, first
		} else {
			w.first[n.pos] = name
		}
	}
	if !w.yield(s, nil) {
		return false
	}
	if !n.isDir() {
		return true
	}
	for i := range dirBlocks(n) {
		b, err := w.l.ix.dirBlock(n, i)
		if err != nil {
			w.yield(nil, err)
			return false
		}
		for j := range b.count {
			from, to := b.name(j)
			base := string(b.data[from:to])
			if base == "." || base == ".." {
				continue
			}
			child, err := w.l.ix.inode(b.inode(j))
			if err != nil {
				w.yield(nil, err)
				return false
			}
			if !w.visit(joinName(name, base), child) {
				return false
			}
		}
	}
	return true
}
