package edit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"reflect"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Edit is an image being edited: a registry.Reader of what it is made of, and of what was made of that. Its
// methods may be called concurrently once Apply has returned.
type Edit struct {
	src   Source
	made  map[digest.Digest]document
	files map[digest.Digest]string // layers made here, by what they travel as
	other map[digest.Digest]Source // layers of other images
}

// document is a manifest, index or config that was made here.
type document struct {
	desc registry.Descriptor
	data []byte
}

var _ registry.Reader = (*Edit)(nil)

// New begins to edit an image.
func New(s Source) *Edit {
	return &Edit{src: s, made: map[digest.Digest]document{}, files: map[digest.Digest]string{}, other: map[digest.Digest]Source{}}
}

// Scratch begins with an image of no layers.
func Scratch(p image.Platform) (*Edit, error) {
	cfg := image.Config{}
	cfg.Platform = p
	a, err := image.Assemble(cfg, nil)
	if err != nil {
		return nil, err
	}
	e := New(Source{Desc: a.ManifestDesc})
	e.made[a.ConfigDesc.Digest] = document{a.ConfigDesc, a.Config}
	e.made[a.ManifestDesc.Digest] = document{a.ManifestDesc, a.Manifest}
	return e, nil
}

// Resolve implements registry.Reader.
func (e *Edit) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if doc, ok := e.made[ref.Digest]; ok {
		return doc.desc, nil
	}
	if e.src.Reader == nil {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", ref, registry.ErrAbsent)
	}
	if ref.Digest != "" && ref.Digest == e.src.Desc.Digest {
		return e.src.Desc, nil
	}
	return e.src.Reader.Resolve(ctx, ref)
}

// Open implements registry.Reader.
func (e *Edit) Open(ctx context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	if doc, ok := e.made[d.Digest]; ok {
		return registry.Verify(io.NopCloser(bytes.NewReader(doc.data)), d), nil
	}
	if path, ok := e.files[d.Digest]; ok {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return registry.Verify(f, d), nil
	}
	s, ok := e.other[d.Digest]
	if !ok {
		s = e.src
	}
	if s.Reader == nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, registry.ErrAbsent)
	}
	return s.Reader.Open(ctx, s.Repo, d)
}

// MountFrom names, for registry.CopyOptions, the repository of dst that has a blob already, if it is dst that the
// blob comes from.
func (e *Edit) MountFrom(dst registry.Writer) func(registry.Descriptor) []string {
	return func(d registry.Descriptor) []string {
		if e.files[d.Digest] != "" {
			return nil
		}
		s, ok := e.other[d.Digest]
		if !ok {
			s = e.src
		}
		if s.Reader == nil || s.Repo == "" || !reflect.TypeOf(dst).Comparable() || any(dst) != any(s.Reader) {
			return nil
		}
		return []string{s.Repo}
	}
}

// read returns the bytes of a document of s, or of one that was made here.
func (e *Edit) read(ctx context.Context, s Source, d registry.Descriptor) ([]byte, error) {
	if doc, ok := e.made[d.Digest]; ok {
		return doc.data, nil
	}
	if s.Reader == nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, registry.ErrAbsent)
	}
	return registry.ReadDocument(ctx, s.Reader, s.Repo, registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
}

// put keeps the document d, which is raw and was read as was, as now, and describes it. What did not change stays d.
func put[T any](e *Edit, d registry.Descriptor, mediaType string, raw []byte, was, now T) (registry.Descriptor, error) {
	data, err := patch(raw, was, now)
	if err != nil {
		return d, err
	}
	if bytes.Equal(data, raw) && mediaType == d.MediaType {
		return registry.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, nil
	}
	if len(data) > image.MaxSize {
		return d, fmt.Errorf("%w: %s of %d bytes, more than %d", registry.ErrInvalid, mediaType, len(data), image.MaxSize)
	}
	made := image.Describe(mediaType, data)
	e.made[made.Digest] = document{made, data}
	return made, nil
}
