package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

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
