package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// index reads an index as this package writes it; other EROFS images are
// refused. All offsets are checked: a damaged index gives ErrFormat, not a crash.
type index struct {
	data    []byte
	root    int64 // offset of the root inode
	implied bool
	tag     string
}

func parseIndex(data []byte) (*index, error) {
	ix := &index{data: data}
	sb, err := ix.bytes(superOffset, superSize)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if le.Uint32(sb) != superMagic || sb[12] != blockBits || sb[13] != 0 {
		return nil, fmt.Errorf("not an index: %w", ErrFormat)
	}
	volume, _, _ := strings.Cut(string(sb[64:80]), "\x00")
	if volume != volumePlain && volume != volumeImplicit || le.Uint32(sb[80:])&^incompatUnderstood != 0 {
		return nil, fmt.Errorf("not an index of this version: %w", ErrFormat)
	}
	if want := int64(le.Uint32(sb[36:])) << blockBits; want != int64(len(data)) {
		return nil, fmt.Errorf("index of %d bytes should have %d: %w", len(data), want, ErrFormat)
	}
	ix.root = int64(le.Uint16(sb[14:])) * inodeAlign
	ix.implied = volume == volumeImplicit
	if le.Uint16(sb[86:]) == 1 {
		slot, err := ix.bytes(superOffset+superSize, slotSize)
		if err != nil {
			return nil, err
		}
		ix.tag = string(slot[:64])
	}
	if n, err := ix.inode(ix.root); err != nil || !n.isDir() {
		return nil, fmt.Errorf("index without a root: %w", ErrFormat)
	}
	return ix, nil
}

func (ix *index) bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > int64(len(ix.data)) || n > int64(len(ix.data))-off {
		return nil, fmt.Errorf("index refers to %d bytes at %d, beyond its end: %w", n, off, ErrFormat)
	}
	return ix.data[off : off+n : off+n], nil
}

// diskInode is an inode as it lies in the index.
type diskInode struct {
	pos      int64
	head     []byte // inodeSize bytes
	xattrLen int64
}

func (n diskInode) layout() int      { return int(n.head[0]>>formatLayoutShift) & formatLayoutMask }
func (n diskInode) mode() uint32     { return uint32(binary.LittleEndian.Uint16(n.head[4:])) }
func (n diskInode) size() int64      { return int64(binary.LittleEndian.Uint64(n.head[8:])) }
func (n diskInode) union() uint32    { return binary.LittleEndian.Uint32(n.head[16:]) }
func (n diskInode) links() uint32    { return binary.LittleEndian.Uint32(n.head[44:]) }
func (n diskInode) nid() uint64      { return uint64(n.pos / inodeAlign) }
func (n diskInode) isDir() bool      { return n.mode()&unix.S_IFMT == unix.S_IFDIR }
func (n diskInode) isSymlink() bool  { return n.mode()&unix.S_IFMT == unix.S_IFLNK }
func (n diskInode) isWhiteout() bool { return n.mode()&unix.S_IFMT == unix.S_IFCHR && n.union() == 0 }
func (n diskInode) tail() int64      { return n.pos + inodeSize + n.xattrLen }
func (n diskInode) modTime() time.Time {
	return time.Unix(int64(binary.LittleEndian.Uint64(n.head[32:])), int64(binary.LittleEndian.Uint32(n.head[40:])))
}

func (ix *index) inode(pos int64) (diskInode, error) {
	head, err := ix.bytes(pos, inodeSize)
	if err != nil {
		return diskInode{}, err
	}
	n := diskInode{pos: pos, head: head}
	if head[0]&1 != formatExtended || n.size() < 0 {
		return diskInode{}, fmt.Errorf("index: inode at %d: %w", pos, ErrFormat)
	}
	if count := int64(binary.LittleEndian.Uint16(head[2:])); count > 0 {
		n.xattrLen = xattrHeaderSize + 4*(count-1)
	}
	return n, nil
}

// dirData returns the entries of a directory, or a symlink's target, up to
// 512 bytes from off on. That is a block of a directory.
func (ix *index) dirData(n diskInode, off int64) ([]byte, error) {
	size := min(n.size()-off, blockSize)
	start := int64(n.union())<<blockBits + off
	if n.layout() == layoutInline && off == n.size()&^(blockSize-1) {
		start = n.tail()
	} else if n.layout() != layoutInline && n.layout() != layoutPlain {
		return nil, fmt.Errorf("index: directory at %d: layout %d: %w", n.pos, n.layout(), ErrFormat)
	}
	return ix.bytes(start, size)
}

// dirBlock is one block of a directory, its records checked by those who use them.
type dirBlock struct {
	data  []byte
	count int
}

func (ix *index) dirBlock(n diskInode, i int64) (dirBlock, error) {
	data, err := ix.dirData(n, i<<blockBits)
	if err != nil {
		return dirBlock{}, err
	}
	if len(data) < direntSize {
		return dirBlock{}, fmt.Errorf("index: directory at %d: %w", n.pos, ErrFormat)
	}
	first := int(binary.LittleEndian.Uint16(data[8:]))
	if first < direntSize || first%direntSize != 0 || first > len(data) {
		return dirBlock{}, fmt.Errorf("index: directory at %d: %w", n.pos, ErrFormat)
	}
	return dirBlock{data, first / direntSize}, nil
}

// name returns where in data the name of record i is.
func (b dirBlock) name(i int) (from, to int) {
	from, to = int(binary.LittleEndian.Uint16(b.data[i*direntSize+8:])), len(b.data)
	if i+1 < b.count {
		to = int(binary.LittleEndian.Uint16(b.data[(i+1)*direntSize+8:]))
	} else if from < to {
		if nul := bytes.IndexByte(b.data[from:], 0); nul >= 0 {
			to = from + nul
		}
	}
	if from > to || to > len(b.data) {
		return 0, 0
	}
	return from, to
}

func (b dirBlock) inode(i int) int64 {
	return int64(binary.LittleEndian.Uint64(b.data[i*direntSize:])&(1<<48-1)) * inodeAlign
}

func (b dirBlock) fileType(i int) byte { return b.data[i*direntSize+10] }

func dirBlocks(n diskInode) int64 { return (n.size() + blockSize - 1) >> blockBits }

// find looks name up in a directory, as the kernel does: the block first, then
// the record. A missing name gives ok false.
func (ix *index) find(dir diskInode, name string) (n diskInode, ok bool, err error) {
	blocks := int(dirBlocks(dir))
	at := sort.Search(blocks, func(i int) bool {
		b, berr := ix.dirBlock(dir, int64(i))
		if berr != nil {
			err = berr
			return true
		}
		from, to := b.name(0)
		return string(b.data[from:to]) > name
	})
	if err != nil || at == 0 {
		return n, false, err
	}
	b, err := ix.dirBlock(dir, int64(at-1))
	if err != nil {
		return n, false, err
	}
	i := sort.Search(b.count, func(i int) bool {
		from, to := b.name(i)
		return string(b.data[from:to]) >= name
	})
	if i == b.count {
		return n, false, nil
	}
	if from, to := b.name(i); string(b.data[from:to]) != name {
		return n, false, nil
	}
	n, err = ix.inode(b.inode(i))
	return n, err == nil, err
}

// walk finds the inode of a clean name.
func (ix *index) walk(name string) (n diskInode, ok bool, err error) {
	if n, err = ix.inode(ix.root); err != nil {
		return n, false, err
	}
	if name == "." {
		return n, true, nil
	}
	for more := true; more; {
		var part string
		part, name, more = strings.Cut(name, "/")
		if !n.isDir() {
			return n, false, nil
		}
		if n, ok, err = ix.find(n, part); !ok || err != nil {
			return n, false, err
		}
	}
	return n, true, nil
}

// link returns a symlink's target.
func (ix *index) link(n diskInode) (string, error) {
	if n.size() > maxName {
		return "", fmt.Errorf("index: symlink of %d bytes: %w", n.size(), ErrFormat)
	}
	var b strings.Builder
	for off := int64(0); off < n.size(); off += blockSize {
		data, err := ix.dirData(n, off)
		if err != nil {
			return "", err
		}
		b.Write(data)
	}
	return b.String(), nil
}

// xattrs calls f for every attribute of n.
func (ix *index) xattrs(n diskInode, f func(name, value string)) error {
	if n.xattrLen == 0 {
		return nil
	}
	b, err := ix.bytes(n.pos+inodeSize, n.xattrLen)
	if err != nil {
		return err
	}
	for b = b[xattrHeaderSize:]; len(b) >= xattrEntrySize; {
		nameLen, prefix := int(b[0]), int(b[1])
		valueLen := int(binary.LittleEndian.Uint16(b[2:]))
		end := xattrEntrySize + nameLen + valueLen
		if end > len(b) || prefix >= len(xattrPrefixes) {
			return fmt.Errorf("index: attributes of inode at %d: %w", n.pos, ErrFormat)
		}
		name := b[xattrEntrySize : xattrEntrySize+nameLen]
		f(xattrPrefixes[prefix]+string(name), string(b[xattrEntrySize+nameLen:end]))
		b = b[min(int(roundUp(int64(end), 4)), len(b)):]
	}
	return nil
}

// stat makes a Stat of n under that name.
func (ix *index) stat(name string, n diskInode) (*Stat, error) {
	le := binary.LittleEndian
	s := &Stat{Ino: n.nid(), Nlink: n.links()}
	s.Name, s.Mode = name, n.mode()
	if n.isWhiteout() {
		s.Whiteout = true
		return s, nil
	}
	s.UID, s.GID, s.ModTime = int(le.Uint32(n.head[24:])), int(le.Uint32(n.head[28:])), n.modTime()
	var err error
	switch n.mode() & unix.S_IFMT {
	case unix.S_IFREG:
		s.Size = n.size()
	case unix.S_IFLNK:
		s.Link, err = ix.link(n)
	case unix.S_IFCHR, unix.S_IFBLK:
		s.Major, s.Minor = decodeDev(n.union())
	}
	if err != nil {
		return nil, err
	}
	return s, ix.xattrs(n, func(name, value string) {
		switch {
		case name == xattrOpaque && n.isDir():
			s.Opaque = true
		case name == xattrOrigin && n.isDir():
			// for overlay alone
		case name == xattrImplicit:
			s.Implicit = true
		default:
			if s.Xattrs == nil {
				s.Xattrs = make(map[string]string)
			}
			s.Xattrs[name] = value
		}
	})
}
