package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

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
	begun  bool     // the head is sent
	blob   *os.File // nil for a plain tar
	pipe   *io.PipeWriter
	done   chan struct{} // closed when Ingest returned
	info   layer.Info
	err    error // of Ingest
	failed error // sticky, of what was written or replayed

	replaying bool // what is taken comes from blob
}

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

// Offset implements registry.Resumer: what an earlier upload left goes the way of what
// arrives. A plain tar is not kept, and begins again.
func (u *layerUpload) Offset() int64 {
	if f := u.resumePartial(); f != nil {
		u.blob, u.replaying = f, true
		u.failed = u.replay(f, u.take)
		u.replaying = false
	}
	return u.check.Size()
}

func (u *layerUpload) Write(p []byte) (int, error) {
	if u.ended {
		return 0, fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	if u.failed == nil {
		u.failed = u.take(p)
	}
	if u.failed != nil {
		return 0, u.failed
	}
	return len(p), nil
}

// take passes bytes on once there are enough to tell what they are.
func (u *layerUpload) take(p []byte) error {
	if _, err := u.check.Write(p); err != nil {
		return err
	}
	u.live()
	if u.begun {
		return u.send(p)
	}
	u.head = append(u.head, p...)
	if len(u.head) < layer.SniffSize {
		return nil
	}
	return u.begin()
}

// begin sends the head, to a file too if it is that of something compressed.
func (u *layerUpload) begin() error {
	head := u.head
	u.head, u.begun = nil, true
	if u.blob == nil && layer.CompressionOf(head) != "" {
		f, err := u.createPartial()
		if err != nil {
			return u.s.fail(err)
		}
		u.blob = f
	}
	return u.send(head)
}

func (u *layerUpload) send(p []byte) error {
	if u.blob != nil && !u.replaying {
		if _, err := u.blob.Write(p); err != nil {
			return u.s.fail(err)
		}
	}
	_, err := u.pipe.Write(p)
	return u.s.fail(err)
}

func (u *layerUpload) Commit() error {
	if u.ended {
		return fmt.Errorf("%s: upload has ended", u.d.Digest)
	}
	err := u.commit()
	u.close(err != nil && worthKeeping(err))
	return err
}

func (u *layerUpload) commit() error {
	u.live()
	if u.failed == nil && !u.begun {
		u.failed = u.begin()
	}
	if u.failed != nil {
		return u.failed
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
	return u.s.adopt(u.ctx, u.lease, u.dir, u.info, u.d.Digest, func(tx querier, m *moves) error {
		return u.s.placeBlob(u.ctx, tx, m, u.blob.Name(), u.d, u.info.DiffID, u.s.boot)
	})
}

func (u *layerUpload) Cancel() error {
	if u.ended {
		return nil
	}
	u.close(worthKeeping(u.failed))
	return nil
}

// close ends Ingest, if it still runs, and removes what is of no use any more; keep says whether
// what arrived is.
func (u *layerUpload) close(keep bool) {
	u.ended = true
	u.pipe.CloseWithError(context.Canceled)
	<-u.done
	if u.blob != nil {
		u.leavePartial(u.blob, keep)
	}
	u.remove()
	u.end()
}

// remakeLayer makes a layer again from a compressed blob it once came as, or for the first time from one
// that was pushed as it. The caller holds the layer's lock. Errors: registry.ErrAbsent if there is none.
func (s *Store) remakeLayer(ctx context.Context, diffID digest.Digest) error {
	blobs, err := texts[digest.Digest](ctx, s.db, `SELECT digest FROM blob WHERE layer = ?1
		UNION SELECT blob FROM claim JOIN blob ON digest = claim.blob WHERE diffid = ?1`, diffID)
	if err != nil {
		return s.fail(err)
	}
	for _, d := range blobs {
		err = s.ingestBlob(ctx, d, diffID)
		if err == nil || isFull(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, layer.ErrDiffID) {
			if err := s.dropClaim(ctx, claim{diffID, d}); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w: %w", diffID, registry.ErrAbsent, err)
	}
	return fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent)
}

// dropClaim forgets a claim that was found false.
func (s *Store) dropClaim(ctx context.Context, c claim) error {
	return s.update(ctx, func(tx querier) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM claim WHERE diffid = ? AND blob = ?", c.diffID, c.blob)
		return err
	})
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
	// Until it is known whose layer it is; from then on who needs the blob keeps the layer.
	l, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer l.Release()
	if info.DiffID == d {
		if err := s.oneFile(d, dir); err != nil {
			return err
		}
	}
	return s.adopt(ctx, l, dir, info, d, func(tx querier, _ *moves) error {
		if row.layer == "" {
			if err := proveClaim(ctx, tx, row.desc, info); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, "UPDATE blob SET layer = ? WHERE digest = ?", info.DiffID, d)
		return err
	})
}

// oneFile lets the tar of a layer be the blob that it was made of, so that it takes its space once.
func (s *Store) oneFile(d digest.Digest, dir string) error {
	tar := filepath.Join(dir, "layer.tar")
	if os.Link(s.blobPath(d), tar+".new") != nil {
		return nil // not every file system can
	}
	return s.fail(os.Rename(tar+".new", tar))
}

// proveClaim records that a blob that was pushed is a layer: images it belongs to have the size of its
// files from now on, which was not known.
func proveClaim(ctx context.Context, tx querier, blob registry.Descriptor, info layer.Info) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM claim WHERE blob = ?", blob.Digest); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE image SET bytes = max(0, bytes - ?1 + ?2)
		WHERE id IN (SELECT dst FROM edge WHERE src IN (SELECT src FROM edge WHERE dst = ?3))`, blob.Size, info.FileBytes, blob.Digest)
	return err
}
