package edit

import (
	"context"
	"fmt"

	"nacre/internal/image"
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
