// Package export turns an image that was built into what an output asks for: the same image with
// other times, with annotations, with its layers compressed. What it is given stays as it is.
package export

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Options of Make. The zero value changes nothing.
type Options struct {
	// Epoch, where not nil, is the time that nothing in the image is younger than, but for the
	// layers of its base: the lowest Base.
	Epoch *time.Time
	Base  int
	// Annotations to add.
	Annotations Annotations
	// Compress has the layers as Compressed says; else they are as the store has them.
	Compress   bool
	Compressed compressed.Options
}

// Changes tells whether o asks for anything.
func (o Options) Changes() bool {
	return o.Epoch != nil || o.Compress || len(o.Annotations) > 0
}

// Image is what became of an image.
type Image struct {
	registry.Reader                     // has all of it, by digest
	Desc            registry.Descriptor // of the manifest or index, with the annotations and the platform for it
	Config          digest.Digest       // of an index: of its first image
	Created         time.Time           // from the config; zero where that says none
}

// Resolve implements registry.Reader.
func (i Image) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if ref.Digest != "" && ref.Digest == i.Desc.Digest {
		return i.Desc, nil
	}
	return i.Reader.Resolve(ctx, ref)
}

// Make makes of manifest or index d, which src has and whose layers s has, what o asks for. What it adds to the
// store is held by l. Errors: registry.ErrAbsent, registry.ErrInvalid, those of compressing.
func Make(ctx context.Context, s *store.Store, l *store.Lease, src registry.Reader, d registry.Descriptor, o Options) (Image, error) {
	img, err := prepare(ctx, s, l, src, d, o)
	if err != nil || !o.Compress {
		return img, err
	}
	c := o.Compressed
	c.Source = img.Reader
	r := compressed.New(s, c)
	notes, platform := img.Desc.Annotations, img.Desc.Platform
	plain := img.Desc
	plain.Annotations, plain.Platform = nil, nil
	now, err := r.Remake(ctx, plain)
	if err != nil {
		return img, err
	}
	now.Annotations, now.Platform = notes, platform
	out := Image{Reader: r, Desc: now}
	return out, out.describe(ctx)
}

// Push is Make with a registry to send it to, under each of the names, while it is compressed.
func Push(ctx context.Context, s *store.Store, l *store.Lease, src registry.Reader, d registry.Descriptor, o Options,
	dst registry.Writer, names []registry.Ref, copy registry.CopyOptions) (Image, error) {
	img, err := prepare(ctx, s, l, src, d, o)
	if err != nil {
		return img, err
	}
	c := o.Compressed
	c.Source, c.Sink, c.Step = img.Reader, copy.Sink, copy.Step
	for _, as := range names {
		now, err := compressed.Send(ctx, dst, as, s, registry.Ref{Repo: as.Repo, Digest: img.Desc.Digest}, c, copy)
		if err != nil {
			return img, fmt.Errorf("push %s: %w", as.Familiar(), err)
		}
		now.Annotations, now.Platform = img.Desc.Annotations, img.Desc.Platform
		img.Desc = now
	}
	return img, nil
}

// prepare makes all of the changes but for compression.
func prepare(ctx context.Context, s *store.Store, l *store.Lease, src registry.Reader, d registry.Descriptor, o Options) (Image, error) {
	e := &edit{documents: documents{Reader: src, made: map[digest.Digest]document{}}, s: s, lease: l, o: o}
	d, err := e.any(ctx, d, true)
	if err != nil {
		return Image{}, err
	}
	img := Image{Reader: e.documents, Desc: d}
	return img, img.describe(ctx)
}

// describe finds the config.
func (i *Image) describe(ctx context.Context) error {
	d := i.Desc
	for range 8 { // indexes within indexes
		data, err := read(ctx, i.Reader, d)
		if err != nil {
			return err
		}
		refs, err := registry.Refers(d, data)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			return nil
		}
		if !image.IsIndex(d.MediaType) {
			i.Config = refs[0].Digest
			if !image.IsConfig(refs[0].MediaType) {
				return nil
			}
			if data, err = read(ctx, i.Reader, refs[0]); err != nil {
				return err
			}
			cfg, err := image.ParseConfig(data)
			if err == nil && cfg.Created != nil {
				i.Created = *cfg.Created
			}
			return err
		}
		d = refs[0]
	}
	return nil
}

// documents are manifests and configs made here, in front of what they were made of.
type documents struct {
	registry.Reader
	made map[digest.Digest]document
}

type document struct {
	desc registry.Descriptor
	data []byte
}

// Resolve implements registry.Reader.
func (d documents) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if doc, ok := d.made[ref.Digest]; ok {
		return doc.desc, nil
	}
	return d.Reader.Resolve(ctx, ref)
}

// Open implements registry.Reader.
func (d documents) Open(ctx context.Context, repo string, desc registry.Descriptor) (io.ReadCloser, error) {
	if doc, ok := d.made[desc.Digest]; ok {
		return registry.Verify(io.NopCloser(bytes.NewReader(doc.data)), desc), nil
	}
	return d.Reader.Open(ctx, repo, desc)
}

// add keeps v, a manifest, index or config, and returns its descriptor.
func (d documents) add(mediaType string, v any) (registry.Descriptor, error) {
	data, err := image.Marshal(v)
	if err != nil {
		return registry.Descriptor{}, err
	}
	desc := image.Describe(mediaType, data)
	d.made[desc.Digest] = document{desc, data}
	return desc, nil
}

// read is registry.ReadDocument by what is the content's own: descriptors of others have more in them.
func read(ctx context.Context, r registry.Reader, d registry.Descriptor) ([]byte, error) {
	return registry.ReadDocument(ctx, r, "", registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
}
