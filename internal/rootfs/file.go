package rootfs

import (
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Open opens what name leads to, symlinks followed, for reading. Regular files have
// what layer's have besides: io.ReaderAt, io.Seeker, io.WriterTo.
func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.follow("open", name)
	if err != nil {
		return nil, err
	}
	switch n.stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return &dirFile{fs: f, node: n, info: n.info(name)}, nil
	case unix.S_IFREG:
		file, err := f.layers[n.layer].Open(n.stat.Name)
		if err != nil {
			return nil, pathError("open", name, err)
		}
		info := n.info(name)
		if c, ok := file.(content); ok {
			return &regular{c, info}, nil
		}
		return &plain{file, info}, nil
	}
	// Devices, pipes and sockets are names here; there is nobody at the other end.
	return nil, &fs.PathError{Op: "open", Path: name, Err: errNoContent}
}

var errNoContent = errors.New("not a regular file or directory")

// content is what layer's regular files are.
type content interface {
	fs.File
	io.ReaderAt
	io.Seeker
	io.WriterTo
}

type regular struct {
	content
	info fs.FileInfo
}

func (r *regular) Stat() (fs.FileInfo, error) { return r.info, nil }

type plain struct {
	fs.File
	info fs.FileInfo
}

func (p *plain) Stat() (fs.FileInfo, error) { return p.info, nil }

// dirFile is an open directory.
type dirFile struct {
	fs     *FS
	node   *node
	info   fs.FileInfo
	list   []fs.DirEntry
	listed bool
	closed bool
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return d.info, nil }

func (d *dirFile) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.node.stat.Name, Err: unix.EISDIR}
}

func (d *dirFile) Close() error {
	if d.closed {
		return &fs.PathError{Op: "close", Path: d.node.stat.Name, Err: fs.ErrClosed}
	}
	d.closed = true
	return nil
}

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, &fs.PathError{Op: "readdir", Path: d.node.stat.Name, Err: fs.ErrClosed}
	}
	if !d.listed {
		list, err := d.fs.list(d.node)
		if err != nil {
			return nil, pathError("readdir", d.node.stat.Name, err)
		}
		d.list, d.listed = list, true
	}
	take := len(d.list)
	if n > 0 {
		if take == 0 {
			return nil, io.EOF
		}
		take = min(n, take)
	}
	list := d.list[:take:take]
	d.list = d.list[take:]
	return list, nil
}
