package layer

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Open opens a regular file or a directory; nothing is followed. A file is also
// an io.ReaderAt, io.Seeker and io.WriterTo, a directory an fs.ReadDirFile.
// What is open outlives Close of the layer.
func (l *Layer) Open(name string) (f fs.File, err error) {
	err = l.use("open", name, func(n diskInode) error {
		s, err := l.ix.stat(name, n)
		if err != nil {
			return err
		}
		switch n.mode() & unix.S_IFMT {
		case unix.S_IFDIR:
			list, err := l.readDir(name, n)
			if err != nil {
				return err
			}
			f = &openDir{stat: s, list: list}
			return nil
		case unix.S_IFREG:
			f, err = l.openFile(s, n)
			return err
		}
		return fmt.Errorf("neither a file nor a directory: %w", fs.ErrInvalid)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (l *Layer) openFile(s *Stat, n diskInode) (*openFile, error) {
	f := &openFile{l: l, stat: s, inode: n, bits: chunkBitsMask}
	if s.Size > 0 {
		if n.layout() != layoutChunks || n.union()&^chunkBitsMask != chunkIndexes {
			return nil, fmt.Errorf("index: file at %d: layout %d: %w", n.pos, n.layout(), ErrFormat)
		}
		f.bits = n.union()&chunkBitsMask + blockBits
		count := (s.Size-1)>>f.bits + 1
		if count > int64(len(l.ix.data)) {
			return nil, fmt.Errorf("index: file at %d: %d chunks: %w", n.pos, count, ErrFormat)
		}
		var err error
		if f.chunks, err = l.ix.bytes(roundUp(n.tail(), chunkSize), count*chunkSize); err != nil {
			return nil, err
		}
		if _, err := l.openTar(); err != nil {
			return nil, err
		}
	}
	return f, l.acquire()
}

// openFile is a regular file, open.
type openFile struct {
	l      *Layer
	stat   *Stat
	inode  diskInode
	bits   uint32 // log2 of a chunk
	chunks []byte // their addresses
	closed atomic.Bool
	busy   sync.RWMutex // keeps Close from unmapping under a ReadAt

	mu  sync.Mutex
	pos int64 // of Read, Seek and WriteTo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return fileInfo{f.stat}, nil }

func (f *openFile) Close() error {
	if f.closed.Swap(true) {
		return fs.ErrClosed
	}
	f.busy.Lock()
	defer f.busy.Unlock()
	f.l.release()
	return nil
}

func (f *openFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *openFile) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.stat.Size
	case io.SeekStart:
	default:
		offset = -1
	}
	if offset < 0 {
		return 0, f.error("seek", fs.ErrInvalid)
	}
	f.pos = offset
	return offset, nil
}

// WriteTo copies from the current position to the end.
func (f *openFile) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, min(max(f.stat.Size, 1), 256<<10))
	for {
		n, err := f.Read(buf)
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (f *openFile) ReadAt(p []byte, off int64) (n int, err error) {
	f.busy.RLock()
	defer f.busy.RUnlock()
	switch {
	case f.closed.Load():
		return 0, f.error("read", fs.ErrClosed)
	case off < 0:
		return 0, f.error("read", fs.ErrInvalid)
	}
	for n < len(p) && off < f.stat.Size {
		m := int(min(int64(len(p)-n), f.chunkEnd(off)-off, f.stat.Size-off))
		if err := f.readChunk(p[n:n+m], off); err != nil {
			return n, f.error("read", err)
		}
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// chunkEnd is where the chunk that holds off ends.
func (f *openFile) chunkEnd(off int64) int64 { return (off>>f.bits + 1) << f.bits }

// readChunk fills p from off; all of it is in one chunk.
func (f *openFile) readChunk(p []byte, off int64) error {
	addr := f.chunks[off>>f.bits*chunkSize:]
	device, block := binary.LittleEndian.Uint16(addr[2:]), binary.LittleEndian.Uint32(addr[4:])
	at := int64(block)<<blockBits + off&(1<<f.bits-1)
	switch {
	case block == nullBlock:
		clear(p)
		return nil
	case device == 0:
		own, err := f.l.ix.bytes(at, int64(len(p)))
		copy(p, own)
		return err
	}
	if _, err := f.l.tar.ReadAt(p, at); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%s is shorter than its index says: %w", tarFile, ErrTruncated)
		}
		return err
	}
	return nil
}

func (f *openFile) error(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.stat.Name, Err: err}
}

// openDir is a directory, open; its list was read at once.
type openDir struct {
	stat *Stat
	list []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return fileInfo{d.stat}, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.stat.Name, Err: fmt.Errorf("is a directory: %w", fs.ErrInvalid)}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		list := d.list
		d.list = nil
		return list, nil
	}
	if len(d.list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.list))
	list := d.list[:n:n]
	d.list = d.list[n:]
	return list, nil
}
