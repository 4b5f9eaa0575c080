package layer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

const (
	tarFile   = "layer.tar"
	indexFile = "layer.erofs"
)

// WriteIndex writes a stand-alone EROFS of entries without content to path:
// directories, symlinks, devices, whiteouts. It mounts without any device.
func WriteIndex(path string, entries iter.Seq2[Entry, error]) error {
	t := newTree()
	defer t.done()
	for e, err := range entries {
		if err != nil {
			return err
		}
		if err := t.addEntry(&e); err != nil {
			return err
		}
	}
	p, err := t.layOut(false)
	if err != nil {
		return err
	}
	return p.writeFile(path, nil)
}

// addEntry adds an entry that comes without content.
func (t *tree) addEntry(e *Entry) error {
	if err := checkClean(e.Name); err != nil {
		return err
	}
	switch {
	case e.Whiteout && e.Name == ".":
		return fmt.Errorf("entry %q: whiteout of the root: %w", e.Name, ErrFormat)
	case e.Whiteout:
		return t.addWhiteout(e.Name)
	case e.Hard:
		_, err := t.addLink(e.Name, e.Link)
		return err
	}
	n, err := newInode(e)
	if err != nil {
		return err
	}
	return t.add(e.Name, n)
}

// writeFile writes the index to path, which it truncates. tar is read for
// sparse content that has to be copied.
func (p *plan) writeFile(path string, tar io.ReaderAt) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := indexWriter{buf: bufio.NewWriterSize(f, p.bufferSize()), tar: tar}
	if err = w.write(p); err == nil {
		err = w.buf.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

// bufferSize is what an index of this many inodes may take, at most 256 KiB.
func (p *plan) bufferSize() int { return min(4<<10+len(p.order)<<8, 1<<18) }

// indexWriter writes a plan from the first byte to the last.
type indexWriter struct {
	buf     *bufio.Writer
	tar     io.ReaderAt
	pos     int64
	scratch []byte
}

var zeros [blockSize]byte

func (w *indexWriter) bytes(b []byte) {
	w.pos += int64(len(b))
	w.buf.Write(b) // errors stick, Flush reports them
}

func (w *indexWriter) padTo(pos int64) {
	for w.pos < pos {
		w.bytes(zeros[:min(pos-w.pos, blockSize)])
	}
}

func (w *indexWriter) write(p *plan) error {
	w.bytes(p.super.encode())
	for i, n := range p.order {
		w.padTo(int64(n.pos))
		w.inode(n, uint32(i+1))
	}
	w.padTo(roundUp(w.pos, blockSize))
	for _, n := range p.order {
		if err := w.ownBlocks(n); err != nil {
			return err
		}
	}
	w.padTo(int64(p.super.blocks) << blockBits)
	return nil
}

// inode writes n, which has the running number ino.
func (w *indexWriter) inode(n *inode, ino uint32) {
	var b [inodeSize]byte
	le := binary.LittleEndian
	le.PutUint16(b[0:], formatExtended|uint16(n.layout)<<formatLayoutShift)
	xattrLen := n.xattrBytes()
	if xattrLen > 0 {
		le.PutUint16(b[2:], uint16((xattrLen-xattrHeaderSize)/4+1))
	}
	le.PutUint16(b[4:], uint16(n.mode))
	size, data := uint64(n.size), uint32(0)
	switch {
	case n.isWhiteout():
		le.PutUint16(b[4:], unix.S_IFCHR) // 0:0, as overlay has it
	case n.isDir(), n.isSymlink():
		size, data = uint64(n.dataLen()), n.start
	case n.layout == layoutChunks:
		data = uint32(n.bits) | chunkIndexes
	default:
		data = n.rdev
	}
	le.PutUint64(b[8:], size)
	le.PutUint32(b[16:], data)
	le.PutUint32(b[20:], ino)
	le.PutUint32(b[24:], n.uid)
	le.PutUint32(b[28:], n.gid)
	le.PutUint64(b[32:], uint64(n.sec))
	le.PutUint32(b[40:], n.nsec)
	le.PutUint32(b[44:], n.links)
	w.bytes(b[:])
	if xattrLen > 0 {
		w.xattrs(n)
	}
	switch n.layout {
	case layoutChunks:
		w.padTo(roundUp(w.pos, chunkSize))
		w.chunks(n)
	case layoutInline:
		w.eachBlock(n, func(b []byte, tail bool) {
			if tail {
				w.bytes(b)
			}
		})
	}
}

func (w *indexWriter) xattrs(n *inode) {
	var head [xattrHeaderSize]byte
	w.bytes(head[:])
	for x := range n.allXattrs {
		index, rest := splitXattr(x.name)
		w.bytes([]byte{byte(len(rest)), index, byte(len(x.value)), byte(len(x.value) >> 8)})
		w.bytes([]byte(rest))
		w.bytes([]byte(x.value))
		w.padTo(roundUp(w.pos, 4))
	}
}

func (w *indexWriter) chunks(n *inode) {
	per := n.chunkUnit() >> blockBits
	if !n.isSparse() {
		for i := range n.chunkCount() {
			w.chunk(1, n.off>>blockBits+i*per)
		}
		return
	}
	own := int64(n.start)
	for c := range n.sparseChunks {
		switch {
		case c.hole:
			w.chunk(0, nullBlock)
		case c.own:
			w.chunk(0, own)
			own += per
		default:
			w.chunk(1, c.data>>blockBits)
		}
	}
}

func (w *indexWriter) chunk(device uint16, block int64) {
	var b [chunkSize]byte
	binary.LittleEndian.PutUint16(b[2:], device)
	binary.LittleEndian.PutUint32(b[4:], uint32(block))
	w.bytes(b[:])
}

// eachBlock calls f for every block of a directory or symlink, the tail being what
// is left for a last one. Directories may be too large to be made as a whole.
func (w *indexWriter) eachBlock(n *inode, f func(b []byte, tail bool)) {
	if n.isSymlink() {
		link := n.link()
		for ; len(link) >= blockSize; link = link[blockSize:] {
			f([]byte(link[:blockSize]), false)
		}
		if link != "" {
			f([]byte(link), true)
		}
		return
	}
	block := make([]dirent, 0, blockSize/direntSize)
	used, left := 0, n.dataLen()
	emit := func() {
		w.scratch = appendDirBlock(w.scratch[:0], block)
		if left > blockSize {
			w.scratch = append(w.scratch, zeros[:blockSize-used]...)
		}
		left -= int64(len(w.scratch))
		f(w.scratch, len(w.scratch) < blockSize)
		block, used = block[:0], 0
	}
	for name, node := range n.dirents {
		if used+direntSize+len(name) > blockSize {
			emit()
		}
		block = append(block, dirent{name, node})
		used += direntSize + len(name)
	}
	emit()
}

// appendDirBlock appends one block of a directory: records, then names.
func appendDirBlock(b []byte, block []dirent) []byte {
	off := len(block) * direntSize
	le := binary.LittleEndian
	for _, e := range block {
		b = le.AppendUint64(b, uint64(e.node.pos/inodeAlign))
		b = le.AppendUint16(b, uint16(off))
		b = append(b, fileType(e.node.mode), 0)
		off += len(e.name)
	}
	for _, e := range block {
		b = append(b, e.name...)
	}
	return b
}

func fileType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return fileTypeReg
	case unix.S_IFDIR:
		return fileTypeDir
	case unix.S_IFBLK:
		return fileTypeBlk
	case unix.S_IFIFO:
		return fileTypeFifo
	case unix.S_IFLNK:
		return fileTypeSymlink
	}
	return fileTypeChr // whiteouts too
}

// ownBlocks writes the blocks of n that are not beside its inode.
func (w *indexWriter) ownBlocks(n *inode) error {
	switch {
	case n.isDir() || n.isSymlink():
		w.eachBlock(n, func(b []byte, tail bool) {
			if tail && n.layout == layoutInline {
				return // it is beside the inode
			}
			w.bytes(b)
			w.padTo(roundUp(w.pos, blockSize))
		})
	case n.ownBlocks() > 0:
		buf := make([]byte, n.chunkUnit())
		for c := range n.sparseChunks {
			if !c.own {
				continue
			}
			clear(buf)
			if err := readSegments(w.tar, n.rare.sparse, buf, c.off); err != nil {
				return err
			}
			w.bytes(buf)
		}
	}
	return nil
}

// readSegments fills buf, which is zero, with the content of a sparse file from off.
func readSegments(tar io.ReaderAt, segments []segment, buf []byte, off int64) error {
	end := off + int64(len(buf))
	for _, s := range segments {
		from, to := max(off, s.off), min(end, s.off+s.size)
		if from >= to {
			continue
		}
		if _, err := tar.ReadAt(buf[from-off:to-off], s.data+from-s.off); err != nil {
			return fmt.Errorf("read sparse content: %w", err)
		}
	}
	return nil
}
