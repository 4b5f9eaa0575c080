package layer

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a layer while it is written: every entry, and where its content lies
// in layer.tar. Entries may come in any order; the last of one name wins, as
// with tar -x.
type tree struct {
	root       *inode
	nodes      int // directories, files and whiteouts ever added, implied ones too
	maxNodes   int // 0: no limit
	metaBytes  int // of names, link targets and xattrs, with what they take to keep
	maxMeta    int // 0: no limit
	texts      texts
	lastRare   *rare // labels are often the same for all files
	thrifty    bool
	lastParent string // of the entry added last, for the common case of sorted input
	lastDir    *inode
	archive    bool // names go through symlinks; see IngestOptions
}

// inode is one object of a tree; hard links are several dirents of one inode. There
// may be hundreds of thousands: what few of them have is kept apart.
type inode struct {
	mode     uint32 // st_mode; 0 is a whiteout
	uid, gid uint32
	rdev     uint32 // as Linux encodes it for user space, 32 bits
	nsec     uint32

	implicit, opaque bool
	linked           bool // has several names
	whiteouts        bool // in this directory; known once it is laid out

	place // in the index

	sec  int64
	size int64
	off  int64 // of the content in layer.tar, a multiple of 512
	dir  *directory
	rare *rare             // may be nil
	sum  [sha256.Size]byte // of the content
}

// rare is what few inodes have.
type rare struct {
	link     string
	xattrs   []xattr // sorted by name
	sparse   []segment
	isSparse bool
	own      int64 // blocks of sparse content copied into the index
}

// uncommon returns what n has of the rare, to be written.
func (n *inode) uncommon() *rare {
	if n.rare == nil {
		n.rare = &rare{}
	}
	return n.rare
}

func (n *inode) isSparse() bool { return n.rare != nil && n.rare.isSparse }

func (n *inode) link() string {
	if n.rare == nil {
		return ""
	}
	return n.rare.link
}

func (n *inode) xattrs() []xattr {
	if n.rare == nil {
		return nil
	}
	return n.rare.xattrs
}

type xattr struct{ name, value string }

// segment is a run of a sparse file that has content: size bytes at off of the
// file are found at data of layer.tar.
type segment struct{ off, data, size int64 }

// directory is what is in a directory: a sorted list as long as names come in that
// order, as they do but for hand-made tars, else a map until sort.
type directory struct {
	list   []dirent
	byName map[string]*inode
	parent *inode
	size   int64 // bytes of its entries in the index
}

type dirent struct {
	name string
	node *inode
}

func newTree() *tree {
	root := newImplied(nil)
	root.dir.parent = root
	return &tree{root: root, nodes: 1}
}

func newImplied(parent *inode) *inode {
	return &inode{mode: unix.S_IFDIR | 0o755, implicit: true, dir: &directory{parent: parent}}
}

func (n *inode) isDir() bool      { return n.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *inode) isReg() bool      { return n.mode&unix.S_IFMT == unix.S_IFREG }
func (n *inode) isSymlink() bool  { return n.mode&unix.S_IFMT == unix.S_IFLNK }
func (n *inode) isWhiteout() bool { return n.mode == 0 }

func (d *directory) find(name string) *inode {
	if d.byName != nil {
		return d.byName[name]
	}
	if n := len(d.list); n == 0 || d.list[n-1].name < name {
		return nil
	}
	i := sort.Search(len(d.list), func(i int) bool { return d.list[i].name >= name })
	if d.list[i].name == name {
		return d.list[i].node
	}
	return nil
}

// set binds name to n, in the place of whatever had that name.
func (d *directory) set(name string, n *inode) {
	if d.byName == nil {
		if len(d.list) == 0 || d.list[len(d.list)-1].name < name {
			d.list = append(d.list, dirent{name, n})
			return
		}
		i := sort.Search(len(d.list), func(i int) bool { return d.list[i].name >= name })
		if d.list[i].name == name {
			d.list[i].node = n
			return
		}
		// Out of order: inserting in the middle would be quadratic.
		d.byName = make(map[string]*inode, len(d.list)+1)
		for _, e := range d.list {
			d.byName[e.name] = e.node
		}
		d.list = nil
	}
	d.byName[name] = n
}

func (d *directory) sort() {
	if d.byName == nil {
		return
	}
	d.list = make([]dirent, 0, len(d.byName))
	for name, n := range d.byName {
		d.list = append(d.list, dirent{name, n})
	}
	d.byName = nil
	slices.SortFunc(d.list, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
}

// parentOf returns the directory that holds name, making what is missing on the way.
func (t *tree) parentOf(name string) (*inode, string, error) {
	parent, base := splitName(name)
	if t.lastDir != nil && parent == t.lastParent {
		return t.lastDir, base, nil
	}
	dir, at := t.root, parent
	if t.archive {
		var err error
		if at, err = t.resolve(name, parent); err != nil {
			return nil, "", err
		}
	}
	for rest := at; rest != "" && rest != "."; {
		part, after, _ := strings.Cut(rest, "/")
		next := dir.dir.find(part)
		switch {
		case next == nil || next.isWhiteout():
			if err := t.grow(name, directoryBytes+len(part)); err != nil {
				return nil, "", err
			}
			implied := newImplied(dir)
			implied.opaque = next != nil
			dir.dir.set(t.texts.keep(part), implied)
			next = implied
		case next.isSymlink():
			return nil, "", fmt.Errorf("entry %q: goes through symlink %q: %w",
				name, strings.TrimSuffix(at[:len(at)-len(after)], "/"), ErrUnsafe)
		case !next.isDir():
			return nil, "", fmt.Errorf("entry %q: %q is not a directory: %w",
				name, strings.TrimSuffix(at[:len(at)-len(after)], "/"), ErrFormat)
		}
		dir, rest = next, after
	}
	t.lastParent, t.lastDir = parent, dir
	return dir, base, nil
}

func (t *tree) grow(name string, bytes int) error {
	t.nodes++
	t.metaBytes += bytes
	if t.nodes == thriftyFrom {
		t.thrifty = true
		beThrifty()
	}
	switch {
	case t.maxNodes > 0 && t.nodes > t.maxNodes:
		return fmt.Errorf("entry %q: more than %d entries: %w", name, t.maxNodes, ErrLimit)
	case t.maxMeta > 0 && t.metaBytes > t.maxMeta:
		return fmt.Errorf("entry %q: more than %d bytes of names and attributes: %w", name, t.maxMeta, ErrLimit)
	}
	return nil
}

// done is called when the tree is no longer needed.
func (t *tree) done() {
	if t.thrifty {
		t.thrifty = false
		endThrift()
	}
}

// add binds name (clean) to n, which is not a whiteout.
func (t *tree) add(name string, n *inode) error {
	if sameXattrs(n.rare, t.lastRare) {
		n.rare = t.lastRare
	}
	bytes := baseLen(name)
	if n.rare != t.lastRare {
		bytes += n.rareBytes()
	}
	if n.isDir() {
		bytes += directoryBytes
	}
	if err := t.grow(name, bytes); err != nil {
		return err
	}
	if n.rare != nil && n.rare != t.lastRare {
		t.texts.keepRare(n.rare)
		t.lastRare = n.rare
	}
	if name == "." {
		if !n.isDir() {
			return fmt.Errorf("entry %q: the root is not a directory: %w", name, ErrFormat)
		}
		t.root.become(n)
		return nil
	}
	parent, base, err := t.parentOf(name)
	if err != nil {
		return err
	}
	old := parent.dir.find(base)
	if n.isDir() {
		if old != nil && old.isDir() {
			old.become(n)
			return nil
		}
		n.dir = &directory{parent: parent}
		n.opaque = n.opaque || old != nil && old.isWhiteout()
	}
	t.replace(parent, base, old, n)
	return nil
}

// become gives a directory the metadata of n; it keeps what is in it.
func (dir *inode) become(n *inode) {
	dir.mode, dir.uid, dir.gid = n.mode, n.uid, n.gid
	dir.sec, dir.nsec, dir.rare = n.sec, n.nsec, n.rare
	dir.implicit = false
	dir.opaque = dir.opaque || n.opaque
}

func (t *tree) replace(parent *inode, base string, old, n *inode) {
	if old != nil && (old.isDir() || old.isSymlink()) {
		t.lastDir = nil // it may have been inside, or been found by it
	}
	t.bind(parent, base, n)
}

// bind gives n a name in parent.
func (t *tree) bind(parent *inode, base string, n *inode) { parent.dir.set(t.texts.keep(base), n) }

// addLink makes name another name of target.
func (t *tree) addLink(name, target string) (*inode, error) {
	if err := t.grow(name, baseLen(name)); err != nil {
		return nil, err
	}
	parent, base, err := t.parentOf(name)
	if err != nil {
		return nil, err
	}
	n, err := t.linkTarget(name, target)
	if err != nil {
		return nil, err
	}
	old := parent.dir.find(base)
	if old == n {
		return n, nil
	}
	n.linked = true
	t.replace(parent, base, old, n)
	return n, nil
}

func (t *tree) linkTarget(name, target string) (*inode, error) {
	dir, rest := t.root, target
	if t.archive {
		parent, base := splitName(target)
		at, err := t.resolve(name, parent)
		if err != nil {
			return nil, err
		}
		rest = joinName(at, base)
	}
	for {
		part, after, more := strings.Cut(rest, "/")
		n := dir.dir.find(part)
		switch {
		case n == nil || n.isWhiteout():
			return nil, fmt.Errorf("entry %q: hard link to %q, which is not in the layer: %w", name, target, ErrFormat)
		case !more && n.isDir():
			return nil, fmt.Errorf("entry %q: hard link to directory %q: %w", name, target, ErrFormat)
		case !more:
			return n, nil
		case n.isSymlink():
			return nil, fmt.Errorf("entry %q: hard link to %q goes through a symlink: %w", name, target, ErrUnsafe)
		case !n.isDir():
			return nil, fmt.Errorf("entry %q: hard link to %q, which is not in the layer: %w", name, target, ErrFormat)
		}
		dir, rest = n, after
	}
}

// addWhiteout deletes name from the layers below. Where this layer has the
// name too, it is the layer's that stays, whatever the order: whiteouts apply
// to lower layers only.
func (t *tree) addWhiteout(name string) error {
	if err := t.grow(name, baseLen(name)); err != nil {
		return err
	}
	parent, base, err := t.parentOf(name)
	if err != nil {
		return err
	}
	switch old := parent.dir.find(base); {
	case old == nil:
		t.bind(parent, base, &inode{})
	case old.isDir():
		old.opaque = true
	}
	return nil
}

// addOpaque makes the directory name hide what is below it.
func (t *tree) addOpaque(name string) error {
	dir := t.root
	if name != "." {
		var err error
		// The parent of any name inside is the directory itself.
		if dir, _, err = t.parentOf(name + "/" + whiteoutOpaque); err != nil {
			return err
		}
	}
	dir.opaque = true
	return nil
}

// walk calls f for every name in canonical order, parents first. Directories
// are sorted on the way.
func (t *tree) walk(f func(name string, n *inode) error) error {
	if err := f(".", t.root); err != nil {
		return err
	}
	return walkDir("", t.root, f)
}

func walkDir(prefix string, dir *inode, f func(string, *inode) error) error {
	dir.dir.sort()
	for _, e := range dir.dir.list {
		name := prefix + e.name
		if err := f(name, e.node); err != nil {
			return err
		}
		if e.node.isDir() {
			if err := walkDir(name+"/", e.node, f); err != nil {
				return err
			}
		}
	}
	return nil
}
