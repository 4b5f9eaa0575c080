package source

import (
	"sync/atomic"

	"nacre/internal/layer"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// node is one object as the walk saw it. There may be a hundred thousand of them, so
// what most do not have is behind ext.
type node struct {
	name   string // last element; a slice of its directory's arena
	ext    *ext
	dev    uint64
	ino    uint64
	size   int64
	mtime  int64 // nanoseconds since 1970, as is ctime
	ctime  int64
	mode   uint32 // st_mode
	uid    uint32
	gid    uint32
	nlink  uint32
	state  uint32   // bits below, atomically; digest is valid once hasDigest is seen
	digest [32]byte // sha256 of the content
}

const (
	hasDigest   = 1 << iota // node.digest is set
	knowsXattrs             // it is known whether there are extended attributes
	hasXattrs               // there are
	onlyParent              // ignored itself: here for what is in it
	unsettled               // its change time has moved since the walk: digest good, not to be remembered
)

// ext is what only some nodes have.
type ext struct {
	sub  *dir   // directories
	link string // symlinks
	rdev uint64 // devices
}

// dir is the contents of a directory.
type dir struct {
	path  string                   // relative to the tree, "." for the top
	err   error                    // why it could not be read
	nodes []node                   // sorted by name
	match patternmatcher.MatchInfo // of .dockerignore, for what is in it; only during the walk
}

// find returns the named child, or nil.
func (d *dir) find(name string) *node {
	lo, hi := 0, len(d.nodes)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if d.nodes[mid].name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(d.nodes) && d.nodes[lo].name == name {
		return &d.nodes[lo]
	}
	return nil
}

// join is the path of a child of d.
func (d *dir) join(name string) string {
	if d.path == "." {
		return name
	}
	return d.path + "/" + name
}

func (n *node) has(bit uint32) bool { return atomic.LoadUint32(&n.state)&bit != 0 }
func (n *node) set(bits uint32)     { atomic.OrUint32(&n.state, bits) }

func (n *node) isDir() bool     { return n.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.mode&unix.S_IFMT == unix.S_IFREG }
func (n *node) isLink() bool    { return n.mode&unix.S_IFMT == unix.S_IFLNK }

// fill takes over what lstat said.
func (n *node) fill(st *unix.Stat_t) {
	n.dev, n.ino, n.size = st.Dev, st.Ino, st.Size
	n.mtime, n.ctime = st.Mtim.Nano(), st.Ctim.Nano()
	n.mode, n.uid, n.gid, n.nlink = st.Mode, st.Uid, st.Gid, uint32(st.Nlink)
}

// same reports whether st describes the very same state of the same file.
func (n *node) same(st *unix.Stat_t) bool {
	return n.sameContent(st) && n.ctime == st.Ctim.Nano()
}

// sameContent is same but for the change time, which a chmod or a new hard link
// moves too.
func (n *node) sameContent(st *unix.Stat_t) bool {
	return n.dev == st.Dev && n.ino == st.Ino && n.size == st.Size &&
		n.mode&unix.S_IFMT == st.Mode&unix.S_IFMT && n.mtime == st.Mtim.Nano()
}

// stat is the public form of n, without extended attributes.
func (n *node) stat(name string) *layer.Stat {
	s := &layer.Stat{
		Entry: layer.Entry{
			Name: name, Mode: n.mode, UID: int(n.uid), GID: int(n.gid),
			ModTime: nanoTime(n.mtime),
		},
		Ino: n.ino, Nlink: n.nlink,
	}
	if n.isRegular() {
		s.Size = n.size
	}
	if n.ext != nil {
		s.Link = n.ext.link
		s.Major, s.Minor = unix.Major(n.ext.rdev), unix.Minor(n.ext.rdev)
	}
	return s
}
