// Package edit makes images of images without a build: with more layers, with another config, on another
// base, with fewer layers. What is edited can be anywhere, and stays as it is; of it nothing but
// documents (manifests, configs, indexes) is read, except where files are what an edit is about.
//
// The result is a registry.Reader: registry.Copy takes it to its place. The same input gives the same
// bytes, wherever it is from: no clock is read, and what nobody changed in a document stays as it was, known here or not.
package edit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"nacre/internal/export"
	"nacre/internal/image"
	"nacre/internal/registry"
)

// Source is an image to be edited, or to edit with.
type Source struct {
	Reader registry.Reader // nil: there is nothing but what an Edit makes
	Repo   string
	Desc   registry.Descriptor // of its manifest or index
}

// Options of Apply.
type Options struct {
	// Platform chooses from an index; the result is that image alone. nil edits all that it lists.
	Platform *image.Platform
	// Annotations to add, and keys of those to take from manifests and indexes.
	Annotations       export.Annotations
	RemoveAnnotations []string
	// Note is told what could not be kept.
	Note func(string)
}

// Change edits one image.
type Change func(ctx context.Context, p *Parts) error

// Apply makes of what e is of an image with change applied, and returns its manifest or index: of an index all its images are
// changed. Attestations of what changed are left out: they are about another image.
// Errors: registry.ErrAbsent, registry.ErrInvalid, image.ErrNoPlatform, those of change.
func (e *Edit) Apply(ctx context.Context, o Options, change Change) (registry.Descriptor, error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	a := &applying{Edit: e, o: o, change: change}
	d, err := e.choose(ctx, e.src, o.Platform)
	if err != nil {
		return d, err
	}
	plain := registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	if !image.IsIndex(d.MediaType) && o.Annotations.NeedIndex() {
		return d, export.ErrNoIndex
	}
	return a.any(ctx, plain, 0)
}

// maxNesting bounds indexes within indexes, as registry.Copy does.
const maxNesting = 8

// choose finds the image for a platform, in an index or alone; nil: all there is.
func (e *Edit) choose(ctx context.Context, s Source, p *image.Platform) (registry.Descriptor, error) {
	d := s.Desc
	for range maxNesting {
		if p == nil {
			return d, nil
		}
		if !image.IsIndex(d.MediaType) {
			parts, err := e.parts(ctx, s, d)
			if err == nil {
				err = fits(parts.Config.Platform, *p)
			}
			return d, err
		}
		data, err := e.read(ctx, s, d)
		if err != nil {
			return d, err
		}
		x, err := image.ParseIndex(data)
		if err != nil {
			return d, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
		}
		if d, err = image.MatchPlatform(x, *p); err != nil {
			return d, err
		}
	}
	return d, fmt.Errorf("%w: indexes nested more than %d deep", registry.ErrInvalid, maxNesting)
}

// fits tells whether an image for a platform is one for what was wanted.
func fits(have, want image.Platform) error {
	x := image.Index{Manifests: []image.Descriptor{{Platform: &have}}}
	if _, err := image.MatchPlatform(x, want); err != nil {
		return fmt.Errorf("%w %s: the image is for %s", image.ErrNoPlatform, image.FormatPlatform(want), image.FormatPlatform(have))
	}
	return nil
}

// applying is one Apply under way.
type applying struct {
	*Edit
	o      Options
	change Change
}

func (a *applying) any(ctx context.Context, d registry.Descriptor, depth int) (registry.Descriptor, error) {
	if depth > maxNesting {
		return d, fmt.Errorf("%w: indexes nested more than %d deep", registry.ErrInvalid, maxNesting)
	}
	if image.IsIndex(d.MediaType) {
		return a.index(ctx, d, depth)
	}
	p, err := a.parts(ctx, a.src, d)
	if err != nil {
		return d, err
	}
	if err := a.change(ctx, p); err != nil {
		return d, err
	}
	p.annotate(a.o)
	now, err := a.keep(p)
	if err != nil {
		return d, err
	}
	return became(d, now, p.Config.Platform, a.o), nil
}

// became is the descriptor of what d was changed into.
func became(d, now registry.Descriptor, p image.Platform, o Options) registry.Descriptor {
	now.ArtifactType = d.ArtifactType
	now.Annotations = o.Annotations.Of(export.ManifestDescriptor, p, d.Annotations)
	if d.Platform != nil {
		now.Platform = &p
	}
	return now
}

func (a *applying) index(ctx context.Context, d registry.Descriptor, depth int) (registry.Descriptor, error) {
	data, err := a.read(ctx, a.src, d)
	if err != nil {
		return d, err
	}
	was, err := image.ParseIndex(data)
	if err != nil {
		return d, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
	}
	now := was
	images, absent := []image.Descriptor(nil), 0
	if now.Manifests, images, absent, err = a.children(ctx, was, depth); err != nil {
		return d, err
	}
	if len(images) == 1 && absent > 0 {
		return images[0], nil // what is here of an image for several platforms, as push does it
	}
	now.Annotations = a.o.Annotations.Of(export.Index, image.Platform{}, without(was.Annotations, a.o.RemoveAnnotations))
	if slices.ContainsFunc(now.Manifests, func(c image.Descriptor) bool { return c.MediaType == image.TypeManifest }) || len(now.Annotations) > 0 {
		now.MediaType = image.TypeIndex // docker's has no place for either
	} else if now.MediaType == "" {
		now.MediaType = d.MediaType
	}
	return put(a.Edit, d, now.MediaType, data, was, now)
}

func isAttestation(d image.Descriptor) bool { return d.Annotations[image.AboutAnnotation] != "" }

// children edits what an index lists, and tells which are images, and how many that are not here.
func (a *applying) children(ctx context.Context, x image.Index, depth int) (out, images []image.Descriptor, absent int, err error) {
	changed := map[string]bool{}
	for _, c := range x.Manifests {
		if isAttestation(c) || !image.IsManifestOrIndex(c.MediaType) {
			out = append(out, c)
			continue
		}
		now, err := a.any(ctx, c, depth+1)
		if errors.Is(err, registry.ErrAbsent) {
			if _, rerr := a.read(ctx, a.src, c); errors.Is(rerr, registry.ErrAbsent) {
				absent++
				changed[c.Digest.String()] = true
				continue // never fetched
			}
		}
		switch {
		case errors.Is(err, errArtifact):
			now = c
		case err != nil:
			return nil, nil, 0, fmt.Errorf("%s: %w", describe(c), err)
		default:
			images = append(images, now)
		}
		changed[c.Digest.String()] = now.Digest != c.Digest
		out = append(out, now)
	}
	n := len(out)
	out = slices.DeleteFunc(out, func(c image.Descriptor) bool { return changed[c.Annotations[image.AboutAnnotation]] })
	switch {
	case absent > 0 && len(images) == 0:
		return nil, nil, 0, fmt.Errorf("none of its %d images is here: %w", absent, registry.ErrAbsent)
	case absent > 0:
		a.o.Note(fmt.Sprintf("%d of the %d images of the index are not here, and left out", absent, absent+len(images)))
	case len(out) < n:
		a.o.Note("attestations are left out: they are about the image as it was")
	}
	return out, images, absent, nil
}

func describe(d image.Descriptor) string {
	if d.Platform != nil {
		return image.FormatPlatform(*d.Platform)
	}
	return d.Digest.String()
}

// without has all of notes but some keys.
func without(notes map[string]string, keys []string) map[string]string {
	if len(keys) == 0 {
		return notes
	}
	out := maps.Clone(notes)
	for _, k := range keys {
		delete(out, k)
	}
	return out
}
