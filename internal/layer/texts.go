package layer

import (
	"slices"
	"strings"
	"unsafe"
)

// texts keeps strings for as long as a tree lives, in few pieces. What an archive
// calls a name is a part of its header, which may be a megabyte of which nothing
// else is wanted: keeping that part as it is would keep it all.
type texts struct{ b strings.Builder }

const textsPiece = 64 << 10

func (t *texts) keep(s string) string {
	if len(s) > textsPiece/16 {
		return strings.Clone(s)
	}
	if t.b.Len()+len(s) > t.b.Cap() {
		t.b = strings.Builder{}
		t.b.Grow(textsPiece)
	}
	at := t.b.Len()
	t.b.WriteString(s)
	return t.b.String()[at:]
}

func (t *texts) keepRare(r *rare) {
	if r == nil {
		return
	}
	r.link = t.keep(r.link)
	for i, x := range r.xattrs {
		r.xattrs[i] = xattr{t.keep(x.name), t.keep(x.value)}
	}
}

// sameXattrs reports whether a and b hold the same attributes and nothing else.
func sameXattrs(a, b *rare) bool {
	return a != nil && b != nil && a.link == "" && b.link == "" && !a.isSparse && !b.isSparse && slices.Equal(a.xattrs, b.xattrs)
}

// rareBytes is the memory that what few inodes have takes, what points to it included.
func (n *inode) rareBytes() int {
	if n.rare == nil {
		return 0
	}
	r := n.rare
	bytes := int(unsafe.Sizeof(*r)) + len(r.link) + int(unsafe.Sizeof(segment{}))*len(r.sparse) + int(unsafe.Sizeof(xattr{}))*len(r.xattrs)
	for _, x := range r.xattrs {
		bytes += len(x.name) + len(x.value)
	}
	return bytes
}

// directoryBytes is the memory that a directory takes more than a file, with room
// for a first name.
const directoryBytes = int(unsafe.Sizeof(directory{}) + unsafe.Sizeof(dirent{}))

// baseLen is the length of the last component of a clean name, all that a tree keeps of it.
func baseLen(name string) int { return len(name) - strings.LastIndexByte(name, '/') - 1 }
