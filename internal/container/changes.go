package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"golang.org/x/sys/unix"
)

// Changes reads what the container wrote to its root as the files of a layer over its image. note is told
// what had to be left out. Of one that runs it is what is there at the moment it is read: files that
// grow or shrink meanwhile are cut or filled up to the size they had.
func (c *Container) Changes(ctx context.Context, note func(string)) (iter.Seq2[layer.File, error], error) {
	lower, err := c.lower(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(c.Upper()); errors.Is(err, fs.ErrNotExist) { // it was never started
		return func(func(layer.File, error) bool) {}, nil
	}
	form, err := rootfs.Probe(c.cs.s.Root())
	if err != nil {
		return nil, err
	}
	m := rootfs.Mount{Upper: c.Upper(), UserXattr: form == rootfs.Trees && rootfs.UserXattr()}
	recorded, err := c.recorded()
	if err != nil {
		return nil, err
	}
	files := rootfs.Changes(ctx, m, lower, rootfs.ChangesOptions{Note: note, Owner: c.State.Owner, Recorded: recorded})
	if !c.Busy() {
		return files, nil
	}
	return steady(files), nil
}

// steady gives files the size that they were said to have.
func steady(files iter.Seq2[layer.File, error]) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		for f, err := range files {
			if open, size := f.Open, f.Size; open != nil {
				f.Open = func() (io.ReadCloser, error) {
					r, err := open()
					if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
						return io.NopCloser(io.LimitReader(zeros{}, size)), nil
					}
					if err != nil {
						return nil, err
					}
					return &steadyReader{io.LimitReader(io.MultiReader(r, zeros{}), size), r}, nil
				}
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

type steadyReader struct {
	io.Reader
	io.Closer
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Kinds of a Change, as docker shows them.
const (
	Modified = 'C'
	Added    = 'A'
	Deleted  = 'D'
)

// Change is one path that the container changed.
type Change struct {
	Kind byte
	Path string // absolute
}

// Diff lists what the container changed, sorted by path.
func (c *Container) Diff(ctx context.Context) ([]Change, error) {
	files, err := c.Changes(ctx, nil)
	if err != nil {
		return nil, err
	}
	lower, err := c.lower(ctx)
	if err != nil {
		return nil, err
	}
	var list []Change
	for f, err := range files {
		if err != nil {
			return nil, err
		}
		if f.Name == "." {
			continue
		}
		kind := byte(Added)
		if f.Whiteout {
			kind = Deleted
		} else if _, err := lower.Lstat(f.Name); err == nil {
			kind = Modified
		}
		list = append(list, Change{kind, "/" + f.Name})
	}
	slices.SortFunc(list, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// Snapshot is the container's whole root, without what is mounted in it, as it is now. done lets go of what it
// takes of the disk.
func (c *Container) Snapshot(ctx context.Context, note func(string)) (root *rootfs.FS, done func(), err error) {
	layers := make([]*layer.Layer, 0, len(c.Config.Layers)+1)
	for _, d := range c.Config.Layers {
		l, err := c.cs.s.Layer(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		layers = append(layers, l)
	}
	dir, remove, err := c.cs.s.TempDir("snapshot")
	if err != nil {
		return nil, nil, err
	}
	top, err := c.writeChanges(ctx, dir, note)
	if err != nil {
		remove()
		return nil, nil, err
	}
	return rootfs.NewFS(append(layers, top)...), func() {
		top.Close()
		remove()
	}, nil
}

func (c *Container) writeChanges(ctx context.Context, dir string, note func(string)) (*layer.Layer, error) {
	if _, err := c.WriteLayer(ctx, dir, note); err != nil {
		return nil, err
	}
	return layer.Open(dir)
}

// maxReads is how often the writable side of a container is read anew because something vanished meanwhile.
const maxReads = 5

// WriteLayer writes what the container changed as a layer to a directory: see layer.Write.
func (c *Container) WriteLayer(ctx context.Context, dir string, note func(string)) (layer.Info, error) {
	for try := 1; ; try++ {
		files, err := c.Changes(ctx, note)
		if err != nil {
			return layer.Info{}, err
		}
		info, err := layer.Write(ctx, dir, files)
		vanished := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESTALE) || errors.Is(err, layer.ErrChanged)
		if !vanished || !c.Busy() || try == maxReads {
			return info, err
		}
		os.Remove(filepath.Join(dir, "layer.tar"))
		os.Remove(filepath.Join(dir, "layer.erofs"))
	}
}
