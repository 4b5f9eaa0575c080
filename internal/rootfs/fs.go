package rootfs

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// FS is the merged view of a chain of layers: what a process in the mounted root
// would see, read without mounting anything. Whiteouts and opaque directories are
// applied and hard links keep their identity (Stat.Ino, unique across the chain).
//
// Names are as in layer.Entry: relative, slash separated, clean, not necessarily
// UTF-8; "" and "." are the root. Symlinks in the directories on the way are
// followed, as the kernel does, with the root taken for "/" and never left;
// FileInfo.Sys is a *layer.Stat whose Name is the one found after that.
//
// An FS is safe for concurrent use. It does not own its layers.
type FS struct {
	layers []*layer.Layer // bottom first

	mu   sync.RWMutex
	dirs map[string]*node // directories met so far, by name; nil where there is none
}

// node is a name of the merged view.
type node struct {
	stat  *layer.Stat
	layer int   // index of the layer that has the content
	parts []int // of a directory: the layers whose entries show in it, top first
}

// NewFS merges layers, bottom first. No layers make an empty root.
func NewFS(layers ...*layer.Layer) *FS {
	return &FS{layers: layers, dirs: map[string]*node{}}
}

// Lstat describes name; it does not follow name itself when that is a symlink.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	n, err := f.find("lstat", name)
	if err != nil {
		return nil, err
	}
	return layer.NewFileInfo(n.stat), nil
}

// Stat describes what name leads to, symlinks followed.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.follow("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(name), nil
}

// info describes n, which was asked for as name.
func (n *node) info(name string) fs.FileInfo {
	info := layer.NewFileInfo(n.stat)
	if base := path.Base(name); base != info.Name() {
		return renamed{info, base}
	}
	return info
}

// renamed is a FileInfo under the name it was asked for by, as os.Stat has it.
type renamed struct {
	fs.FileInfo
	name string
}

func (r renamed) Name() string { return r.name }

// ReadLink returns the target of the symlink name, verbatim.
func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.find("readlink", name)
	if err != nil {
		return "", err
	}
	if n.stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return n.stat.Link, nil
}

// find looks name up, following symlinks in its parents only.
func (f *FS) find(op, name string) (*node, error) {
	if name == "" {
		name = "."
	}
	if !valid(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := f.lookup(name)
	if err == nil && n == nil {
		// Seldom: callers that walk or resolve come with names that need no following.
		var real string
		if real, err = f.ResolveParent(name); err == nil && real != name {
			n, err = f.lookup(real)
		}
	}
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return n, nil
}

// follow looks name up, following symlinks to the end.
func (f *FS) follow(op, name string) (*node, error) {
	n, err := f.find(op, name)
	if err != nil || n.stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return n, err
	}
	real, err := f.Resolve(name)
	if err == nil {
		n, err = f.lookup(real)
	}
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return n, nil
}

// valid is fs.ValidPath without its demand for UTF-8.
func valid(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return !strings.Contains(name, "\x00")
}

// pathError puts op and name on err in place of what was there from further inside.
func pathError(op, name string, err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// lookup finds name, following no symlink at all. It returns nil where there is nothing.
func (f *FS) lookup(name string) (*node, error) {
	f.mu.RLock()
	n, known := f.dirs[name]
	f.mu.RUnlock()
	if known {
		return n, nil
	}
	if name == "." {
		n, err := f.merge(name, downFrom(len(f.layers)-1))
		if err != nil {
			return nil, err
		}
		if n == nil {
			n = &node{}
		}
		if n.stat == nil {
			n.stat = &layer.Stat{Entry: layer.Entry{Name: ".", Mode: unix.S_IFDIR | 0o755}, Nlink: 2, Implicit: true}
		}
		return f.remember(name, n), nil
	}
	parent, err := f.lookup(path.Dir(name))
	if err != nil || parent == nil || parent.parts == nil {
		return nil, err
	}
	n, err = f.merge(name, parent.parts)
	if err != nil || n != nil && n.parts == nil {
		return n, err
	}
	if n == nil {
		return nil, nil // not remembered: there is no end to names that are not there
	}
	return f.remember(name, n), nil
}

func downFrom(top int) []int {
	parts := make([]int, 0, top+1)
	for i := top; i >= 0; i-- {
		parts = append(parts, i)
	}
	return parts
}

func (f *FS) remember(name string, n *node) *node {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.dirs[name]; old != nil {
		return old
	}
	f.dirs[name] = n
	return n
}

// merge applies overlay's rules to one name in the layers its directory shows, top
// first: a whiteout or an opaque directory ends the search, a file is taken when it
// comes first and ends it, directories add up.
func (f *FS) merge(name string, layers []int) (*node, error) {
	var n *node
	for _, i := range layers {
		info, err := f.layers[i].Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		st := info.Sys().(*layer.Stat)
		if st.Whiteout {
			break
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if n == nil {
				n = &node{stat: f.stat(i, st), layer: i}
			}
			break
		}
		switch {
		case n == nil:
			n = &node{stat: f.stat(i, st), layer: i}
		case n.stat.Implicit && !st.Implicit:
			// A layer that merely has something below the directory does not change it.
			n.stat = f.stat(i, st)
		}
		n.parts = append(n.parts, i)
		if st.Opaque {
			break
		}
	}
	return n, nil
}

// stat is st of layer i as the merged view shows it.
func (f *FS) stat(i int, st *layer.Stat) *layer.Stat {
	c := *st
	c.Opaque = false
	c.Ino = uint64(i)<<inoBits | st.Ino&(1<<inoBits-1)
	return &c
}

// inoBits is how much of Stat.Ino is left to the layer. An index numbers its inodes
// by their place in it, in units of 32 bytes: enough for one of 8 PiB.
const inoBits = 48

// ReadDir lists the directory name, sorted by byte order.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.follow("readdir", name)
	if err != nil {
		return nil, err
	}
	if n.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: unix.ENOTDIR}
	}
	list, err := f.list(n)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	return list, nil
}

func (f *FS) list(n *node) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	var seen map[string]bool
	if len(n.parts) > 1 {
		seen = map[string]bool{}
	}
	for _, i := range n.parts {
		entries, err := f.layers[i].ReadDir(n.stat.Name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if seen != nil {
				if seen[e.Name()] {
					continue
				}
				seen[e.Name()] = true
			}
			gone, err := whiteoutEntry(e)
			if err != nil {
				return nil, err
			}
			if !gone {
				list = append(list, &dirEntry{e, f, i})
			}
		}
	}
	if len(n.parts) > 1 {
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return list, nil
}

// whiteoutEntry asks for more than the type only where that is a whiteout's.
func whiteoutEntry(e fs.DirEntry) (bool, error) {
	if e.Type()&fs.ModeCharDevice == 0 {
		return false, nil
	}
	info, err := e.Info()
	if err != nil {
		return false, err
	}
	return info.Sys().(*layer.Stat).Whiteout, nil
}

// dirEntry is an entry of layer i in the merged view.
type dirEntry struct {
	fs.DirEntry
	fs *FS
	i  int
}

func (e *dirEntry) String() string { return fs.FormatDirEntry(e) }

func (e *dirEntry) Info() (fs.FileInfo, error) {
	info, err := e.DirEntry.Info()
	if err != nil {
		return nil, err
	}
	st := info.Sys().(*layer.Stat)
	if st.Implicit {
		return e.fs.Lstat(st.Name) // a layer below may know it
	}
	return layer.NewFileInfo(e.fs.stat(e.i, st)), nil
}
