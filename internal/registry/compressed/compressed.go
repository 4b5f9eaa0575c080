// Package compressed turns the images of a store into what leaves it: the same images with
// their layers compressed. A built layer is kept as a tar and compressed when it is first
// asked for; what it became is remembered by the store. What came compressed goes out as it came.
//
// It leaves the bytes of each kind of compression to package layer, and what is kept, and for how long, to the store.
package compressed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"nacre/internal/event"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Types are the media types of manifests, configs and layers.
type Types int

// Which media types to use.
const (
	AsIs   Types = iota // those that an image has
	OCI                 // the OCI image spec's
	Docker              // docker's schema 2
)

// Options of New and Send. The zero value makes gzip, as every registry and every client knows it.
type Options struct {
	// Compression of layers that have no compressed form. No Kind is gzip.
	Compression layer.Compression
	// Force compresses again what came compressed in another way.
	Force bool
	Types Types
	// Source is where manifests and configs are read, and what else the store lacks; nil is the store.
	Source registry.Reader
	// Sink hears of every layer that is compressed; nil: nobody. Step gives the IDs of
	// these steps, one call at a time; nil counts from 1.
	Sink event.Sink
	Step func() int
	// Parallel is how many layers are compressed at once; 0 means 4: each uses all cores,
	// but small ones end before that shows, and what is sent meanwhile waits for the network.
	Parallel int
}

// Reader reads images of a store with their layers compressed. Its methods may be called concurrently.
type Reader struct {
	s   *store.Store
	src registry.Reader
	o   Options
	how string // names what the options ask for, in the store

	to *outlet // where to send what is compressed, or nil

	mu   sync.Mutex // around o.Step and what follows
	kept map[digest.Digest]document
}

// document is a manifest or config that the store does not keep, because it does not have what it was made of.
type document struct {
	desc registry.Descriptor
	data []byte
}

// New returns the images of s as the options ask for them. Options that cannot be
// fulfilled are an error of Resolve.
func New(s *store.Store, o Options) *Reader {
	if o.Compression.Kind == "" {
		o.Compression.Kind = layer.Gzip
	}
	if o.Source == nil {
		o.Source = s
	}
	if o.Sink == nil {
		o.Sink = event.Discard
	}
	if o.Step == nil {
		n := 0
		o.Step = func() int { n++; return n }
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	r := &Reader{s: s, src: o.Source, o: o, how: o.Compression.Name(), kept: map[digest.Digest]document{}}
	if o.Force {
		r.how += ",force"
	}
	if o.Types != AsIs {
		r.how += [...]string{"", ",oci", ",docker"}[o.Types]
	}
	return r
}

// Resolve implements registry.Reader: what ref names by tag, with its layers compressed. By digest everything
// is as it is; see Remake.
func (r *Reader) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if doc, ok := r.document(ref.Digest); ok {
		return doc.desc, nil
	}
	d, err := r.src.Resolve(ctx, ref)
	if err != nil || ref.Digest != "" {
		return d, err
	}
	return r.Remake(ctx, d)
}

// Remake returns what manifest or index d becomes: d itself if there is nothing to compress. Its
// content, and all that it refers to, can be opened.
// Errors: registry.ErrAbsent, registry.ErrInvalid, those of compressing.
func (r *Reader) Remake(ctx context.Context, d registry.Descriptor) (registry.Descriptor, error) {
	l, err := r.lease(ctx)
	if err != nil {
		return d, err
	}
	if l != nil {
		defer l.Release()
	}
	return r.remake(ctx, l, d)
}

// lease holds what is made; of a store that is only read it is nil, and what is there already has to do.
func (r *Reader) lease(ctx context.Context) (*store.Lease, error) {
	l, err := r.s.Lease(ctx)
	if errors.Is(err, registry.ErrReadOnly) {
		return nil, nil
	}
	return l, err
}

// Open implements registry.Reader. A compressed form that the store dropped is made again.
func (r *Reader) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	if doc, ok := r.document(d.Digest); ok {
		if err := registry.CheckDescriptor(d); err != nil {
			return nil, err
		}
		return registry.Verify(io.NopCloser(bytes.NewReader(doc.data)), d), nil
	}
	rc, err := r.src.Open(ctx, repo, d)
	if !errors.Is(err, registry.ErrAbsent) {
		return rc, err
	}
	f, ferr := r.s.FormOf(ctx, d.Digest)
	if ferr != nil {
		if errors.Is(ferr, registry.ErrAbsent) {
			ferr = err
		}
		return nil, ferr
	}
	return r.reopen(ctx, f, d)
}

// reopen makes form f again, whose blob is gone, and opens it as d. Where the store has no room for it, it is made while it is read.
func (r *Reader) reopen(ctx context.Context, f store.Form, d registry.Descriptor) (io.ReadCloser, error) {
	c, err := parseName(f.How)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.Digest, registry.ErrAbsent, err)
	}
	l, err := r.s.Lease(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Release()                               // an open file stays
	again, err := r.form(ctx, l, f.Layer, c, false) // who reads it sends it
	if errors.Is(err, unix.ENOSPC) {
		return r.passing(ctx, f, c, d)
	}
	if err != nil {
		return nil, err
	}
	if again.Desc.Digest != d.Digest {
		return nil, fmt.Errorf("%s: %w: layer %s gives %s now", d.Digest, registry.ErrAbsent, f.Layer, again.Desc.Digest)
	}
	return r.s.Open(ctx, "", d)
}

// Stat implements registry.Stater.
func (r *Reader) Stat(ctx context.Context, repo string, d digest.Digest) (registry.Descriptor, error) {
	if doc, ok := r.document(d); ok {
		return doc.desc, nil
	}
	if f, err := r.s.FormOf(ctx, d); err == nil {
		return registry.Descriptor{MediaType: f.Desc.MediaType, Digest: d, Size: f.Desc.Size}, nil
	}
	return registry.Stat(ctx, r.src, repo, d)
}

func (r *Reader) document(d digest.Digest) (document, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, ok := r.kept[d]
	return doc, ok
}
