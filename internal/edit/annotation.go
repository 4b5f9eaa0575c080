package edit

import (
	"context"
	"errors"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/imagefs"
	"nacre/internal/registry"
)

// BaseOf tells what base an image says it is on: name and digest as the annotations of the image have them, of an index those
// of its first image. Empty where it does not say.
func (e *Edit) BaseOf(ctx context.Context, o Options) (name, digest string, err error) {
	d, err := e.choose(ctx, e.src, o.Platform)
	if err != nil {
		return "", "", err
	}
	p, err := e.first(ctx, d)
	if err != nil {
		return "", "", err
	}
	return p.Manifest.Annotations[BaseName], p.Manifest.Annotations[BaseDigest], nil
}

// first is the image that d is, or the first one that is here of those an index lists.
func (e *Edit) first(ctx context.Context, d registry.Descriptor) (*Parts, error) {
	for range maxNesting {
		if !image.IsIndex(d.MediaType) {
			return e.parts(ctx, e.src, d)
		}
		data, err := e.read(ctx, e.src, d)
		if err != nil {
			return nil, err
		}
		x, err := image.ParseIndex(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", registry.ErrInvalid, d.Digest, err)
		}
		found := false
		for _, c := range x.Manifests {
			if isAttestation(c) || !image.IsManifestOrIndex(c.MediaType) {
				continue
			}
			if _, err := e.read(ctx, e.src, c); err == nil {
				d, found = c, true
				break
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: none of its images: %w", d.Digest, registry.ErrAbsent)
		}
	}
	return nil, fmt.Errorf("%w: indexes nested more than %d deep", registry.ErrInvalid, maxNesting)
}

// Image is the image that e begins with as its files are read: of an index that for a platform, nil for this machine's, or where that is not here
// the first that is.
func (e *Edit) Image(ctx context.Context, p *image.Platform) (imagefs.Image, registry.Descriptor, error) {
	want := p
	if p == nil {
		host := image.DefaultPlatform()
		want = &host
	}
	var parts *Parts
	d, err := e.src.Desc, error(nil)
	if p != nil || image.IsIndex(d.MediaType) {
		d, err = e.choose(ctx, e.src, want)
	}
	if err == nil {
		parts, err = e.parts(ctx, e.src, d)
	}
	if p == nil && (errors.Is(err, image.ErrNoPlatform) || errors.Is(err, registry.ErrAbsent)) {
		parts, err = e.first(ctx, e.src.Desc)
	}
	if err != nil {
		return imagefs.Image{}, d, err
	}
	return parts.image(), parts.Desc, nil
}
