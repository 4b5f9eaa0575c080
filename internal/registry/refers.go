package registry

import (
	"fmt"

	"nacre/internal/image"
)

// Refers returns what the manifest or index d, whose bytes are data, refers to:
// config and layers bottom first, or manifests. Anything else refers to nothing.
// A subject is not among them: it may well be absent. Errors: ErrInvalid.
func Refers(d Descriptor, data []byte) ([]Descriptor, error) {
	switch {
	case image.IsIndex(d.MediaType):
		x, err := image.ParseIndex(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, d.Digest, err)
		}
		return x.Manifests, nil
	case image.IsManifest(d.MediaType):
		m, err := image.ParseManifest(data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, d.Digest, err)
		}
		return append([]Descriptor{m.Config}, m.Layers...), nil
	}
	return nil, nil
}

// MayLack tells whether a manifest is whole without d: a layer that has to be
// fetched from its own URLs.
func MayLack(d Descriptor) bool { return len(d.URLs) > 0 && image.IsForeign(d.MediaType) }
