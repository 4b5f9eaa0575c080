package rootfs

import (
	"errors"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"

	"nacre/internal/layer"
)

// Difference yields the files of a layer that makes full of lower, whose layers are the bottom of
// full's: so what has the same inode number in both is the same.
func Difference(lower, full *FS) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		d := &differing{lower: lower, flattening: flattening{root: full, first: map[uint64]string{}, yield: yield}}
		d.dir(".")
	}
}

type differing struct {
	flattening
	lower   *FS
	pending []layer.File // directories on the way that are as they were, until something in them is not
}

// give yields f, after the directories it is in.
func (d *differing) give(f layer.File) bool {
	for _, p := range d.pending {
		if !d.yield(p, nil) {
			return false
		}
	}
	d.pending = d.pending[:0]
	return d.yield(f, nil)
}

// dir compares the directory name, which full has; false: enough.
func (d *differing) dir(name string) bool {
	was, err := listing(d.lower, name)
	if err == nil {
		var is map[string]*layer.Stat
		if is, err = listing(d.root, name); err == nil {
			return d.entries(name, was, is)
		}
	}
	return d.yield(layer.File{}, err)
}

func (d *differing) entries(name string, was, is map[string]*layer.Stat) bool {
	names := map[string]*layer.Stat{}
	maps.Copy(names, was) // nil for a new directory
	maps.Copy(names, is)
	for _, base := range slices.Sorted(maps.Keys(names)) {
		child, old, now := path.Join(name, base), was[base], is[base]
		if now == nil {
			if !d.give(layer.File{Entry: layer.Entry{Name: child, Whiteout: true}}) {
				return false
			}
			continue
		}
		same := old != nil && old.Ino == now.Ino
		f := d.file(child, now)
		if !now.FileMode().IsDir() {
			if !same && !d.give(f) {
				return false
			}
			continue
		}
		depth := len(d.pending)
		if same {
			d.pending = append(d.pending, f)
		} else if !d.give(f) {
			return false
		}
		if !d.dir(child) {
			return false
		}
		d.pending = d.pending[:min(depth, len(d.pending))]
	}
	return true
}

// listing is what is in a directory, by name; nothing where there is no such directory.
func listing(f *FS, name string) (map[string]*layer.Stat, error) {
	info, err := f.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(name)
	if err != nil {
		return nil, err
	}
	m := make(map[string]*layer.Stat, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		m[e.Name()] = info.Sys().(*layer.Stat)
	}
	return m, nil
}
