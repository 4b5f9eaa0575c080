package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"nacre/internal/event"
	"nacre/internal/graph"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/lazy"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Images brings images into the store that are not there.
type Images interface {
	// Pull fetches what ref names now, for one platform, under that name. sink hears of it as of
	// a registry.Copy. Errors: registry.ErrAbsent, image.ErrNoPlatform, those of registries.
	Pull(ctx context.Context, ref registry.Ref, p image.Platform, sink event.Sink) error
}

// bases finds the images that a Dockerfile names. The graph asks for each once.
type bases struct {
	Builder
	contexts map[string]graph.Context
	always   bool         // look for newer ones (--pull)
	pulls    atomic.Int32 // begun so far

	// With lazily, layers of images that are not in the store are pulled when they are needed.
	lazily             bool
	lease              *store.Lease
	layers             *lazy.Layers
	described, exactly memo[digest.Digest, struct{}] // pulled since, by manifest: by name, and by digest
}

// stepPull is the first ID of pulls, which come before the graph is known: beyond those of any graph.
const stepPull = 1 << 30

// stepPulls bounds the number of pulls of a build; IDs of fetched layers follow.
const stepPulls = 1 << 20

// resolve implements graph.Resolver: images in the store, those that are pulled into it, and those in layouts that
// the user, not the Dockerfile, named as contexts.
func (b *bases) resolve(ctx context.Context, name string, p image.Platform) (graph.Image, error) {
	if strings.HasPrefix(name, ociLayout) && slices.ContainsFunc(slices.Collect(maps.Values(b.contexts)), func(c graph.Context) bool { return c.Image == name }) {
		id, err := b.fromLayout(ctx, name)
		if err != nil {
			return graph.Image{}, err
		}
		return b.stored(ctx, name, id, p)
	}
	ref, err := registry.ParseRef(name)
	remote := err == nil && !strings.HasPrefix(name, "sha256:") // which begins an image's ID
	if !b.always || !remote {
		img, err := b.stored(ctx, name, notShortID(name), p)
		if !errors.Is(err, registry.ErrAbsent) || !remote {
			return img, err
		}
		if b.Images == nil {
			return graph.Image{}, fmt.Errorf("%w in the local store; load, import or build it first", registry.ErrAbsent)
		}
	}
	if d, ok := b.Images.(Describer); ok && b.lazily {
		img, err := b.describe(ctx, d, name, ref, p)
		if err == nil && b.lease.Layer(ctx, img.Config.RootFS.DiffIDs...) == nil {
			err = b.pull(ctx, ref, p) // all layers are here: it costs nothing to have its name, too
		}
		return img, err
	}
	if b.Images != nil {
		if err := b.pull(ctx, ref, p); err != nil {
			return graph.Image{}, err
		}
	}
	return b.stored(ctx, name, notShortID(name), p)
}

// notShortID keeps a name that happens to be the beginning of some image's ID a name. IDs are taken from 12 digits on:
// as many as the list of images shows.
func notShortID(name string) string {
	if len(name) < 12 && strings.Trim(name, "0123456789abcdef") == "" {
		return name + ":latest"
	}
	return name
}

// stored reads an image of the store; name is what the Dockerfile calls it. Errors: registry.ErrAbsent,
// also where the image is there for another platform alone.
func (b *bases) stored(ctx context.Context, name, id string, p image.Platform) (graph.Image, error) {
	img, err := b.Store.Lookup(ctx, id)
	if err != nil {
		return graph.Image{}, err
	}
	m, d, err := b.Store.Manifest(ctx, img, &p)
	if err != nil {
		return graph.Image{}, err
	}
	cfg, _, err := b.Store.Config(ctx, m.Config)
	if err != nil {
		return graph.Image{}, err
	}
	return graph.Image{Name: name, Digest: d.Digest, Config: cfg}, nil
}

// pull fetches an image, shown as one step with its layers as items.
func (b *bases) pull(ctx context.Context, ref registry.Ref, p image.Platform) error {
	id := stepPull + int(b.pulls.Add(1))
	done := b.begin(event.Step{ID: id, Name: "[internal] pull " + ref.String()})
	items := pullItems{id: id, sink: b.Sink, layers: map[int]bool{}}
	return done(event.Done{}, b.Images.Pull(ctx, ref, p, items.event))
}

// pullItems turns the steps of a copy into the progress of one step.
type pullItems struct {
	id     int
	sink   event.Sink
	mu     sync.Mutex
	layers map[int]bool // the copy's steps that are layers
}

func (i *pullItems) event(e event.Event) {
	switch e := e.(type) {
	case event.Started:
		i.mu.Lock()
		i.layers[e.Step.ID] = strings.HasPrefix(e.Step.Name, "layer ")
		i.mu.Unlock()
	case event.Progress:
		e.ID = i.id
		i.sink(e)
	case event.Done:
		i.mu.Lock()
		layer := i.layers[e.ID]
		i.mu.Unlock()
		if layer && e.Err == nil && e.Size > 0 {
			i.sink(event.Progress{ID: i.id, Time: e.Time, Item: e.Note, Current: e.Size, Total: e.Size, Unit: "B"})
		}
	}
}
