package rootfs

import (
	"io/fs"

	"nacre/internal/layer"
)

// Entry describes what has a name, following no symlink, not even on the way to it; nil where there is nothing.
func (f *FS) Entry(name string) (*layer.Stat, error) {
	if !valid(name) {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrInvalid}
	}
	n, err := f.lookup(name)
	if err != nil || n == nil {
		return nil, err
	}
	return n.stat, nil
}

// Within tells whether all that shows in the directory name, and below, is of the lowest n layers.
func (f *FS) Within(name string, n int) bool {
	d, err := f.lookup(name)
	if err != nil || d == nil || d.parts == nil {
		return false
	}
	return d.parts[0] < n // the topmost comes first
}

// LayerOf is the index of the layer that an entry of an FS is of, from the bottom.
func LayerOf(st *layer.Stat) int { return int(st.Ino >> inoBits) }
