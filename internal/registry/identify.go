package registry

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
)

// Identify describes a manifest or index of which only the digest is known, from its
// bytes. Errors: ErrAbsent, ErrInvalid where it is something else.
func Identify(ctx context.Context, r Reader, repo string, d digest.Digest) (Descriptor, error) {
	desc := Descriptor{Digest: d}
	rc, err := r.Open(ctx, repo, desc)
	if err != nil {
		return Descriptor{}, err
	}
	defer rc.Close()
	data, err := ReadAll(rc, image.MaxSize)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%s: %w", d, err)
	}
	desc.Size = int64(len(data))
	if desc.MediaType, err = image.MediaTypeOf(data); err != nil {
		return Descriptor{}, fmt.Errorf("%s: %w: %w", d, ErrInvalid, err)
	}
	return desc, nil
}
