package layer

import (
	"fmt"
	"math/bits"
)

// maxIndex bounds an index, in bytes. Only sparse files come near: every chunk of
// theirs costs 8 bytes, and a tar of a few KiB can claim any number of them.
const maxIndex = 1 << 30

// place is where an inode and its parts are in the index, which is small enough
// for 32 bits.
type place struct {
	pos    uint32 // of the inode, in bytes; 0 before it is laid out
	start  uint32 // first of its own blocks, relative to the first of them all
	links  uint32
	layout uint8
	bits   uint8 // file content is addressed in chunks of 512<<bits bytes
}

// plan is a tree laid out.
type plan struct {
	order  []*inode // by position
	end    int64    // of the last inode
	blocks int64    // that follow
	super
}

// layOut gives every inode its place.
func (t *tree) layOut(device bool) (*plan, error) {
	p := &plan{order: make([]*inode, 0, t.nodes), end: headSize(device)}
	p.device = device
	if err := t.walk(func(name string, n *inode) error { return p.put(name, n) }); err != nil {
		return nil, err
	}
	first := (p.end + blockSize - 1) >> blockBits
	for _, n := range p.order {
		n.start += uint32(first)
	}
	p.root = uint64(t.root.pos / inodeAlign)
	p.inodes = uint64(len(p.order))
	p.super.blocks = uint32(first + p.blocks)
	return p, nil
}

func (p *plan) put(name string, n *inode) error {
	if n.pos != 0 { // another name of a file already there
		n.links++
		return nil
	}
	n.links = 1
	if n.isDir() {
		n.links = n.measureDir()
	}
	xattrLen := n.xattrBytes()
	if xattrLen > maxXattrArea { // with those that are ours
		return fmt.Errorf("entry %q: %d bytes of extended attributes: %w", name, xattrLen, ErrFormat)
	}
	p.implied = p.implied || n.implicit
	fixed := inodeSize + xattrLen
	switch {
	case n.isDir():
		p.putTail(n, fixed)
	case n.isSymlink():
		p.putTail(n, fixed)
	case n.isReg() && n.size > 0:
		if !p.device {
			return fmt.Errorf("entry %q: content in an index without a tar: %w", name, ErrFormat)
		}
		if err := n.measureChunks(name); err != nil {
			return err
		}
		n.layout = layoutChunks
		p.place(n, roundUp(fixed, chunkSize)+n.chunkCount()*chunkSize)
		p.reserve(n, n.ownBlocks())
	default:
		p.place(n, fixed)
	}
	if p.end+p.blocks<<blockBits > maxIndex {
		return fmt.Errorf("entry %q: index of more than %d bytes: %w", name, maxIndex, ErrLimit)
	}
	return nil
}

// place puts an inode at the next position where its fixed part is in one block.
func (p *plan) place(n *inode, size int64) {
	pos := roundUp(p.end, inodeAlign)
	if pos&(blockSize-1) > blockSize-inodeSize {
		pos = roundUp(pos, blockSize)
	}
	n.pos, p.end = uint32(min(pos, maxIndex)), pos+size // put refuses more than that
	p.order = append(p.order, n)
}

// reserve gives n blocks of its own.
func (p *plan) reserve(n *inode, blocks int64) {
	n.start = uint32(min(p.blocks, maxIndex)) // put refuses more than that
	p.blocks += blocks
}

// dataLen is the bytes of a directory's entries or a symlink's target.
func (n *inode) dataLen() int64 {
	if n.isDir() {
		return n.dir.size
	}
	return int64(len(n.link()))
}

// putTail places a directory or symlink: its last partial block goes right
// behind the inode where both fit into one block and that wastes nothing.
func (p *plan) putTail(n *inode, fixed int64) {
	tail := n.dataLen() & (blockSize - 1)
	full := n.dataLen() >> blockBits
	if n.isSymlink() && full > 0 {
		tail = blockSize // the kernel reads long targets from blocks only
	}
	if fixed+tail <= blockSize && tail > 0 {
		pos := roundUp(p.end, inodeAlign)
		if pos&(blockSize-1)+fixed+tail > blockSize {
			pos = roundUp(pos, blockSize)
		}
		if wasted := pos - p.end; wasted+tail <= blockSize {
			n.layout = layoutInline
			p.end = pos
			p.place(n, fixed+tail)
			p.reserve(n, full)
			return
		}
	}
	n.layout = layoutPlain
	p.place(n, fixed)
	p.reserve(n, (n.dataLen()+blockSize-1)>>blockBits)
}

// xattrBytes is the size of the inode's attributes on disk.
func (n *inode) xattrBytes() int64 {
	size := int64(0)
	for x := range n.allXattrs {
		_, rest := splitXattr(x.name)
		size += roundUp(int64(xattrEntrySize+len(rest)+len(x.value)), 4)
	}
	if size > 0 {
		size += xattrHeaderSize
	}
	return size
}

// allXattrs yields the attributes as they are on disk, ours included.
func (n *inode) allXattrs(yield func(xattr) bool) {
	if n.implicit && !yield(xattr{xattrImplicit, "y"}) {
		return
	}
	if n.opaque && !yield(xattr{xattrOpaque, "y"}) {
		return
	}
	if n.whiteouts && !yield(xattr{xattrOrigin, ""}) {
		return
	}
	for _, x := range n.xattrs() {
		if !yield(x) {
			return
		}
	}
}

// measureDir finds the length of a sorted directory, the number of its links, and
// whether it holds whiteouts.
func (n *inode) measureDir() (links uint32) {
	links = 2
	used, full := int64(0), int64(0)
	for name, child := range n.dirents {
		size := int64(direntSize + len(name))
		if used+size > blockSize {
			full++
			used = 0
		}
		used += size
		n.whiteouts = n.whiteouts || child.isWhiteout()
		if child.isDir() && name != "." && name != ".." {
			links++
		}
	}
	n.dir.size = full*blockSize + used
	return links
}

// dirents yields what is in a directory as EROFS wants it: sorted, "." and ".." included.
func (n *inode) dirents(yield func(string, *inode) bool) {
	dots := [...]dirent{{".", n}, {"..", n.dir.parent}}
	next := 0
	for _, e := range n.dir.list {
		for ; next < len(dots) && dots[next].name < e.name; next++ {
			if !yield(dots[next].name, dots[next].node) {
				return
			}
		}
		if !yield(e.name, e.node) {
			return
		}
	}
	for ; next < len(dots); next++ {
		if !yield(dots[next].name, dots[next].node) {
			return
		}
	}
}

// measureChunks chooses the chunk size of a file with content: all of it in one
// chunk, but for sparse files, whose chunks must not span segments.
func (n *inode) measureChunks(name string) error {
	n.bits = chunkBits(n.size)
	if n.isSparse() {
		n.bits = sparseBits(n.rare.sparse, n.size)
	}
	if count := n.chunkCount(); count > maxIndex/chunkSize {
		return fmt.Errorf("entry %q: sparse file of %d bytes in %d pieces: %w", name, n.size, count, ErrLimit)
	}
	if n.isSparse() {
		n.rare.own = 0
		for c := range n.sparseChunks {
			if c.own {
				n.rare.own += n.chunkUnit() >> blockBits
			}
		}
	}
	return nil
}

// chunkUnit is the bytes of one chunk of a file with content.
func (n *inode) chunkUnit() int64  { return blockSize << n.bits }
func (n *inode) chunkCount() int64 { return (n.size-1)/n.chunkUnit() + 1 }

// ownBlocks is how many blocks of content are copied into the index.
func (n *inode) ownBlocks() int64 {
	if n.rare == nil {
		return 0
	}
	return n.rare.own
}

// chunkBits is the least b such that 512<<b holds size.
func chunkBits(size int64) uint8 {
	return uint8(min(bits.Len64(uint64(size-1)>>blockBits), maxChunkBits))
}

// sparseBits is the largest chunk on whose borders all segments begin and end,
// in the file as in the tar; at least one block.
func sparseBits(segments []segment, size int64) uint8 {
	most := chunkBits(size)
	edges := uint64(0)
	for _, s := range segments {
		edges |= uint64(s.off)
		if s.off+s.size < size {
			edges |= uint64(s.size)
		}
	}
	if edges == 0 {
		return most
	}
	return uint8(min(max(bits.TrailingZeros64(edges)-blockBits, 0), int(most)))
}

// sparseChunk is one chunk of a sparse file: a hole, in the tar at data, or own:
// content that is not on a block border of the tar, copied into the index.
type sparseChunk struct {
	off, data int64
	hole, own bool
}

// sparseChunks yields all chunks of a sparse file in order.
func (n *inode) sparseChunks(yield func(sparseChunk) bool) {
	unit := n.chunkUnit()
	rest := n.rare.sparse
	for off := int64(0); off < n.size; off += unit {
		for len(rest) > 0 && rest[0].off+rest[0].size <= off {
			rest = rest[1:]
		}
		c := sparseChunk{off: off}
		end := min(off+unit, n.size)
		switch {
		case len(rest) == 0 || rest[0].off >= end:
			c.hole = true
		default:
			s := rest[0]
			c.data = s.data + off - s.off
			c.own = s.off > off || s.off+s.size < end || c.data&(blockSize-1) != 0
		}
		if !yield(c) {
			return
		}
	}
}
