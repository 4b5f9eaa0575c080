package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"nacre/internal/build"
	"nacre/internal/event"
	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/store"
)

// fetched is what came of a pull.
type fetched struct {
	desc  registry.Descriptor
	fresh bool // something came, or the name means something else now
}

// fetch brings what ref names from its registry into the store, under that name. Of an index only
// the images for the platforms are fetched, and the index kept; nil: all of them.
func (a *app) fetch(ctx context.Context, ref registry.Ref, platforms []image.Platform, sink event.Sink) (fetched, error) {
	s, err := a.store(ctx)
	if err != nil {
		return fetched{}, err
	}
	r, err := a.remote(ctx)
	if err != nil {
		return fetched{}, err
	}
	as := ref
	if ref.Digest != "" {
		as.Tag = "" // as docker does: no tag is made up or moved
	}
	before, err := s.Resolve(ctx, as)
	if err != nil && !errors.Is(err, registry.ErrAbsent) {
		return fetched{}, err
	}
	var came atomic.Bool
	o := registry.CopyOptions{Platforms: platforms, Sink: func(e event.Event) {
		if d, ok := e.(event.Done); ok && d.Err == nil && !d.Cached {
			came.Store(true)
		}
		sink(e)
	}}
	d, err := registry.Copy(ctx, a.pulled(s), as, r, ref, o)
	if err != nil {
		return fetched{}, fetchError(ref, err)
	}
	return fetched{d, came.Load() || before.Digest != d.Digest}, nil
}

// pulled is the store as pulls write to it.
func (a *app) pulled(s *store.Store) registry.Writer {
	a.pullOnce.Do(func() { a.pulling = &onceWriter{Writer: s} })
	return a.pulling
}

// fetchError adds what to do, and says the name once.
func fetchError(ref registry.Ref, err error) error {
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(inner.Error(), ref.String()) {
		err = inner
	}
	switch {
	case errors.Is(err, image.ErrNoPlatform):
		return &hintError{err, "--platform names another; nacre registry manifest " + ref.Familiar() + " shows all there are"}
	case errors.Is(err, registry.ErrAbsent):
		return &hintError{err, "nacre registry tags " + ref.FamiliarRepo() + " lists what there is"}
	}
	return err
}

// pulls implements build.Images and what run does about images that are not here.
type pulls struct{ a *app }

// Pull implements build.Images.
func (p pulls) Pull(ctx context.Context, ref registry.Ref, platform image.Platform, sink event.Sink) error {
	_, err := p.a.fetch(ctx, ref, []image.Platform{platform}, sink)
	return err
}

// Describe implements build.Describer.
func (p pulls) Describe(ctx context.Context, ref registry.Ref, platform image.Platform) (build.Described, error) {
	img := build.Described{Repo: ref.Repo}
	r, err := p.a.remote(ctx)
	if err != nil {
		return img, err
	}
	img.Registry = r
	d, err := r.Resolve(ctx, ref)
	for depth := 0; err == nil && image.IsIndex(d.MediaType); depth++ {
		if depth > maxIndexes {
			return img, fmt.Errorf("%s: indexes nested more than %d deep: %w", ref.Familiar(), maxIndexes, registry.ErrInvalid)
		}
		var x image.Index
		if err = readJSON(ctx, r, ref.Repo, d, image.ParseIndex, &x); err == nil {
			d, err = image.MatchPlatform(x, platform)
		}
	}
	if err == nil {
		err = readJSON(ctx, r, ref.Repo, d, image.ParseManifest, &img.Manifest)
	}
	if err == nil {
		err = readJSON(ctx, r, ref.Repo, img.Manifest.Config, image.ParseConfig, &img.Config)
	}
	if err != nil {
		return img, fetchError(ref, fmt.Errorf("pull %s: %w", ref.Familiar(), err))
	}
	img.Desc = d
	return img, nil
}

// maxIndexes bounds indexes within indexes, as registry.Copy does.
const maxIndexes = 8

// imageToRun finds the image that run names, and pulls it as policy says: "missing", "always" or "never".
func (a *app) imageToRun(ctx context.Context, name, policy string, p *image.Platform, quiet bool) (store.Image, error) {
	ref, remote := pullable(name)
	switch policy {
	case "never":
		return a.image(ctx, name)
	case "", "missing":
		img, err := a.image(ctx, name)
		if err == nil && p != nil {
			_, _, err = a.opened.Manifest(ctx, img, p) // an index may be here without this platform
		}
		if !remote || !errors.Is(err, registry.ErrAbsent) {
			return img, err
		}
		if !quiet {
			fmt.Fprintf(a.stderr, "Unable to find image '%s' locally\n", ref.Familiar())
		}
	case "always":
		if !remote {
			return a.image(ctx, name)
		}
	default:
		return store.Image{}, fmt.Errorf("--pull=%s: want always, missing or never", policy)
	}
	pr, err := a.newTransfer("Pulling", "auto", quiet)
	if err != nil {
		return store.Image{}, err
	}
	if p == nil {
		host := image.DefaultPlatform()
		p = &host
	}
	_, err = a.fetch(ctx, ref, []image.Platform{*p}, pr.sink)
	if cerr := pr.close(err); err == nil {
		err = cerr
	}
	if err != nil {
		return store.Image{}, err
	}
	return a.image(ctx, name)
}

// pullable reads a name that a registry may know, which the ID of an image is not.
func pullable(name string) (registry.Ref, bool) {
	ref, err := registry.ParseRef(name)
	return ref, err == nil && !strings.HasPrefix(name, "sha256:")
}
