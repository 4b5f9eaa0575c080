package compressed_test

import (
	"errors"
	"io"
	"testing"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

func TestBlob(t *testing.T) {
	ctx := t.Context()
	s, err := store.Open(ctx, t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := registrytest.NewBlob(image.TypeLayer, registrytest.Tar("a", "content"))
	if err := registrytest.Push(ctx, s, "", b); err != nil {
		t.Fatal(err)
	}
	for kind, media := range map[string]string{layer.Gzip: image.TypeLayerGzip, layer.Zstd: image.TypeLayerZstd, layer.Uncompressed: image.TypeLayer} {
		t.Run(kind, func(t *testing.T) {
			r := compressed.New(s, compressed.Options{Compression: layer.Compression{Kind: kind}, Force: true})
			d, err := r.Blob(ctx, b.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if d.MediaType != media {
				t.Errorf("media type %q, want %q", d.MediaType, media)
			}
			data, err := registrytest.Get(ctx, r, "", d)
			if err != nil || int64(len(data)) != d.Size {
				t.Fatalf("%d bytes, %v; want %d", len(data), err, d.Size)
			}
			rc, err := r.Open(ctx, "", d)
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			plain, _, err := layer.Decompress(rc)
			if err != nil {
				t.Fatal(err)
			}
			tar, err := io.ReadAll(plain)
			if err != nil || digest.FromBytes(tar) != b.Digest {
				t.Errorf("it is %s, %v", digest.FromBytes(tar), err)
			}
		})
	}
	r := compressed.New(s, compressed.Options{Compression: layer.Compression{Kind: layer.EStargz}})
	if _, err := r.Blob(ctx, b.Digest); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("estargz: %v", err)
	}
}
