// Package registry is the one contract of everything that holds images: the
// local store, a remote registry, an OCI layout, a docker archive, memory in
// tests. Pull, push, save, load and copy are all Copy between two such values.
//
// An image is named by a Ref; its parts are blobs, named by digest within a
// repository. A manifest or index is a blob too: it is written like any other
// and then tagged. Media that keep one flat set of blobs (layouts, the store) ignore the
// repository when they look for a blob.
package registry

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Descriptor names content by media type, digest and size (OCI image spec, descriptor.md).
type Descriptor = ocispec.Descriptor

// Errors that callers decide on. Implementations wrap them.
var (
	ErrAbsent      = errors.New("not found")
	ErrDigest      = errors.New("content does not match its digest")
	ErrSize        = errors.New("content does not match its size")
	ErrReadOnly    = errors.New("read only")
	ErrUnsupported = errors.New("not supported")
	ErrInvalid     = errors.New("invalid content")
	// ErrBroken: an upload broke off where it cannot go on. Another one, from the beginning, may succeed.
	ErrBroken = errors.New("the upload broke off")
	ErrDenied = errors.New("not allowed") // by a rule of the registry: a tag that may not move, a quota, content in use
)

// Reader finds and reads images. Methods may be called concurrently.
type Reader interface {
	// Resolve returns the descriptor of the manifest or index that ref names, by
	// tag or, where ref has one, by digest. Errors: ErrAbsent.
	Resolve(ctx context.Context, ref Ref) (Descriptor, error)
	// Open returns the content of d, which may be a blob, a manifest or an index of
	// repository repo. Reading verifies: a read reaching the end of content that
	// does not have d's digest or size returns ErrDigest or ErrSize in place of
	// io.EOF. d.Size may be 0 where unknown, d.MediaType empty.
	// Errors: ErrAbsent.
	Open(ctx context.Context, repo string, d Descriptor) (io.ReadCloser, error)
}

// Writer accepts images: blobs first, what refers to them after. Methods may be
// called concurrently.
type Writer interface {
	// Has tells whether Create is needless for d: its content is there, whole.
	Has(ctx context.Context, repo string, d Descriptor) (bool, error)
	// Create begins the upload of d. d.MediaType tells what it is (a layer, a
	// manifest): an implementation may treat it accordingly while it arrives.
	Create(ctx context.Context, repo string, d Descriptor) (Upload, error)
	// Tag lets ref name d, a manifest or index already uploaded, replacing what it
	// named before. A ref without a tag but with a digest only records that d is wanted
	// for itself. Errors: ErrAbsent (d or something it refers to was not uploaded), ErrInvalid.
	Tag(ctx context.Context, ref Ref, d Descriptor) error
}

// Upload is content on its way in. It ends with Commit or Cancel; Cancel after
// Commit does nothing, so that it can be deferred. It is not for concurrent use.
type Upload interface {
	io.Writer
	// Commit checks that exactly the promised content was written and makes it
	// visible to others. Errors: ErrDigest, ErrSize, ErrInvalid.
	Commit() error
	Cancel() error
}

// Lister enumerates names.
type Lister interface {
	// Refs yields every name in the registry with what it names, in order of name.
	Refs(ctx context.Context) iter.Seq2[Named, error]
}

// Named is a name and what it names.
type Named struct {
	Ref  Ref
	Desc Descriptor
}

// Deleter removes names and content.
type Deleter interface {
	// Untag removes one name. What it named stays until collected. Errors: ErrAbsent.
	Untag(ctx context.Context, ref Ref) error
	// Delete removes one blob or manifest from a repository. Errors: ErrAbsent.
	Delete(ctx context.Context, repo string, d digest.Digest) error
}

// Registry is all of it.
type Registry interface {
	Reader
	Writer
	Lister
	Deleter
}
