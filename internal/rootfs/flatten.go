package rootfs

import (
	"io"
	"iter"
	"path"

	"nacre/internal/layer"

	"golang.org/x/sys/unix"
)

// Flatten yields all of root as one layer would have it, hard links kept, in canonical order.
func Flatten(root *FS) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		f := flattening{root: root, first: map[uint64]string{}, yield: yield}
		f.dir(".")
	}
}

type flattening struct {
	root  *FS
	first map[uint64]string // by inode, of files with several names
	yield func(layer.File, error) bool
}

// dir yields what is in the directory name; false: enough.
func (f *flattening) dir(name string) bool {
	list, err := f.root.ReadDir(name)
	if err != nil {
		return f.yield(layer.File{}, err)
	}
	for _, d := range list {
		info, err := d.Info()
		if err != nil {
			return f.yield(layer.File{}, err)
		}
		st := info.Sys().(*layer.Stat)
		child := path.Join(name, d.Name())
		if !f.yield(f.file(child, st), nil) {
			return false
		}
		if info.IsDir() && !f.dir(child) {
			return false
		}
	}
	return true
}

func (f *flattening) file(name string, st *layer.Stat) layer.File {
	out := layer.File{Entry: st.Entry}
	out.Name, out.Hard, out.Opaque, out.Whiteout = name, false, false, false
	regular := st.Mode&unix.S_IFMT == unix.S_IFREG
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if first, ok := f.first[st.Ino]; ok {
			out.Hard, out.Link, out.Size = true, first, 0
			return out
		}
		f.first[st.Ino] = name
	}
	if regular && st.Size > 0 {
		out.Open = func() (io.ReadCloser, error) { return f.root.Open(name) }
	}
	return out
}
