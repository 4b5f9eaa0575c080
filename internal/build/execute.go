package build

import (
	"context"
	"fmt"
	"iter"
	"time"

	"nacre/internal/cache"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
)

// execute makes the step's layer.
func (w *work) execute(ctx context.Context) (cache.Output, error) {
	switch op := w.step.Op.(type) {
	case *graph.Run:
		return w.run(ctx, op)
	case *graph.Copy, *graph.Workdir:
		return w.layer(ctx, w.plan.Files())
	default:
		return cache.Output{}, fmt.Errorf("no way to execute %T", op)
	}
}

// layer writes files as a new layer of the store.
func (w *work) layer(ctx context.Context, files iter.Seq2[layer.File, error]) (cache.Output, error) {
	if w.epoch != nil {
		files = notAfter(files, *w.epoch)
	}
	info, err := w.Store.MakeLayer(ctx, w.lease, func(dir string) (layer.Info, error) {
		return layer.Write(ctx, dir, files)
	})
	if err == nil && info.Entries == 0 {
		w.nothing.Store(&info)
	}
	return w.output(info), err
}

func (w *work) output(info layer.Info) cache.Output {
	return cache.Output{DiffID: info.DiffID, Content: info.Content, Created: w.now(), Size: info.FileBytes}
}

func notAfter(files iter.Seq2[layer.File, error], limit time.Time) iter.Seq2[layer.File, error] {
	return func(yield func(layer.File, error) bool) {
		for f, err := range files {
			if f.ModTime.After(limit) {
				f.ModTime = limit
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// now is the time that goes into the image.
func (s *solver) now() time.Time {
	if s.epoch != nil {
		return s.epoch.UTC()
	}
	return s.Clock().UTC()
}

// planWorkdir works out the directories a WORKDIR makes.
func (w *work) planWorkdir(ctx context.Context, op *graph.Workdir) error {
	lower, err := w.lower(ctx)
	if err != nil {
		return err
	}
	w.plan = newPlan(lower)
	owner, err := workdirOwner(lower, op.User)
	if err != nil {
		return err
	}
	return w.plan.Mkdir(op.Path, owner, w.now())
}

// lower is the root the step works on; nil is empty.
func (w *work) lower(ctx context.Context) (*rootfs.FS, error) {
	p := w.parent()
	if p == nil || w.independent() {
		return nil, nil
	}
	return w.rootFS(ctx, p.layers)
}

// rootFS is a chain of layers as one file system.
func (s *solver) rootFS(ctx context.Context, diffIDs []digest.Digest) (*rootfs.FS, error) {
	if err := s.layers.Need(ctx, diffIDs...); err != nil {
		return nil, err
	}
	return Root(ctx, s.reader(), diffIDs)
}

// Layers gives layers by diffID.
type Layers interface {
	Layer(ctx context.Context, diffID digest.Digest) (*layer.Layer, error)
}

// Root is a chain of layers of a store, bottom first, as one file system.
func Root(ctx context.Context, src Layers, diffIDs []digest.Digest) (*rootfs.FS, error) {
	layers := make([]*layer.Layer, len(diffIDs))
	for i, d := range diffIDs {
		l, err := src.Layer(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", short(d), err)
		}
		layers[i] = l
	}
	return rootfs.NewFS(layers...), nil
}

func lookupUser(lower *rootfs.FS, spec string) (rootfs.User, error) {
	if lower == nil {
		lower = rootfs.NewFS()
	}
	return rootfs.LookupUser(lower, spec)
}
