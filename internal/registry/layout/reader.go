package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/registry"
)

// Resolve implements registry.Reader. A ref without repository finds what has its tag under
// any name, the zero Ref the only image of the layout.
func (l *Layout) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	names, err := l.names()
	if err != nil {
		return registry.Descriptor{}, err
	}
	d, err := names.Resolve(ref)
	if errors.Is(err, registry.ErrAbsent) && ref.Digest != "" {
		return registry.Identify(ctx, l, ref.Repo, ref.Digest) // the child of an index, or untagged
	}
	return d, err
}

// Open implements registry.Reader.
func (l *Layout) Open(_ context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return nil, err
	}
	f, err := openRegular(l.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.Digest, registry.ErrAbsent)
	}
	if err != nil {
		return nil, err
	}
	return registry.Verify(f, d), nil
}

// Has implements registry.Writer. What it was asked for is not collected for a while.
func (l *Layout) Has(_ context.Context, _ string, d registry.Descriptor) (bool, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return false, err
	}
	fi, err := os.Stat(l.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ok := fi.Mode().IsRegular() && (d.Size == 0 || d.Size == fi.Size())
	if ok {
		l.touch(d.Digest, time.Since(fi.ModTime()))
	}
	return ok, nil
}

// Refs implements registry.Lister. Images without a name come with their digest alone.
func (l *Layout) Refs(context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		names, err := l.names()
		if err != nil {
			yield(registry.Named{}, err)
			return
		}
		for _, n := range names.All() {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// openRegular opens a regular file. The layout may be another one's making: opening a
// FIFO in it must not wait for a writer.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: not a regular file", path, registry.ErrInvalid)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := registry.ReadAll(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}
