package build

import (
	"context"
	"fmt"
	"sync"

	"nacre/internal/cache/portable"
	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"

	"github.com/opencontainers/go-digest"
)

// CacheFrom is a cache that a build elsewhere wrote. One that cannot be read is warned of:
// a build does without.
type CacheFrom struct {
	Name string // as shown: "local dir"
	Open func(ctx context.Context) (registry.Reader, registry.Ref, error)
	// Mounts are the directories of RUN --mount=type=cache that are taken from it where there are none here.
	Mounts MountChoice
}

// CacheTo is where the records that a build used and made are written, with their layers.
type CacheTo struct {
	Name string
	Open func(ctx context.Context) (registry.Writer, registry.Ref, error)
	// Tidy, where it is set, is called when the cache was written, with what Open gave. An error is warned of.
	Tidy func(ctx context.Context, w registry.Writer) error
	// Compression of layers, and whether those that came with another are compressed again.
	Compression layer.Compression
	Force       bool
	// Max is mode=max: the layers of every step. Otherwise those of the result.
	Max bool
	// Mounts are the directories of RUN --mount=type=cache that go along.
	Mounts MountChoice
	// IgnoreError makes a failure a warning.
	IgnoreError bool
}

// importCaches puts the caches of earlier builds behind the local one, the first
// named before the others.
func (s *solver) importCaches(ctx context.Context) error {
	for _, from := range s.o.CacheFrom {
		done := s.begin(event.Step{ID: s.nextStep(), Name: "importing cache from " + from.Name})
		n, mounts, err := s.importCache(ctx, from)
		if ctx.Err() != nil {
			return done(event.Done{}, ctx.Err())
		}
		note := fmt.Sprintf("%d records", n)
		if mounts > 0 {
			note += fmt.Sprintf(", %d cache mounts", mounts)
		}
		if err != nil {
			note = "not used"
			s.Sink(event.Warning{Text: fmt.Sprintf("cache from %s is not used: %v", from.Name, err)})
		}
		done(event.Done{Note: note}, nil)
	}
	if len(s.o.CacheTo) > 0 || s.o.InlineCache {
		s.recorder = portable.NewRecorder(s.Cache)
		s.Cache = s.recorder
	}
	s.earlier.Source = s.Cache
	return nil
}

// platform is what is built for.
func (s *solver) platform() image.Platform {
	if s.o.Platform.OS == "" {
		return image.DefaultPlatform()
	}
	return s.o.Platform
}

// inline puts the records of the image's own layers into its config.
func (s *solver) inline(ctx context.Context, a image.Assembled, layers []digest.Digest) (image.Assembled, error) {
	if !s.o.InlineCache {
		return a, nil
	}
	entries, err := s.recorder.Entries(ctx, layers)
	if err == nil {
		a, err = portable.Inline(a, entries, s.base)
	}
	if err != nil {
		err = fmt.Errorf("cache in the image: %w", err)
	}
	return a, err
}

// importCache returns how many records and cache directories can be had.
func (s *solver) importCache(ctx context.Context, from CacheFrom) (records, mounts int, err error) {
	src, ref, err := from.Open(ctx)
	if err != nil {
		return 0, 0, err
	}
	c, err := portable.Import(ctx, s.Cache, s.layers, portable.From{Registry: src, Ref: ref, Name: from.Name, Platform: s.platform()}, s.base)
	if err != nil {
		return 0, 0, err
	}
	s.Cache = c
	return c.Len(), s.carried.add(c.Mounts(), from.Mounts), nil
}

// exportCaches writes what the build used and made to where it was asked for. layers are
// those of the result.
func (s *solver) exportCaches(ctx context.Context, g *graph.Graph, layers []digest.Digest) error {
	for _, to := range s.o.CacheTo {
		done := s.begin(event.Step{ID: s.nextStep(), Name: "exporting cache to " + to.Name})
		d, err := s.exportCache(ctx, to, g, layers)
		if err != nil && to.IgnoreError && ctx.Err() == nil {
			s.Sink(event.Warning{Text: fmt.Sprintf("cache to %s: %v", to.Name, err)})
			err = nil
		}
		if err != nil {
			err = fmt.Errorf("cache to %s: %w", to.Name, err)
		}
		if err := done(event.Done{Note: d.Digest.String()}, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *solver) exportCache(ctx context.Context, to CacheTo, g *graph.Graph, layers []digest.Digest) (registry.Descriptor, error) {
	if to.Max {
		layers = nil // all
	} else if layers == nil {
		layers = []digest.Digest{}
	}
	entries, err := s.recorder.Entries(ctx, layers)
	if err != nil {
		return registry.Descriptor{}, err
	}
	mounts, err := s.moved(ctx, g, to.Mounts)
	if err != nil {
		return registry.Descriptor{}, err
	}
	dst, ref, err := to.Open(ctx)
	if err != nil {
		return registry.Descriptor{}, err
	}
	made := compressed.New(s.Store, compressed.Options{Compression: to.Compression, Force: to.Force, Sink: s.Sink, Step: s.nextStep, Source: s.layers})
	o := registry.CopyOptions{Sink: s.Sink, Step: s.nextStep, MountFrom: s.layers.MountFrom}
	d, err := portable.Export(ctx, dst, ref, blobs{made, s.layers, to.Force}, portable.Contents{Entries: entries, Mounts: mounts}, s.base, o)
	if err != nil || to.Tidy == nil {
		return d, err
	}
	if err := to.Tidy(ctx, dst); err != nil {
		s.Sink(event.Warning{Text: fmt.Sprintf("cache to %s: it is written, and what it had before is still there: %v", to.Name, err)})
	}
	return d, nil
}

// nextStep gives IDs to steps that come up after the plan.
func (s *solver) nextStep() int { return s.ids.take() }

// stepIDs counts.
type stepIDs struct {
	mu   sync.Mutex
	next int
}

func (i *stepIDs) take() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next++
	return i.next - 1
}
