package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// blobPath is where a blob is. The digest must be valid.
func (s *Store) blobPath(d digest.Digest) string {
	return s.path("blobs", d.Algorithm().String(), d.Encoded())
}

// blobRow is a row of table blob.
type blobRow struct {
	desc  registry.Descriptor
	layer digest.Digest // what it is the compressed form of, or ""
	boot  string
}

const blobColumns = "digest, media, size, coalesce(layer, ''), boot"

func scanBlob(r interface{ Scan(...any) error }) (v blobRow, err error) {
	err = r.Scan((*string)(&v.desc.Digest), &v.desc.MediaType, &v.desc.Size, (*string)(&v.layer), &v.boot)
	return v, err
}

// blobRow returns the row of a blob. Errors: registry.ErrAbsent.
func (s *Store) blobRow(ctx context.Context, q querier, d digest.Digest) (blobRow, error) {
	v, err := scanBlob(q.QueryRowContext(ctx, "SELECT "+blobColumns+" FROM blob WHERE digest = ?", d))
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("%s: %w", d, registry.ErrAbsent)
	}
	return v, s.fail(err)
}

// ensureBlob makes certain that a blob is there and whole, as ensureLayer does
// for layers. Errors: registry.ErrAbsent.
func (s *Store) ensureBlob(ctx context.Context, d digest.Digest) (blobRow, error) {
	row, err := s.blobRow(ctx, s.db, d)
	if err != nil {
		return row, err
	}
	st, err := os.Lstat(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && st.Size() != row.desc.Size) {
		return row, fmt.Errorf("%s: %w", d, registry.ErrAbsent)
	}
	if err != nil || s.sure(row.boot) {
		return row, s.fail(err)
	}
	got, _, err := hashFile(ctx, s.blobPath(d), d.Algorithm())
	if err != nil {
		return row, s.fail(err)
	}
	if got != d {
		err := registry.ErrAbsent
		if !s.o.ReadOnly {
			err = errors.Join(err, s.dropBlob(ctx, d))
		}
		return row, fmt.Errorf("%s: %w", d, err)
	}
	if s.o.ReadOnly {
		return row, nil
	}
	if err := syncPaths(s.blobPath(d)); err != nil {
		return row, s.fail(err)
	}
	return row, s.update(ctx, func(tx querier) error { return clearBoot(ctx, tx, "blob", "digest", []any{d}) })
}

// dropBlob removes a blob that is damaged, whoever refers to it.
func (s *Store) dropBlob(ctx context.Context, d digest.Digest) error {
	return s.removing(ctx, func(tx querier, r *removal) error { return r.blob(ctx, tx, d) })
}

// placeBlob moves a finished file to its place, unless it is there already, and
// records it.
func (s *Store) placeBlob(ctx context.Context, tx querier, m *moves, tmp string, d registry.Descriptor, of digest.Digest, boot string) error {
	path := s.blobPath(d.Digest)
	row, err := s.blobRow(ctx, tx, d.Digest)
	if err != nil && !errors.Is(err, registry.ErrAbsent) {
		return err
	}
	st, serr := os.Lstat(path)
	if err == nil && serr == nil && st.Size() == d.Size && s.sure(row.boot) {
		boot = row.boot
	} else {
		if err := m.away(path); err != nil {
			return err
		}
		if err := m.to(tmp, path); err != nil {
			return err
		}
	}
	return s.insertBlob(ctx, tx, d, of, boot)
}

// insertBlob records a blob that is in place.
func (s *Store) insertBlob(ctx context.Context, tx querier, d registry.Descriptor, of digest.Digest, boot string) error {
	// An upload of unknown type does not make one forget a type known before.
	_, err := tx.ExecContext(ctx, `INSERT INTO blob (digest, media, size, layer, added, boot)
		VALUES (?, ?, ?, nullif(?, ''), ?, ?)
		ON CONFLICT (digest) DO UPDATE SET size = excluded.size, boot = excluded.boot,
			media = CASE WHEN excluded.media IN ('', 'application/octet-stream') THEN media ELSE excluded.media END,
			layer = coalesce(excluded.layer, layer)`,
		d.Digest, d.MediaType, d.Size, of, s.now().UnixNano(), boot)
	return err
}

// PutBlob keeps data, a config, manifest or other small thing, synced to disk and held until
// the store is closed or an image that refers to it is there.
func (s *Store) PutBlob(ctx context.Context, mediaType string, data []byte) (registry.Descriptor, error) {
	d := image.Describe(mediaType, data)
	l, err := s.ownLease(ctx)
	if err != nil {
		return d, err
	}
	return d, s.putBlob(ctx, l, d, data)
}

// putBlob keeps data as d, held by l.
func (s *Store) putBlob(ctx context.Context, l *Lease, d registry.Descriptor, data []byte) error {
	if ok, err := s.holdBlob(ctx, l, d); err != nil || ok {
		return err
	}
	refs, err := registry.Refers(d, data)
	if err != nil {
		return err
	}
	tmp, err := s.tempName("blob")
	if err != nil {
		return err
	}
	if err := writeSynced(tmp, data); err != nil {
		os.Remove(tmp)
		return s.fail(err)
	}
	s.point("blob written")
	return s.keep(ctx, l, tmp, d, "", "", func(tx querier) error { return s.insertMeaning(ctx, tx, d, data, refs) })
}

// holdBlob holds a blob if it is there.
func (s *Store) holdBlob(ctx context.Context, l *Lease, d registry.Descriptor) (bool, error) {
	if _, err := s.ensureBlob(ctx, d.Digest); errors.Is(err, registry.ErrAbsent) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	err := l.pin(ctx, func(tx querier) error {
		if _, err := s.blobRow(ctx, tx, d.Digest); err != nil {
			return err
		}
		if _, err := os.Lstat(s.blobPath(d.Digest)); err != nil {
			return fmt.Errorf("%s: %w", d.Digest, registry.ErrAbsent)
		}
		return s.insertTyped(ctx, tx, d)
	}, d.Digest)
	if errors.Is(err, registry.ErrAbsent) {
		return false, nil
	}
	return err == nil, err
}

// insertTyped notes the media type of a blob that came without one.
func (s *Store) insertTyped(ctx context.Context, tx querier, d registry.Descriptor) error {
	_, err := tx.ExecContext(ctx, "UPDATE blob SET media = ? WHERE digest = ? AND media IN ('', 'application/octet-stream')", d.MediaType, d.Digest)
	return err
}

// keepBlob moves a finished file from tmp to its place and records it; boot is
// empty if the file is synced. Its name in the folder is synced when an image that refers to it is named.
func (s *Store) keepBlob(ctx context.Context, l *Lease, tmp string, d registry.Descriptor, boot string) error {
	return s.keep(ctx, l, tmp, d, "", boot, func(querier) error { return nil })
}

// keep is keepBlob of what may be the compressed form of a layer; also is called in the same transaction.
func (s *Store) keep(ctx context.Context, l *Lease, tmp string, d registry.Descriptor, of digest.Digest, boot string, also func(tx querier) error) error {
	moved := moves{s: s}
	l.mu.Lock()
	defer l.mu.Unlock()
	made := l.made
	err := s.update(ctx, func(tx querier) error {
		if err := s.placeBlob(ctx, tx, &moved, tmp, d, of, boot); err != nil {
			return err
		}
		if err := also(tx); err != nil {
			return err
		}
		return l.insert(ctx, tx, d.Digest)
	})
	if err != nil {
		moved.undo()
		l.made = made
	}
	os.Remove(tmp) // not there any more if it was moved
	if err != nil {
		return err
	}
	s.unlink(moved.trash...)
	l.pins[d.Digest] = true
	s.mu.Lock()
	s.wrote = true
	s.mu.Unlock()
	return nil
}

// insertEdges records what a manifest or index refers to.
func insertEdges(ctx context.Context, tx querier, src digest.Digest, refs []registry.Descriptor) error {
	for _, r := range refs {
		if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO edge (src, dst) VALUES (?, ?)", src, r.Digest); err != nil {
			return err
		}
	}
	return nil
}

// readBlob reads a small blob whole and verifies it.
func (s *Store) readBlob(ctx context.Context, d registry.Descriptor) ([]byte, error) {
	rc, err := s.Open(ctx, "", d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return registry.ReadAll(rc, image.MaxSize)
}

// Open implements registry.Reader. A layer is found by its diffID, and by the digest of a
// compressed form that is kept.
func (s *Store) Open(ctx context.Context, _ string, d registry.Descriptor) (io.ReadCloser, error) {
	if err := registry.CheckDescriptor(d); err != nil {
		return nil, err
	}
	if err := checkDigest(d.Digest); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", d.Digest, registry.ErrAbsent, err)
	}
	f, err := os.Open(s.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(filepath.Join(s.LayerDir(d.Digest), "layer.tar"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		// A layer that is gone may be made again from a compressed form.
		if err := s.ensureLayer(ctx, d.Digest); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Digest, err)
		}
		f, err = os.Open(filepath.Join(s.LayerDir(d.Digest), "layer.tar"))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Digest, s.fail(err))
	}
	if d.Size > vouchSize && s.sureOf(ctx, d.Digest) {
		return registry.Vouch(f, d), nil
	}
	return registry.Verify(f, d), nil
}

// vouchSize is what costs next to nothing to hash.
const vouchSize = 1 << 20

// sureOf tells, without looking at it, whether a blob or layer is what was verified when it came: it survived what has
// happened to the machine since.
func (s *Store) sureOf(ctx context.Context, d digest.Digest) bool {
	if row, err := s.blobRow(ctx, s.db, d); err == nil {
		return s.sure(row.boot)
	}
	row, err := s.layerRow(ctx, s.db, d)
	return err == nil && s.sure(row.boot)
}

// writeSynced makes a file whose content is on the disk when it returns.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
