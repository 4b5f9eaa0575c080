package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Create implements registry.Writer. What was begun and not ended, even by kill -9,
// leaves nothing behind where the filesystem knows nameless files (O_TMPFILE).
func (l *Layout) Create(_ context.Context, _ string, d registry.Descriptor) (registry.Upload, error) {
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	f, err := createTemp(l.dir)
	if err != nil {
		return nil, err
	}
	return &upload{temp: f, check: check, path: l.blobPath(d.Digest)}, nil
}

// Tag implements registry.Writer.
func (l *Layout) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	if err := l.whole(ctx, ref.Repo, &d); err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	return l.change(ctx, func(n registry.Names) (registry.Names, error) { return n.With(ref, d), nil })
}

// whole checks that d is a manifest that is here with what it refers to, and
// completes d. Of an index only the manifests that are here need to be whole.
func (l *Layout) whole(ctx context.Context, repo string, d *registry.Descriptor) error {
	if !image.IsManifestOrIndex(d.MediaType) {
		return fmt.Errorf("%w: media type %q", registry.ErrInvalid, d.MediaType)
	}
	rc, err := l.Open(ctx, repo, *d)
	if err != nil {
		return err
	}
	defer rc.Close()
	data, err := registry.ReadAll(rc, image.MaxSize)
	if err != nil {
		return err
	}
	d.Size = int64(len(data))
	refers, err := registry.Refers(*d, data)
	if err != nil {
		return err
	}
	for _, c := range refers {
		ok, err := l.Has(ctx, repo, c)
		if err != nil {
			return err
		}
		if !ok && !image.IsIndex(d.MediaType) && !registry.MayLack(c) {
			return fmt.Errorf("%s refers to %s: %w", d.Digest, c.Digest, registry.ErrAbsent)
		}
	}
	return nil
}

// Untag implements registry.Deleter.
func (l *Layout) Untag(ctx context.Context, ref registry.Ref) error {
	return l.change(ctx, func(n registry.Names) (registry.Names, error) {
		n, ok := n.Without(ref)
		if !ok {
			return n, fmt.Errorf("%s: %w", ref, registry.ErrAbsent)
		}
		return n, nil
	})
}

// Delete implements registry.Deleter. Names of what is deleted go first.
func (l *Layout) Delete(ctx context.Context, _ string, d digest.Digest) error {
	if err := registry.CheckDescriptor(registry.Descriptor{Digest: d}); err != nil {
		return err
	}
	return l.change(ctx, func(n registry.Names) (registry.Names, error) {
		without, named := n.WithoutDigest(d)
		if named {
			if err := l.write(without); err != nil {
				return n, err
			}
		}
		err := os.Remove(l.blobPath(d))
		if errors.Is(err, fs.ErrNotExist) && !named {
			return n, fmt.Errorf("%s: %w", d, registry.ErrAbsent)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return without, err
	})
}

// change replaces index.json by what f makes of it, alone among all processes.
func (l *Layout) change(ctx context.Context, f func(registry.Names) (registry.Names, error)) error {
	unlock, err := lock(ctx, filepath.Join(l.dir, ocispec.ImageLayoutFile))
	if err != nil {
		return err
	}
	defer unlock()
	names, err := l.names()
	if err != nil {
		return err
	}
	if names, err = f(names); err != nil {
		return err
	}
	return l.write(names)
}

func (l *Layout) write(n registry.Names) error {
	data, err := n.Marshal()
	if err != nil {
		return err
	}
	return replaceFile(l.dir, ocispec.ImageIndexFile, data)
}

// upload is one blob on its way in.
type upload struct {
	temp  *temp
	check *registry.Checker
	path  string
	ended bool
}

func (u *upload) Write(p []byte) (int, error) {
	if _, err := u.check.Write(p); err != nil {
		return 0, err
	}
	return u.temp.Write(p)
}

// ReadFrom lets the kernel copy from a file.
func (u *upload) ReadFrom(r io.Reader) (int64, error) { return u.check.CopyTo(u.temp.File, r) }

// Commit syncs before the blob gets its name: index.json will promise it.
func (u *upload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", filepath.Base(u.path))
	}
	defer u.Cancel()
	if err := u.check.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(u.path), 0o755); err != nil {
		return err
	}
	return u.temp.keep(u.path)
}

func (u *upload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	return u.temp.discard()
}
