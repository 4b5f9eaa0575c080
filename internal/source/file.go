package source

import (
	"crypto/sha256"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Open opens name, following symlinks inside the tree. For a regular file the result is also an
// io.ReaderAt and io.Seeker. Whoever reads it to its size or its end gets either the
// content that was there when the tree was walked or an error that is ErrChanged.
func (t *Tree) Open(name string) (fs.File, error) {
	real, n, err := t.resolve("open", name)
	if err != nil {
		return nil, err
	}
	return t.openNode(real, n)
}

func (t *Tree) openNode(name string, n *node) (fs.File, error) {
	if n.isDir() {
		return &openDir{t: t, name: name, n: n}, nil
	}
	if !n.isRegular() {
		return nil, pathError("open", name, errNotRegular)
	}
	fd, err := t.open(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := &file{t: t, name: name, n: n, fd: fd}
	if err := f.check(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return f, nil
}

// file is an open regular file.
type file struct {
	t    *Tree
	name string
	n    *node
	fd   int
	off  int64 // of Read and Seek
	// ctime of the file as it was opened: not always the one of the walk.
	ctime int64
}

// check compares the file, just opened, with what the walk saw.
func (f *file) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return pathError("stat", f.name, err)
	}
	if !f.n.sameContent(&st) {
		return pathError("open", f.name, ErrChanged)
	}
	f.ctime = st.Ctim.Nano()
	if f.ctime == f.n.ctime || !f.n.has(hasDigest) {
		return nil
	}
	// Its change time has moved and nothing else: a new hard link or a chmod, or an edit
	// that set the old time again. The content tells.
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, st.Size)); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != f.n.digest {
		return pathError("open", f.name, ErrChanged)
	}
	return nil
}

// unchanged says whether the file still is what was opened.
func (f *file) unchanged() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return pathError("stat", f.name, err)
	}
	if !f.n.sameContent(&st) || st.Ctim.Nano() != f.ctime {
		return pathError("read", f.name, ErrChanged)
	}
	return nil
}

func (f *file) Stat() (fs.FileInfo, error) { return f.t.info(f.n, f.name) }

func (f *file) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.pread(p, f.off)
	f.off += int64(n)
	if err != nil {
		return n, err
	}
	if n == 0 && f.off < f.n.size {
		return 0, pathError("read", f.name, ErrChanged)
	}
	if f.off >= f.n.size { // the last byte, or none: judge what was read
		if err := f.unchanged(); err != nil {
			return 0, err
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// ReadAt does not look for changes but beyond the end.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("read", f.name, fs.ErrInvalid)
	}
	done := 0
	for done < len(p) {
		n, err := f.pread(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			if off+int64(done) < f.n.size {
				return done, pathError("read", f.name, ErrChanged)
			}
			return done, io.EOF
		}
	}
	return done, nil
}

func (f *file) pread(p []byte, off int64) (int, error) {
	if f.fd < 0 {
		return 0, pathError("read", f.name, fs.ErrClosed)
	}
	for {
		n, err := unix.Pread(f.fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, pathError("read", f.name, err)
		}
		return n, nil
	}
}

func (f *file) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += f.n.size
	}
	if off < 0 || whence < 0 || whence > 2 {
		return 0, pathError("seek", f.name, fs.ErrInvalid)
	}
	f.off = off
	return off, nil
}

func (f *file) Close() error {
	if f.fd < 0 {
		return pathError("close", f.name, fs.ErrClosed)
	}
	err := unix.Close(f.fd)
	f.fd = -1
	return err
}

// openDir is an open directory.
type openDir struct {
	t    *Tree
	name string
	n    *node
	off  int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.t.info(d.n, d.name) }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, pathError("read", d.name, unix.EISDIR)
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	all, err := d.t.ReadDir(d.name)
	if err != nil {
		return nil, err
	}
	all = all[d.off:]
	if n > 0 && len(all) == 0 {
		return nil, io.EOF
	}
	if n > 0 && len(all) > n {
		all = all[:n]
	}
	d.off += len(all)
	return all, nil
}
