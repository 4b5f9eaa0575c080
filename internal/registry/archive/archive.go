// Package archive reads and writes images as one tar: what docker save, podman
// save and skopeo write, and OCI image layouts as a tar.
//
// A docker archive lists its images in manifest.json. The older form has layers as
// <id>/layer.tar or <digest>.tar, and no manifests; they are made up from the configs,
// always the same for the same archive. Before docker 1.10 there was no manifest.json either, and configs are made up, too.
// The newer form, which is the one written here, is an OCI layout at the same time. Where an archive has an index.json that decides, since it keeps the digests of manifests.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
)

// ErrTruncated: the archive ends before its last entry does.
var ErrTruncated = errors.New("truncated archive")

// ErrNoImages: a tar of other things.
var ErrNoImages = errors.New("not an image archive")

// ErrLimit: the archive is larger than any that is meant to be loaded.
var ErrLimit = errors.New("archive exceeds a limit")

// Archive is an image archive opened for reading: a registry.Reader and a Lister. Its
// methods may be called concurrently.
type Archive struct {
	table  *table
	names  registry.Names
	blobs  map[digest.Digest]blob   // of the older form: configs and layers
	made   map[digest.Digest][]byte // of the older form: manifests
	closer io.Closer
}

// Open opens the archive in r. A plain tar in a regular file is read in place, so r must stay open as
// long as the Archive; anything else, a pipe or a compressed tar (gzip, zstd, xz,
// bzip2), is first written to a nameless file in the directory scratch, as large as the tar.
// Errors: ErrTruncated, ErrLimit, registry.ErrInvalid, registry.ErrUnsupported.
func Open(ctx context.Context, r io.Reader, scratch string) (*Archive, error) {
	src, err := openSource(ctx, r, scratch)
	if err != nil {
		return nil, err
	}
	a, err := read(ctx, src)
	if err != nil {
		src.Close()
		return nil, err
	}
	return a, nil
}

func read(ctx context.Context, src *source) (*Archive, error) {
	t, err := readTable(ctx, src)
	if err != nil {
		return nil, err
	}
	a := &Archive{table: t, closer: src}
	switch {
	case t.has(indexFile):
		err = a.readIndex()
	case t.has(manifestFile):
		err = a.readManifest(ctx)
	default:
		err = a.readAncestors(ctx)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Close releases the file.
func (a *Archive) Close() error { return a.closer.Close() }

// Resolve implements registry.Reader. A ref without repository finds what has its tag under
// any name, the zero Ref the only image of the archive.
func (a *Archive) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	d, err := a.names.Resolve(ref)
	if errors.Is(err, registry.ErrAbsent) && ref.Digest != "" {
		return registry.Identify(ctx, a, ref.Repo, ref.Digest) // the child of an index
	}
	return d, err
}

// Open implements registry.Reader.
func (a *Archive) Open(_ context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if data, ok := a.made[d.Digest]; ok {
		return registry.Verify(readCloser(data), d), nil
	}
	b, ok := a.blobs[d.Digest]
	if !ok {
		e, err := a.table.file(blobName(d.Digest))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Digest, err)
		}
		b = blob{entry: e}
	}
	rc, err := a.table.openBlob(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return registry.Verify(rc, d), nil
}

// Refs implements registry.Lister. Images without a name come with their digest alone.
func (a *Archive) Refs(context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for _, n := range a.names.All() {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// readIndex reads an archive that is an OCI layout.
func (a *Archive) readIndex() error {
	if a.table.has(layoutFile) {
		data, err := a.table.read(layoutFile, 4096)
		if err != nil {
			return err
		}
		if err := checkLayout(data); err != nil {
			return err
		}
	}
	data, err := a.table.read(indexFile, registry.MaxNames)
	if err != nil {
		return err
	}
	a.names, err = registry.ParseNames(data)
	return err
}
