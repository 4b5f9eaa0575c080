package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// Create implements registry.Writer. What it is decides how it is kept: a
// manifest or index is small and held in memory, a layer is unpacked from its
// compression and indexed while it arrives, anything else is a file.
func (s *Store) Create(ctx context.Context, _ string, d registry.Descriptor) (registry.Upload, error) {
	check, err := registry.NewChecker(d)
	if err != nil {
		return nil, err
	}
	if _, err := hexOf(d.Digest); err != nil {
		return nil, err
	}
	l, err := s.ownLease(ctx)
	if err != nil {
		return nil, err
	}
	u := upload{s: s, ctx: ctx, lease: l, d: d, check: check}
	if image.IsManifest(d.MediaType) || image.IsIndex(d.MediaType) {
		return &documentUpload{upload: u}, nil
	}
	isLayer := image.IsLayer(d.MediaType)
	if isLayer {
		if u.unlock, err = s.awaitUpload(ctx, d); err != nil {
			return nil, err
		}
	}
	if ok, err := s.Has(ctx, "", d); err != nil || ok {
		u.end()
		return &knownUpload{u}, err
	}
	if isLayer {
		return newLayerUpload(u)
	}
	return newFileUpload(u)
}

// upload is what all kinds of uploads share.
type upload struct {
	s      *Store
	ctx    context.Context // of Create: an upload ends with it
	lease  *Lease
	d      registry.Descriptor
	check  *registry.Checker
	unlock func() // nil if there is no lock
	ended  bool
}

func (u *upload) end() {
	if u.unlock != nil {
		u.unlock()
		u.unlock = nil
	}
}

// finish is the beginning of every Commit.
func (u *upload) finish() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	u.ended = true
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if err := u.check.Check(); err != nil {
		return err
	}
	u.d.Size = u.check.Size()
	u.d = registry.Descriptor{MediaType: u.d.MediaType, Digest: u.d.Digest, Size: u.d.Size}
	return nil
}

// knownUpload is of content that is there already: it is only compared.
type knownUpload struct{ upload }

func (u *knownUpload) Write(p []byte) (int, error) { return u.check.Write(p) }
func (u *knownUpload) Commit() error               { return u.finish() }
func (u *knownUpload) Cancel() error               { u.ended = true; return nil }

// documentUpload is of a manifest or index.
type documentUpload struct {
	upload
	data []byte
}

func (u *documentUpload) Write(p []byte) (int, error) {
	if len(u.data)+len(p) > image.MaxSize {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", u.d.Digest, registry.ErrInvalid, image.MaxSize)
	}
	if n, err := u.check.Write(p); err != nil {
		return n, err
	}
	u.data = append(u.data, p...)
	return len(p), nil
}

func (u *documentUpload) Commit() error {
	if err := u.finish(); err != nil {
		return err
	}
	return u.s.putBlob(u.ctx, u.lease, u.d, u.data)
}

func (u *documentUpload) Cancel() error {
	u.ended, u.data = true, nil
	return nil
}

// fileUpload is of anything whose meaning is not known here.
type fileUpload struct {
	upload
	path string
	f    *os.File
}

// syncBelow is the size up to which files are synced when they arrive: configs are, and
// whatever else costs one short write.
const syncBelow = 1 << 20

func newFileUpload(u upload) (registry.Upload, error) {
	path, err := u.s.tempName("blob")
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, u.s.fail(err)
	}
	return &fileUpload{upload: u, path: path, f: f}, nil
}

func (u *fileUpload) Write(p []byte) (int, error) {
	if n, err := u.check.Write(p); err != nil {
		return n, err
	}
	n, err := u.f.Write(p)
	return n, u.s.fail(err)
}

func (u *fileUpload) Commit() error {
	err := u.finish()
	if err != nil {
		u.f.Close()
		os.Remove(u.path)
		return err
	}
	boot := u.s.boot
	if u.d.Size <= syncBelow {
		boot, err = "", u.f.Sync()
	}
	if err := errors.Join(err, u.f.Close()); err != nil {
		os.Remove(u.path)
		return u.s.fail(err)
	}
	return u.s.keepBlob(u.ctx, u.lease, u.path, u.d, boot, nil)
}

func (u *fileUpload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	return errors.Join(u.f.Close(), os.Remove(u.path))
}
