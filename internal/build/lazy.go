package build

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/cache"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/lazy"

	"github.com/opencontainers/go-digest"
)

// Steps that hit in a cache from elsewhere have layers that the store need not have, and so has a base image
// that only such steps are built on. Whatever reads a layer asks for it first (solver.rootFS, prepare,
// contents); what only passes it on does with what it travels as.

// Describer is Images that tell of an image without its layers.
type Describer interface {
	// Describe reads what ref names now, for one platform. Errors: as of Pull.
	Describe(ctx context.Context, ref registry.Ref, p image.Platform) (Described, error)
}

// Described is an image in a registry.
type Described struct {
	Registry registry.Reader
	Repo     string
	Desc     registry.Descriptor // of the manifest
	Manifest image.Manifest
	Config   image.Config
}

// describe finds a base image whose layers are pulled when something needs one of them, under its name and all
// of them, as if it had been pulled at once.
func (b *bases) describe(ctx context.Context, d Describer, name string, ref registry.Ref, p image.Platform) (graph.Image, error) {
	step := event.Step{ID: stepPull + int(b.pulls.Add(1)), Name: "[internal] load metadata of " + ref.String()}
	done := b.begin(step)
	img, err := d.Describe(ctx, ref, p)
	if err == nil {
		err = image.Validate(img.Config, img.Manifest)
	}
	if err := done(event.Done{}, err); err != nil {
		return graph.Image{}, err
	}
	for i, diffID := range img.Config.RootFS.DiffIDs {
		b.layers.Add(diffID, lazy.Origin{
			Name: ref.Familiar(), Registry: img.Registry, Repo: img.Repo, Blob: img.Manifest.Layers[i],
			Fetch: func(ctx context.Context) error { return b.pullDescribed(ctx, ref, p, img.Desc.Digest, diffID) },
		})
	}
	return graph.Image{Name: name, Digest: img.Desc.Digest, Config: img.Config}, nil
}

// pullDescribed pulls the image that describe found, once for all of its layers. The name may mean another by now.
func (b *bases) pullDescribed(ctx context.Context, ref registry.Ref, p image.Platform, manifest, diffID digest.Digest) error {
	_, err := b.described.do(manifest, func() (struct{}, error) { return struct{}{}, b.pull(ctx, ref, p) })
	if err != nil {
		return err
	}
	if err := b.lease.Layer(ctx, diffID); !errors.Is(err, registry.ErrAbsent) {
		return err
	}
	_, err = b.exactly.do(manifest, func() (struct{}, error) {
		return struct{}{}, b.pull(ctx, registry.Ref{Repo: ref.Repo, Digest: manifest}, p)
	})
	return err
}

// lost takes note of a layer that could not be had; false: err is of another kind. The build then begins again:
// what it executed so far hits.
func (s *solver) lost(ctx context.Context, g *graph.Graph, err error) bool {
	lost, ok := errors.AsType[*lazy.LostError](err)
	if !ok || ctx.Err() != nil || !s.layers.Known(lost.DiffID) {
		return false
	}
	s.layers.Lose(lost.DiffID)
	s.Sink(event.Warning{Text: lost.Error(), Hint: "the step that made it is executed instead"})
	s.solved, s.running = memo[*graph.Step, *root]{}, memo[cache.Key, cache.Output]{}
	s.countRuns(g)
	s.round++
	return true
}

// needs tells whether the image needs its layers here: names and digests suffice for one that is only pushed.
func (s *solver) needs() bool {
	for _, o := range s.o.Outputs {
		if !o.Remote {
			return true
		}
	}
	return !s.o.NoImage
}

// travels describes the layers of the result: as they are in the store, or as they travel where they are elsewhere.
func (s *solver) travels(ctx context.Context, diffIDs []digest.Digest) ([]image.Layer, error) {
	layers := make([]image.Layer, len(diffIDs))
	for i, d := range diffIDs {
		blob, elsewhere, err := s.layers.Blob(ctx, d)
		if err != nil {
			return nil, err
		}
		layers[i] = image.Layer{DiffID: d}
		if elsewhere {
			layers[i].Blob = image.OCILayer(blob)
			continue
		}
		info, err := s.Store.LayerInfo(ctx, d)
		if err != nil {
			return nil, err
		}
		layers[i].Size = info.Size
	}
	return layers, nil
}

// blobs are what the layers of a cache travel as: those that are elsewhere go on as they are.
type blobs struct {
	*compressed.Reader
	layers *lazy.Layers
	force  bool
}

// Blob implements portable.Layers.
func (b blobs) Blob(ctx context.Context, diffID digest.Digest) (registry.Descriptor, error) {
	if b.force {
		if err := b.layers.Need(ctx, diffID); err != nil {
			return registry.Descriptor{}, err
		}
	}
	d, elsewhere, err := b.layers.Blob(ctx, diffID)
	if err != nil || elsewhere {
		return d, err
	}
	return b.Reader.Blob(ctx, diffID)
}

// resultLayers has the layers of the result in the store, where they are needed.
func (s *solver) resultLayers(ctx context.Context, diffIDs []digest.Digest) error {
	if !s.needs() {
		return nil
	}
	if err := s.layers.Need(ctx, diffIDs...); err != nil {
		return fmt.Errorf("layers of the image: %w", err)
	}
	return nil
}
