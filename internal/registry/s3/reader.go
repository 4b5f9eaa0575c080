package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Resolve implements registry.Reader.
func (b *Bucket) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	key := b.nameKey(ref)
	if ref.Digest != "" {
		d := registry.Descriptor{Digest: ref.Digest}
		if err := registry.CheckDescriptor(d); err != nil {
			return d, err
		}
		key = b.blobKey(d)
	}
	resp, err := b.ask(ctx, http.MethodGet, key)
	if err != nil {
		return registry.Descriptor{}, err
	}
	defer resp.Body.Close()
	data, err := registry.ReadAll(resp.Body, image.MaxSize)
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", b.place(key), err)
	}
	mediaType, err := image.MediaTypeOf(data)
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w: %w", b.place(key), registry.ErrInvalid, err)
	}
	d := image.Describe(mediaType, data)
	if ref.Digest != "" && d.Digest != ref.Digest {
		return d, fmt.Errorf("%s: %w", b.place(key), registry.ErrDigest)
	}
	return d, nil
}

// Open implements registry.Reader.
func (b *Bucket) Open(ctx context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return nil, err
	}
	resp, err := b.ask(ctx, http.MethodGet, b.blobKey(d))
	if err != nil {
		return nil, err
	}
	return registry.Verify(resp.Body, d), nil
}

// Has implements registry.Writer.
func (b *Bucket) Has(ctx context.Context, _ string, d registry.Descriptor) (bool, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return false, err
	}
	resp, err := b.ask(ctx, http.MethodHead, b.blobKey(d))
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return d.Size == 0 || resp.ContentLength == d.Size, nil
}
