package build

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
)

// squash makes one layer of all that the build put over its base image, and history tell so.
func (s *solver) squash(ctx context.Context, last *root, cfg *image.Config, kept int) ([]digest.Digest, error) {
	below := baseOf(last)
	if len(last.layers) == len(below) {
		return last.layers, nil
	}
	out, err := s.squashed(ctx, below, last.layers)
	if err != nil {
		return nil, err
	}
	for i := kept; i < len(cfg.History); i++ {
		cfg.History[i].EmptyLayer = true
	}
	cfg.History = append(cfg.History, image.History{Created: cfg.Created, Comment: "layers squashed into one"})
	return append(below[:len(below):len(below)], out.DiffID), nil
}

// baseOf lists the layers of the base image that a root began with.
func baseOf(r *root) []digest.Digest {
	for r != nil && r.parent != nil {
		r = r.parent
	}
	if r != nil && r.out.DiffID == "" {
		return r.layers
	}
	return nil
}

// squashed is the layer that makes of the root below what all layers make of it.
func (s *solver) squashed(ctx context.Context, below, all []digest.Digest) (cache.Output, error) {
	h := cache.NewHash("squash/1", "squash")
	for i, d := range all {
		if i == len(below) {
			h.Add("over", "")
		}
		h.Add("layer", d.String())
	}
	rec := h.Sum()
	out, ok, err := s.Cache.Get(ctx, rec.Key)
	if err == nil && ok {
		err = s.layers.Hold(ctx, out.DiffID)
	}
	if ok && err == nil || err != nil && !errors.Is(err, registry.ErrAbsent) {
		return out, err
	}
	lower, err := s.rootFS(ctx, below)
	if err != nil {
		return out, err
	}
	full, err := s.rootFS(ctx, all)
	if err != nil {
		return out, err
	}
	info, err := s.Store.MakeLayer(ctx, s.lease, func(dir string) (layer.Info, error) {
		return layer.Write(ctx, dir, difference(lower, full))
	})
	if err != nil {
		return out, err
	}
	out = cache.Output{DiffID: info.DiffID, Content: info.Content, Created: s.now(), Size: info.FileBytes}
	return out, s.Cache.Put(ctx, rec, out)
}

// difference yields the files of a layer that makes full of lower, whose layers are the bottom of
// full's: so what has the same inode number in both is the same.
func difference(lower, full *rootfs.FS) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		d := &differing{lower: lower, flattening: flattening{root: full, first: map[uint64]string{}, yield: yield}}
		d.dir(".")
	}
}

type differing struct {
	flattening
	lower   *rootfs.FS
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
	was, err := list(d.lower, name)
	if err == nil {
		var is map[string]*layer.Stat
		if is, err = list(d.root, name); err == nil {
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

// list is what is in a directory, by name; nothing where there is no such directory.
func list(f *rootfs.FS, name string) (map[string]*layer.Stat, error) {
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
