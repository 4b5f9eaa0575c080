package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"nacre/internal/rootfs"

	"github.com/rogpeppe/go-internal/diff"
)

// maxDiffed is how large a file may be that is shown line by line: it is in memory then.
const maxDiffed = 8 << 20

// contents shows what differs in the files that --content names.
func (d *differing) contents() error {
	a, b, err := d.roots()
	if err != nil {
		return err
	}
	for _, name := range d.f.content {
		if err := d.content(a, b, strings.TrimPrefix(path.Clean("/"+name), "/")); err != nil {
			return err
		}
	}
	return nil
}

func (d *differing) content(a, b *rootfs.FS, name string) error {
	was, inA, err := d.text(a, d.a, name)
	if err != nil {
		return err
	}
	is, inB, err := d.text(b, d.b, name)
	if err != nil {
		return err
	}
	if !inA && !inB {
		return fmt.Errorf("/%s: neither %s nor %s has it", name, d.a.name, d.b.name)
	}
	if inA == inB && bytes.Equal(was.data, is.data) && was.size == is.size && !was.large {
		return nil
	}
	first, second := "a/"+name, "b/"+name
	if !inA {
		first = "/dev/null"
	}
	if !inB {
		second = "/dev/null"
	}
	w := d.ed.a.stdout
	switch {
	case was.large || is.large:
		if inA && inB {
			if same, err := sameContent(a, b, name, was, is); err != nil || same {
				return err
			}
		}
		_, err = fmt.Fprintf(w, "%s and %s differ, and are too large to be shown line by line\n", first, second)
		d.differs = true
		return err
	case isBinary(was.data) || isBinary(is.data):
		_, err = fmt.Fprintf(w, "Binary files %s and %s differ\n", first, second)
	default:
		_, err = w.Write(diff.Diff(first, was.data, second, is.data))
	}
	d.differs = true
	return err
}

// content is a file that may be shown: all of it, unless it is large.
type content struct {
	data  []byte
	size  int64
	large bool
}

// text reads what a root has under a name, symlinks followed.
func (d *differing) text(root *rootfs.FS, s side, name string) (t content, ok bool, err error) {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return t, false, nil
	}
	if err != nil {
		return t, false, fmt.Errorf("%s: %w", s.name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "show", Path: "/" + name, Err: errors.New("it is not a regular file")}
	}
	if err != nil {
		return t, false, fmt.Errorf("%s: %w", s.name, err)
	}
	t.size = info.Size()
	if t.large = t.size > maxDiffed; t.large {
		return t, true, nil
	}
	t.data, err = io.ReadAll(f)
	return t, true, err
}

// sameContent compares files that are not kept in memory.
func sameContent(a, b *rootfs.FS, name string, was, is content) (bool, error) {
	if was.size != is.size {
		return false, nil
	}
	fa, err := a.Open(name)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := b.Open(name)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(fa, x)
		m, err2 := io.ReadFull(fb, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return true, nil
		}
		if err = errors.Join(err, err2); err != nil {
			return false, err
		}
	}
}

// isBinary is what git goes by.
func isBinary(data []byte) bool { return bytes.IndexByte(data[:min(len(data), 8000)], 0) >= 0 }
