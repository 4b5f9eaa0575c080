package build

import (
	"context"
	"errors"

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
		return layer.Write(ctx, dir, rootfs.Difference(lower, full))
	})
	if err != nil {
		return out, err
	}
	out = cache.Output{DiffID: info.DiffID, Content: info.Content, Created: s.now(), Size: info.FileBytes}
	return out, s.Cache.Put(ctx, rec, out)
}
