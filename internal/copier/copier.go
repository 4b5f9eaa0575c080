// Package copier works out what COPY, ADD and WORKDIR add to a root. It plays the
// operation on a view of that root, metadata only, and gives the files of the
// layer that results; it writes nothing and needs no privileges.
//
// The rules are those of the Dockerfile reference; where it is silent, BuildKit's
// (its file backend and fsutil's copy), which people's Dockerfiles rely on.
package copier

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// Lower is the root that is copied onto. Names are those of layer.Entry; no
// symlink is followed but in directories on the way, which callers have resolved.
type Lower interface {
	Lstat(name string) (fs.FileInfo, error) // Sys is *layer.Stat
}

// Tree is what is copied from.
type Tree interface {
	Lower
	ReadDir(name string) ([]fs.DirEntry, error)
	Open(name string) (fs.File, error)
	// Resolve follows all symlinks of name, staying inside the tree.
	Resolve(name string) (string, error)
}

// Owner is a numeric user and group.
type Owner struct{ UID, GID int }

// Plan is a root with what has been added to it so far. It is not for concurrent use.
type Plan struct {
	lower   Lower
	added   map[string]*node
	dirs    map[string]bool // directories of lower already asked for: there or not
	covered map[string]bool // names below which lower no longer shows
}

// node is an added file; nodes of equal group are one file with several names.
type node struct {
	layer.File
	group *group
}

type group struct{ first *node }

// New begins a plan on lower; nil is an empty root.
func New(lower Lower) *Plan {
	return &Plan{lower: lower, added: map[string]*node{}, dirs: map[string]bool{}, covered: map[string]bool{}}
}

// Files yields the plan's layer in canonical order, directories above an added
// name included as the root below has them.
func (p *Plan) Files() iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		if err := p.addParents(); err != nil {
			yield(layer.File{}, err)
			return
		}
		names := make([]string, 0, len(p.added))
		for name := range p.added {
			names = append(names, name)
		}
		slices.SortFunc(names, func(a, b string) int {
			switch {
			case a == b:
				return 0
			case layer.Less(a, b):
				return -1
			}
			return 1
		})
		for _, name := range names {
			n := p.added[name]
			f := n.File
			f.Name = name
			if g := n.group; g != nil {
				if g.first == nil {
					g.first = n
				}
				if g.first != n {
					f.Hard, f.Link, f.Open, f.Size = true, g.first.Name, nil, 0
				}
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

// addParents makes a layer's directories complete: overlay shows a directory
// with the metadata of the topmost layer that has it, so a layer that left one
// out would change its mode.
func (p *Plan) addParents() error {
	for name := range p.added {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if p.added[dir] != nil {
				break
			}
			e, ok, err := p.lookup(dir)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("%s: parent of %s is missing", dir, name)
			}
			p.added[dir] = &node{File: layer.File{Entry: e}}
		}
	}
	return nil
}

// lookup finds name, its parents being resolved, in what was added and then below.
func (p *Plan) lookup(name string) (layer.Entry, bool, error) {
	if name == "" || name == "." {
		return layer.Entry{Name: ".", Mode: unix.S_IFDIR | 0o755}, true, nil
	}
	if n := p.added[name]; n != nil {
		return n.Entry, true, nil
	}
	return p.lookupLower(name)
}

func (p *Plan) lookupLower(name string) (layer.Entry, bool, error) {
	if p.lower == nil || !p.lowerDir(path.Dir(name)) {
		return layer.Entry{}, false, nil
	}
	info, err := p.lower.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return layer.Entry{}, false, nil
	}
	if err != nil {
		return layer.Entry{}, false, err
	}
	st := info.Sys().(*layer.Stat)
	e := st.Entry
	e.Name, e.Hard, e.Opaque = name, false, false
	return e, true, nil
}

// lowerDir tells whether dir is a directory in lower that still shows. A copy of
// many files asks once for each directory instead of once for each file.
func (p *Plan) lowerDir(dir string) bool {
	if dir == "." {
		return true
	}
	if p.covered[dir] {
		return false
	}
	there, asked := p.dirs[dir]
	if !asked {
		e, ok, err := p.lookupLower(dir)
		there = err == nil && ok && isDir(e.Mode)
		p.dirs[dir] = there
	}
	return there
}

// put adds or replaces name. What lower had below it is hidden unless both are directories.
func (p *Plan) put(name string, n *node) error {
	if name == "." {
		return nil // the root itself is not part of a layer
	}
	old, ok, err := p.lookup(name)
	if err != nil {
		return err
	}
	if ok && isDir(old.Mode) != isDir(n.Mode) {
		p.cover(name)
	}
	n.Name = name
	p.added[name] = n
	return nil
}

// cover forgets what was at and below name.
func (p *Plan) cover(name string) {
	p.covered[name] = true
	for other := range p.added {
		if strings.HasPrefix(other, name+"/") {
			delete(p.added, other)
		}
	}
}

// Mkdir makes a directory and its missing parents, following symlinks of the
// root, as WORKDIR does. Existing directories stay as they are.
func (p *Plan) Mkdir(dir string, owner Owner, when time.Time) error {
	name, err := p.resolve(dir)
	if err != nil {
		return err
	}
	return p.mkdirAll(name, 0o755, owner, when)
}

func (p *Plan) mkdirAll(name string, perm uint32, owner Owner, when time.Time) error {
	e, ok, err := p.lookup(name)
	if err != nil {
		return err
	}
	if ok {
		if !isDir(e.Mode) {
			return fmt.Errorf("/%s: %w", name, unix.ENOTDIR)
		}
		return nil
	}
	if err := p.mkdirAll(path.Dir(name), perm, owner, when); err != nil {
		return err
	}
	return p.put(name, &node{File: layer.File{Entry: layer.Entry{
		Mode: unix.S_IFDIR | perm, UID: owner.UID, GID: owner.GID, ModTime: when,
	}}})
}

// resolve follows every symlink of name inside the root. Components that do not
// exist stay as they are.
func (p *Plan) resolve(name string) (string, error) {
	done, err := layer.Follow(path.Clean("/" + name)[1:], func(name string) (string, bool, error) {
		e, ok, err := p.lookup(name)
		return e.Link, err == nil && ok && isLink(e.Mode), err
	})
	if errors.Is(err, unix.ELOOP) {
		err = fmt.Errorf("/%s: %w", name, err)
	}
	return done, err
}

func join(dir, name string) string {
	if dir == "." || dir == "" {
		return name
	}
	return dir + "/" + name
}

func isDir(mode uint32) bool  { return mode&unix.S_IFMT == unix.S_IFDIR }
func isLink(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFLNK }
func isFile(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFREG }
