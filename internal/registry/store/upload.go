package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"nacre/internal/image"
	"nacre/internal/layer"
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
	if err := checkDigest(d.Digest); err != nil {
		return nil, err
	}
	l, err := s.ownLease(ctx)
	if err != nil {
		return nil, err
	}
	u := upload{s: s, ctx: ctx, lease: l, d: d, check: check}
	if image.IsManifestOrIndex(d.MediaType) {
		return &documentUpload{upload: u}, nil
	}
	if u.unlock, u.locked, err = s.awaitUpload(ctx, d); err != nil {
		return nil, err
	}
	if ok, err := s.Has(ctx, "", d); err != nil || ok {
		u.end()
		return &knownUpload{upload: u}, err
	}
	s.boundPartials()
	if image.IsLayer(d.MediaType) {
		return newLayerUpload(u)
	}
	return &fileUpload{upload: u}, nil
}

// upload is what all kinds of uploads share.
type upload struct {
	s      *Store
	ctx    context.Context // of Create: an upload ends with it
	lease  *Lease
	d      registry.Descriptor
	check  *registry.Checker
	unlock func() // to be called at the end; may be nil
	locked bool   // no other process receives d, and the file in partial/ is ours
	beat   time.Time
	ended  bool
}

func (u *upload) end() {
	if u.unlock != nil {
		u.unlock()
		u.unlock, u.locked = nil, false
	}
}

// live shows those who wait that the upload goes on.
func (u *upload) live() {
	if u.locked && time.Since(u.beat) > time.Second {
		u.beat = time.Now()
		os.Chtimes(u.s.uploadLock(u.d), u.beat, u.beat)
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

// knownUpload is of content that is there already: what comes is only compared.
type knownUpload struct {
	upload
	whole bool // nothing needs to come
}

// Offset implements registry.Resumer: all is there.
func (u *knownUpload) Offset() int64 {
	u.whole = u.check.Size() == 0 && u.d.Size > 0
	if !u.whole {
		return 0
	}
	return u.d.Size
}

func (u *knownUpload) Write(p []byte) (int, error) {
	if u.whole && len(p) > 0 {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", u.d.Digest, registry.ErrSize, u.d.Size)
	}
	return u.check.Write(p)
}

func (u *knownUpload) Commit() error {
	if u.whole && !u.ended {
		u.ended = true
		return u.ctx.Err()
	}
	return u.finish()
}

func (u *knownUpload) Cancel() error { u.ended = true; return nil }

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
	f   *os.File // nil until there is something to write
	err error    // sticky, of what was replayed
}

// syncBelow is the size up to which files are synced when they arrive: configs are, and
// whatever else costs one short write.
const syncBelow = 1 << 20

// Offset implements registry.Resumer.
func (u *fileUpload) Offset() int64 {
	if f := u.resumePartial(); f != nil {
		u.f = f
		u.err = u.replay(f, func(p []byte) error { _, err := u.check.Write(p); return err })
	}
	return u.check.Size()
}

func (u *fileUpload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	if u.err != nil {
		return 0, u.err
	}
	if n, err := u.check.Write(p); err != nil {
		u.err = err
		return n, err
	}
	if err := u.open(); err != nil {
		return 0, err
	}
	u.live()
	n, err := u.f.Write(p)
	u.err = u.s.fail(err)
	return n, u.err
}

func (u *fileUpload) open() (err error) {
	if u.f == nil {
		u.f, err = u.createPartial()
	}
	return u.s.fail(err)
}

func (u *fileUpload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	defer u.end()
	err := u.err
	if err == nil {
		err = u.open() // empty content has none yet
	}
	if err == nil {
		err = u.finish()
	}
	if err != nil {
		u.drop(err)
		return err
	}
	boot := u.s.boot
	if u.d.Size <= syncBelow {
		boot, err = "", u.f.Sync()
	}
	if err := errors.Join(err, u.f.Close()); err != nil {
		os.Remove(u.f.Name())
		return u.s.fail(err)
	}
	return u.s.keepBlob(u.ctx, u.lease, u.f.Name(), u.d, boot)
}

func (u *fileUpload) Cancel() error {
	if u.ended {
		return nil
	}
	defer u.end()
	return u.drop(u.err)
}

// drop ends an upload that did not succeed, because of err or (nil) because it was given up.
func (u *fileUpload) drop(err error) error {
	u.ended = true
	if u.f == nil {
		return nil
	}
	return u.leavePartial(u.f, worthKeeping(err))
}

// worthKeeping tells whether what arrived before an error may be of use: not if it is wrong, nor
// where it fills the disk.
func worthKeeping(err error) bool {
	for _, bad := range []error{registry.ErrDigest, registry.ErrSize, registry.ErrInvalid, layer.ErrLimit} {
		if errors.Is(err, bad) {
			return false
		}
	}
	return !isFull(err)
}
