package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"nacre/internal/layer"
)

// Prepare puts a Mount together for the chain diffIDs, bottom first. scratch is an
// existing directory of the caller's, on the file system of the store: upper/ and
// work/ are made in it unless readonly, or are there already from an earlier Prepare of the chain.
//
// Layers that change nothing are left out. Where the metadata of directories would
// show wrong, because layers have things in them without mentioning them, a layer of
// those directories is written to scratch and put on top.
func Prepare(ctx context.Context, src Source, form Form, diffIDs []digest.Digest, scratch string, readonly bool) (Mount, error) {
	ids, layers, err := chain(ctx, src, diffIDs)
	if err != nil {
		return Mount{}, err
	}
	m := Mount{UserXattr: form == Trees && UserXattr()}
	if m.Lower, err = lower(ctx, src, form, ids); err != nil {
		return Mount{}, err
	}
	if m.UserXattr {
		if m.Links, err = foreignLinks(ctx, src, ids, m.Lower); err != nil {
			return Mount{}, err
		}
	}
	f := NewFS(layers...)
	if m.Lower, err = addImplied(m, f, form, scratch, readonly); err != nil {
		return Mount{}, fmt.Errorf("implied directories: %w", err)
	}
	if readonly {
		return m, nil
	}
	m.Upper, m.Work = filepath.Join(scratch, "upper"), filepath.Join(scratch, "work")
	return m, makeSides(m, f)
}

// makeSides makes the writable side, where it is not there already from an earlier Prepare.
func makeSides(m Mount, f *FS) error {
	if err := os.Mkdir(m.Work, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(m.Upper); err == nil {
		return nil
	}
	// The root directory of an overlay is that of its upper side. It gets its name when it is complete.
	root, err := f.lookup(".")
	if err != nil {
		return err
	}
	fresh := m.Upper + ".new"
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := dressDir(fresh, root.stat); err != nil {
		return err
	}
	return os.Rename(fresh, m.Upper)
}

// chain opens the layers that matter, bottom first.
func chain(ctx context.Context, src Source, diffIDs []digest.Digest) ([]digest.Digest, []*layer.Layer, error) {
	var ids []digest.Digest
	var layers []*layer.Layer
	last := map[digest.Digest]int{}
	for i, id := range diffIDs {
		last[id] = i
	}
	for i, id := range diffIDs {
		// A layer that comes again hides its earlier self entirely. Overlay refuses
		// the same directory twice.
		if last[id] != i {
			continue
		}
		l, err := src.Layer(ctx, id)
		if err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", id, err)
		}
		if l.Empty() {
			continue
		}
		info, err := l.Lstat(".")
		if err != nil {
			return nil, nil, fmt.Errorf("layer %s: %w", id, err)
		}
		if info.Sys().(*layer.Stat).Opaque {
			// Overlay does not look for this mark on a layer's root.
			ids, layers = nil, nil
		}
		ids, layers = append(ids, id), append(layers, l)
	}
	return ids, layers, nil
}

func lower(ctx context.Context, src Source, form Form, ids []digest.Digest) ([]Lower, error) {
	list := make([]Lower, len(ids))
	if form == Index {
		for i, id := range ids {
			dir := src.LayerDir(id)
			list[i] = Lower{Index: filepath.Join(dir, indexName), Data: filepath.Join(dir, dataName)}
		}
		return list, nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // unpacking is bound by the disk, and parallel in itself
	for i, id := range ids {
		g.Go(func() error {
			dir, err := src.Tree(ctx, id)
			if err != nil {
				return fmt.Errorf("layer %s: %w", id, err)
			}
			if dir == "" {
				return errors.New("no tree of layer " + id.String())
			}
			list[i].Dir = dir
			return nil
		})
	}
	return list, g.Wait()
}
