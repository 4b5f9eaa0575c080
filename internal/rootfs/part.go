package rootfs

import (
	"context"
	"io/fs"
	"iter"
	"path"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// UnpackPart writes what f has in its directory name into dir, which exists and is empty, as Unpack does with a layer: plain files, as nothing
// in f is a mark or whiteout. dir becomes that directory. Sockets are left out.
func UnpackPart(ctx context.Context, f *FS, name, dir string, o UnpackOptions) error {
	return unpack(ctx, part{f, name}, dir, o)
}

// part is a directory of a root, with what is in it, listed and opened as a layer is.
type part struct {
	fs  *FS
	top string
}

func (p part) Open(name string) (fs.File, error) { return p.fs.Open(path.Join(p.top, name)) }

// All lists it, in canonical order, hard links as such as far as both names are in it.
func (p part) All() iter.Seq2[*layer.Stat, error] {
	return func(yield func(*layer.Stat, error) bool) {
		w := partWalk{part: p, yield: yield, first: map[uint64]string{}}
		info, err := p.fs.Lstat(p.top)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "unpack", Path: p.top, Err: unix.ENOTDIR}
		}
		if err != nil {
			yield(nil, err)
			return
		}
		w.walk(".", info)
	}
}

type partWalk struct {
	part
	yield func(*layer.Stat, error) bool
	first map[uint64]string // first names of files that have several
}

// walk lists name, relative to the top, and what is below; false to stop.
func (w *partWalk) walk(name string, info fs.FileInfo) bool {
	st := *info.Sys().(*layer.Stat)
	st.Name, st.Hard = name, false
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return true
	}
	if st.Nlink > 1 && !info.IsDir() {
		if known, ok := w.first[st.Ino]; ok {
			st.Hard, st.Link = true, known
		} else {
			w.first[st.Ino] = name
		}
	}
	if !w.yield(&st, nil) {
		return false
	}
	if !info.IsDir() {
		return true
	}
	entries, err := w.fs.ReadDir(path.Join(w.top, name))
	if err != nil {
		w.yield(nil, err)
		return false
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			w.yield(nil, err)
			return false
		}
		if !w.walk(path.Join(name, e.Name()), info) {
			return false
		}
	}
	return true
}
