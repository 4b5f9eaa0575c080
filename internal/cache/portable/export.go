package portable

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
)

// Layers gives the blobs that layers travel as.
type Layers interface {
	registry.Reader
	// Blob describes the layer's blob, made if need be. Errors: registry.ErrAbsent.
	Blob(ctx context.Context, diffID digest.Digest) (registry.Descriptor, error)
}

// Export writes contents to dst as an image named as; base is the beginning of slots that
// stands for the place of the build. It returns the image's descriptor.
// What is there already is not written again.
func Export(ctx context.Context, dst registry.Writer, as registry.Ref, layers Layers, contents Contents, base string, o registry.CopyOptions) (registry.Descriptor, error) {
	c := newConfig(contents, base)
	m := image.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: image.TypeManifest, ArtifactType: ArtifactType}
	for _, d := range c.Layers {
		blob, err := layers.Blob(ctx, d)
		if err != nil {
			return registry.Descriptor{}, fmt.Errorf("layer %s: %w", d, err)
		}
		m.Layers = append(m.Layers, blob)
	}
	conf, err := c.marshal()
	if err != nil {
		return registry.Descriptor{}, err
	}
	if conf, err = pack(conf); err != nil {
		return registry.Descriptor{}, err
	}
	m.Config = image.Describe(ConfigTypeZstd, conf)
	if m.Layers == nil {
		m.Layers = []registry.Descriptor{} // the spec wants a list
	}
	data, err := image.Marshal(m)
	if err != nil {
		return registry.Descriptor{}, err
	}
	d := image.Describe(image.TypeManifest, data)
	src := &composed{layers, d, map[digest.Digest][]byte{d.Digest: data, m.Config.Digest: conf}}
	return registry.Copy(ctx, dst, as, src, registry.Ref{Repo: as.Repo, Digest: d.Digest}, o)
}

// composed is a registry of one image whose small parts are in memory.
type composed struct {
	registry.Reader
	manifest registry.Descriptor
	docs     map[digest.Digest][]byte
}

func (c *composed) Resolve(context.Context, registry.Ref) (registry.Descriptor, error) {
	return c.manifest, nil
}

func (c *composed) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	if data, ok := c.docs[d.Digest]; ok {
		return registry.Verify(io.NopCloser(bytes.NewReader(data)), d), nil
	}
	return c.Reader.Open(ctx, repo, d)
}
