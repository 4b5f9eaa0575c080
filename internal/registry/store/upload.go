package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/image"
	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
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

// layerUpload feeds what arrives to layer.Ingest and, unless it is a plain tar, to a file.
type layerUpload struct {
	upload
	dir    string // layer.tar and layer.erofs come to be here
	remove func()
	head   []byte   // the first bytes, until there are enough to tell a compression
	blob   *os.File // nil for a plain tar
	pipe   *io.PipeWriter
	done   chan struct{} // closed when Ingest returned
	info   layer.Info
	err    error // of Ingest
	beat   time.Time
}

// magicSize is enough bytes to recognize any compression that layer.Decompress does.
const magicSize = 6

func newLayerUpload(u upload) (registry.Upload, error) {
	dir, remove, err := u.s.TempDir("pull")
	if err != nil {
		u.end()
		return nil, err
	}
	r, w := io.Pipe()
	l := &layerUpload{upload: u, dir: dir, remove: remove, pipe: w, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.info, l.err = layer.Ingest(u.ctx, dir, r, layer.IngestOptions{})
		if errors.Is(l.err, layer.ErrLimit) || isFull(l.err) {
			r.CloseWithError(l.err) // no use in sending the rest
			return
		}
		// Bytes after the end of the compressed stream count for the digest, and a
		// stream that is no layer may have arrived damaged: Commit says which.
		io.Copy(io.Discard, r)
	}()
	return l, nil
}

func (u *layerUpload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	if n, err := u.check.Write(p); err != nil {
		return n, err
	}
	if u.unlock != nil && time.Since(u.beat) > time.Second {
		u.beat = time.Now()
		os.Chtimes(u.s.uploadLock(u.d), u.beat, u.beat)
	}
	if u.head != nil || u.check.Size() == int64(len(p)) {
		u.head = append(u.head, p...)
		if len(u.head) < magicSize {
			return len(p), nil
		}
		head := u.head
		u.head = nil
		return len(p), u.send(head, true)
	}
	return len(p), u.send(p, false)
}

func (u *layerUpload) send(p []byte, first bool) error {
	if first && compressed(p) {
		f, err := os.OpenFile(filepath.Join(u.dir, "blob"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return u.s.fail(err)
		}
		u.blob = f
	}
	if u.blob != nil {
		if _, err := u.blob.Write(p); err != nil {
			return u.s.fail(err)
		}
	}
	_, err := u.pipe.Write(p)
	return u.s.fail(err)
}

// compressed tells whether a stream begins like one of those that
// layer.Decompress takes apart: gzip, zstd, xz, bzip2.
func compressed(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "BZh"} {
		if len(head) >= len(magic) && string(head[:len(magic)]) == magic {
			return true
		}
	}
	return false
}

func (u *layerUpload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	defer u.close()
	if u.head != nil {
		head := u.head
		u.head = nil
		if err := u.send(head, true); err != nil {
			u.ended = true
			return err
		}
	}
	if err := u.finish(); err != nil {
		return err
	}
	u.pipe.Close()
	<-u.done
	if u.err != nil {
		return u.s.layerError(u.d.Digest, u.err)
	}
	return u.keep()
}

// layerError tells whether a layer could not be kept because of what it is.
func (s *Store) layerError(d digest.Digest, err error) error {
	for _, bad := range []error{layer.ErrFormat, layer.ErrUnsafe, layer.ErrLimit, layer.ErrTruncated, layer.ErrDiffID} {
		if errors.Is(err, bad) {
			return fmt.Errorf("layer %s: %w: %w", d, registry.ErrInvalid, err)
		}
	}
	return fmt.Errorf("layer %s: %w", d, s.fail(err))
}

// keep records the layer and, where it came compressed, the blob it came as.
func (u *layerUpload) keep() error {
	if u.blob == nil {
		if u.info.DiffID != u.d.Digest {
			// No compression we know, and yet not what was sent.
			return fmt.Errorf("layer %s: %w: its tar is %s", u.d.Digest, registry.ErrInvalid, u.info.DiffID)
		}
		return u.s.adopt(u.ctx, u.lease, u.dir, u.info, "", nil)
	}
	if err := u.blob.Close(); err != nil {
		return u.s.fail(err)
	}
	// Out of the directory that becomes the layer's.
	tmp, err := u.s.tempName("blob")
	if err != nil {
		return err
	}
	if err := os.Rename(u.blob.Name(), tmp); err != nil {
		return u.s.fail(err)
	}
	defer os.Remove(tmp) // gone from there if all went well
	return u.s.adopt(u.ctx, u.lease, u.dir, u.info, u.d.Digest, func(tx querier, m *moves) error {
		return u.s.placeBlob(u.ctx, tx, m, tmp, u.d, u.info.DiffID, u.s.boot)
	})
}

func (u *layerUpload) Cancel() error {
	if u.ended {
		return nil
	}
	u.ended = true
	u.close()
	return nil
}

// close ends Ingest, if it still runs, and removes what is left.
func (u *layerUpload) close() {
	u.pipe.CloseWithError(context.Canceled)
	<-u.done
	if u.blob != nil {
		u.blob.Close()
	}
	u.remove()
	u.end()
}

// remakeLayer makes a layer again from a compressed blob it once came as. The caller holds the
// layer's lock. Errors: registry.ErrAbsent if there is none.
func (s *Store) remakeLayer(ctx context.Context, diffID digest.Digest) error {
	blobs, err := texts[digest.Digest](ctx, s.db, "SELECT digest FROM blob WHERE layer = ?", diffID)
	if err != nil {
		return s.fail(err)
	}
	for _, d := range blobs {
		err = s.ingestBlob(ctx, d, diffID)
		if err == nil || isFull(err) || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent)
}

// ingestBlob makes the layer of a blob that is kept. diffID is what it must turn out to be.
func (s *Store) ingestBlob(ctx context.Context, d, diffID digest.Digest) error {
	row, err := s.ensureBlob(ctx, d)
	if err != nil {
		return err
	}
	rc, err := s.Open(ctx, "", row.desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	dir, remove, err := s.TempDir("layer")
	if err != nil {
		return err
	}
	defer remove()
	info, err := layer.Ingest(ctx, dir, rc, layer.IngestOptions{DiffID: diffID})
	if err != nil {
		return s.layerError(d, err)
	}
	l, err := s.ownLease(ctx)
	if err != nil {
		return err
	}
	return s.adopt(ctx, l, dir, info, d, func(tx querier, _ *moves) error {
		_, err := tx.ExecContext(ctx, "UPDATE blob SET layer = ? WHERE digest = ?", info.DiffID, d)
		return err
	})
}

// uploadStall is how long an upload of another process may get nothing before we
// stop waiting for it and do the same work beside it.
const uploadStall = 30 * time.Second

func (s *Store) uploadLock(d registry.Descriptor) string {
	return s.path("locks", "upload-"+d.Digest.Encoded())
}

// awaitUpload waits for another process that is receiving the same layer, so
// that two builds pulling one base do it once. It returns nil without a lock
// where this process itself is receiving it: waiting for oneself could last
// for ever, as uploads may be begun and ended in any order.
func (s *Store) awaitUpload(ctx context.Context, d registry.Descriptor) (unlock func(), err error) {
	path := s.uploadLock(d)
	s.mu.Lock()
	ours := s.uploads[d.Digest]
	if !ours {
		s.uploads[d.Digest] = true
	}
	s.mu.Unlock()
	if ours {
		return nil, nil
	}
	forget := func() {
		s.mu.Lock()
		delete(s.uploads, d.Digest)
		s.mu.Unlock()
	}
	stalled, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go watchStall(stalled, path, cancel)
	unlockFile, err := lockFile(stalled, path)
	if errors.Is(context.Cause(stalled), errStalled) {
		return forget, nil
	}
	if err != nil {
		forget()
		return nil, s.fail(err)
	}
	now := time.Now()
	os.Chtimes(path, now, now)
	return func() { unlockFile(); forget() }, nil
}

var errStalled = errors.New("the other upload got stuck")

// watchStall cancels the wait for a lock whose holder shows no sign of progress.
func watchStall(ctx context.Context, path string, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) > uploadStall {
				cancel(errStalled)
				return
			}
		}
	}
}
