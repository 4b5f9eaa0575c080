package compressed

import (
	"context"
	"fmt"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Blob describes what a layer of the store becomes on its own, compressed if need be, as part of
// an OCI image. It can be opened. What changes the tar (estargz) is not for this: the blob would be another layer.
// Errors: registry.ErrAbsent, registry.ErrUnsupported, those of compressing.
func (r *Reader) Blob(ctx context.Context, diffID digest.Digest) (registry.Descriptor, error) {
	l, err := r.s.Lease(ctx)
	if err != nil {
		return registry.Descriptor{}, err
	}
	defer l.Release()
	d := registry.Descriptor{MediaType: image.TypeLayer, Digest: diffID}
	d, is, err := r.layer(ctx, l, d, diffID, OCI)
	if err == nil && is != diffID {
		err = fmt.Errorf("%w: %s makes another layer of %s", registry.ErrUnsupported, r.o.Compression.Kind, diffID)
	}
	if err == nil && d.Size == 0 {
		d, err = r.sized(ctx, d)
	}
	return d, err
}

// sized fills in the size of a layer that stays a tar.
func (r *Reader) sized(ctx context.Context, d registry.Descriptor) (registry.Descriptor, error) {
	info, err := r.s.LayerInfo(ctx, d.Digest)
	d.Size = info.Size
	return d, err
}
