// Package mem is a registry in memory, for tests and for small things in passing.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Registry holds blobs and names. Blobs are one flat set: repositories do not matter.
type Registry struct {
	// Sparse lets Tag accept manifests that refer to what is not there. To be set before use.
	Sparse bool

	mu    sync.RWMutex
	blobs map[digest.Digest][]byte
	types map[digest.Digest]string // media types of manifests
	names map[registry.Ref]registry.Descriptor
}

// New returns an empty registry.
func New() *Registry {
	return &Registry{
		blobs: map[digest.Digest][]byte{},
		types: map[digest.Digest]string{},
		names: map[registry.Ref]registry.Descriptor{},
	}
}

// Resolve implements registry.Reader.
func (r *Registry) Resolve(_ context.Context, ref registry.Ref) (registry.Descriptor, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if ref.Digest != "" {
		data, ok := r.blobs[ref.Digest]
		mediaType := r.types[ref.Digest]
		if !ok || mediaType == "" {
			return registry.Descriptor{}, fmt.Errorf("%s: %w", ref, registry.ErrAbsent)
		}
		return registry.Descriptor{MediaType: mediaType, Digest: ref.Digest, Size: int64(len(data))}, nil
	}
	d, ok := r.names[ref]
	if !ok {
		return registry.Descriptor{}, fmt.Errorf("%s: %w", ref, registry.ErrAbsent)
	}
	return d, nil
}

// Open implements registry.Reader.
func (r *Registry) Open(_ context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	r.mu.RLock()
	data, ok := r.blobs[d.Digest]
	r.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("%s: %w", d.Digest, registry.ErrAbsent)
	}
	return registry.Verify(io.NopCloser(bytes.NewReader(data)), d), nil
}

// Has implements registry.Writer.
func (r *Registry) Has(_ context.Context, _ string, d registry.Descriptor) (bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	data, ok := r.blobs[d.Digest]
	return ok && (d.Size == 0 || d.Size == int64(len(data))), nil
}

// Create implements registry.Writer.
func (r *Registry) Create(_ context.Context, _ string, d registry.Descriptor) (registry.Upload, error) {
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	return &upload{r: r, d: d, check: check}, nil
}

// Tag implements registry.Writer.
func (r *Registry) Tag(_ context.Context, ref registry.Ref, d registry.Descriptor) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.blobs[d.Digest]
	if !ok {
		return fmt.Errorf("tag %s: %s: %w", ref, d.Digest, registry.ErrAbsent)
	}
	if !image.IsManifestOrIndex(d.MediaType) {
		return fmt.Errorf("tag %s: %w: media type %q", ref, registry.ErrInvalid, d.MediaType)
	}
	children, err := registry.Refers(d, data)
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	for _, c := range children {
		if _, ok := r.blobs[c.Digest]; !ok && !r.Sparse && !image.IsIndex(d.MediaType) && !registry.MayLack(c) {
			return fmt.Errorf("tag %s: %s: %w", ref, c.Digest, registry.ErrAbsent)
		}
	}
	d.Size = int64(len(data))
	r.types[d.Digest] = d.MediaType
	if ref.Tag != "" {
		ref.Digest = ""
		r.names[ref] = d
	}
	return nil
}

// Refs implements registry.Lister.
func (r *Registry) Refs(context.Context) iter.Seq2[registry.Named, error] {
	r.mu.RLock()
	names := maps.Clone(r.names)
	r.mu.RUnlock()
	refs := slices.SortedFunc(maps.Keys(names), func(a, b registry.Ref) int { return strings.Compare(a.String(), b.String()) })
	return func(yield func(registry.Named, error) bool) {
		for _, ref := range refs {
			if !yield(registry.Named{Ref: ref, Desc: names[ref]}, nil) {
				return
			}
		}
	}
}

// Untag implements registry.Deleter.
func (r *Registry) Untag(_ context.Context, ref registry.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.names[ref]; !ok {
		return fmt.Errorf("%s: %w", ref, registry.ErrAbsent)
	}
	delete(r.names, ref)
	return nil
}

// Delete implements registry.Deleter. Names of what is deleted go with it.
func (r *Registry) Delete(_ context.Context, _ string, d digest.Digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.blobs[d]; !ok {
		return fmt.Errorf("%s: %w", d, registry.ErrAbsent)
	}
	delete(r.blobs, d)
	delete(r.types, d)
	maps.DeleteFunc(r.names, func(_ registry.Ref, n registry.Descriptor) bool { return n.Digest == d })
	return nil
}

type upload struct {
	r     *Registry
	d     registry.Descriptor
	check *registry.Checker
	buf   bytes.Buffer
	done  bool
}

func (u *upload) Write(p []byte) (int, error) {
	if n, err := u.check.Write(p); err != nil {
		return n, err
	}
	return u.buf.Write(p)
}

func (u *upload) Commit() error {
	if u.done {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	u.done = true
	if err := u.check.Check(); err != nil {
		return err
	}
	u.r.mu.Lock()
	defer u.r.mu.Unlock()
	u.r.blobs[u.d.Digest] = u.buf.Bytes()
	if image.IsManifestOrIndex(u.d.MediaType) {
		u.r.types[u.d.Digest] = u.d.MediaType
	}
	return nil
}

func (u *upload) Cancel() error {
	u.done = true
	u.buf = bytes.Buffer{}
	return nil
}
