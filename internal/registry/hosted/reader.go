package hosted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"nacre/internal/registry"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// Resolve implements registry.Reader. Resolving a tag counts as pulling it.
func (r *Registry) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if ref.Digest == "" {
		d, err := r.tag(ctx, ref.Repo, ref.Tag)
		if err != nil {
			return d, absent(err)
		}
		r.pulled(ref.Repo, ref.Tag)
		return d, nil
	}
	p, err := r.part(ctx, ref.Repo, ref.Digest)
	if err == nil && !p.Kept {
		err = fmt.Errorf("%s: %w", ref, registry.ErrAbsent)
	}
	if err != nil {
		return registry.Descriptor{}, absent(err)
	}
	return p.Descriptor, nil
}

// absent is what readers are told of names that no repository can have.
func absent(err error) error {
	if errors.Is(err, registry.ErrInvalid) {
		return fmt.Errorf("%w: %w", registry.ErrAbsent, err)
	}
	return err
}

// Open implements registry.Reader.
func (r *Registry) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	p, err := r.part(ctx, repo, d.Digest)
	if err != nil {
		return nil, absent(err)
	}
	if d.Size > 0 && p.Size > 0 && d.Size != p.Size {
		return nil, fmt.Errorf("%s: %w: %d bytes, not %d", d.Digest, registry.ErrSize, p.Size, d.Size)
	}
	d = registry.Descriptor{Digest: d.Digest, Size: p.Size}
	if r.o.Images != nil && p.Until.IsZero() {
		return r.o.Images.Open(ctx, "", d)
	}
	return r.s.Open(ctx, "", d)
}

// OpenAt implements registry.Ranger.
func (r *Registry) OpenAt(ctx context.Context, repo string, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	rc, err := r.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	raw, ok := rc.(registry.Raw)
	if ok {
		if f, isFile := raw.Raw().(*os.File); isFile {
			return openAt(f, d, offset)
		}
	}
	return nil, errors.Join(rc.Close(), fmt.Errorf("%s: %w: from %d", d.Digest, registry.ErrUnsupported, offset))
}

func openAt(f *os.File, d registry.Descriptor, offset int64) (io.ReadCloser, error) {
	st, err := f.Stat()
	if err == nil && (offset < 0 || offset > st.Size()) {
		err = fmt.Errorf("%s: %w: it has %d bytes, none from %d on", d.Digest, registry.ErrSize, st.Size(), offset)
	}
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &rest{f: f, left: st.Size() - offset}, nil
}

// rest is a file from its middle. What is in it cannot be verified; that nothing is missing, can.
type rest struct {
	f    *os.File
	left int64
}

func (r *rest) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("%s: %w: %d bytes are missing", r.f.Name(), registry.ErrSize, r.left)
	}
	return n, err
}

func (r *rest) Close() error   { return r.f.Close() }
func (r *rest) Raw() io.Reader { return r.f }

// Stat implements registry.Stater. Whoever is told that content is there may refer to it from
// now on: it stays for as long as what is uploaded now.
func (r *Registry) Stat(ctx context.Context, repo string, d digest.Digest) (registry.Descriptor, error) {
	p, err := r.part(ctx, repo, d)
	if err == nil {
		err = r.revive(ctx, repo, p)
	}
	if err != nil {
		return registry.Descriptor{}, absent(err)
	}
	return p.Descriptor, nil
}

// revive lets a part stay longer, unless it does already: it is written down when half of the time is
// over. Errors: registry.ErrAbsent, where it went in this moment.
func (r *Registry) revive(ctx context.Context, repo string, p store.Part) error {
	if p.Until.IsZero() || r.o.ReadOnly || p.Until.Sub(r.o.Clock()) > r.o.Grace/2 {
		return nil
	}
	in, err := r.names.repo(repo)
	if err != nil {
		return err
	}
	err = r.s.RevivePart(ctx, in, p.Digest, r.until())
	if errors.Is(err, registry.ErrAbsent) {
		return err
	}
	if err != nil {
		r.o.Background(err) // a full disk is no reason not to read
	}
	return nil
}
