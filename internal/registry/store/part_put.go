package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// AdoptPart makes the file at path, which is in tmp/ or beside it, is synced and has been verified, content
// of a repository until then at least. The file is moved, or removed where the content is there already. When it
// returns nil the content survives power loss. quota bounds the bytes of the repository (0: nothing does).
//
// Errors: ErrQuota, and the file is where it was.
func (s *Store) AdoptPart(ctx context.Context, repo string, d registry.Descriptor, path string, until time.Time, quota int64) error {
	if err := errors.Join(s.writable(), checkDigest(d.Digest)); err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return s.fail(err)
	}
	if !st.Mode().IsRegular() || d.Size > 0 && st.Size() != d.Size {
		return fmt.Errorf("%s: %w: the file has %d bytes, not %d", d.Digest, registry.ErrSize, st.Size(), d.Size)
	}
	d.Size = st.Size()
	if err := s.settleLayer(ctx, d.Digest); err != nil {
		return err
	}
	err = s.changeDurably(ctx, func(tx querier, m *moves) error {
		if err := s.insertPart(ctx, tx, repo, Part{Descriptor: d, Until: until}, quota); err != nil {
			return err
		}
		ok, err := s.settled(ctx, tx, d)
		if err != nil || ok {
			return err
		}
		to := s.blobPath(d.Digest)
		if err := m.away(to); err != nil {
			return err
		}
		if err := m.to(path, to); err != nil {
			return err
		}
		m.sync = append(m.sync, filepath.Dir(to))
		return s.insertBlob(ctx, tx, d, "", "")
	})
	if err != nil {
		return fmt.Errorf("keep %s: %w", d.Digest, err)
	}
	os.Remove(path) // not there any more if it was moved
	return nil
}

// Uploads is a folder for files that AdoptPart is to take. What is in it stays until whoever put it
// there removes it, so that uploads can go on after a restart.
func (s *Store) Uploads() (string, error) {
	dir := s.path("uploads")
	if err := s.writable(); err != nil {
		return "", err
	}
	return dir, s.fail(os.MkdirAll(dir, 0o700)) // not in older stores
}

// settled tells whether content is there and on the disk.
func (s *Store) settled(ctx context.Context, tx querier, d registry.Descriptor) (bool, error) {
	row, err := s.blobRow(ctx, tx, d.Digest)
	if err == nil {
		st, serr := os.Lstat(s.blobPath(d.Digest))
		if serr == nil && st.Size() == d.Size && row.boot == "" {
			return true, nil
		}
	} else if !errors.Is(err, registry.ErrAbsent) {
		return false, err
	}
	l, err := s.layerRow(ctx, tx, d.Digest)
	if errors.Is(err, registry.ErrAbsent) {
		return false, nil
	}
	return err == nil && l.boot == "" && s.layerFiles(d.Digest), err
}

// settleLayer syncs the layer d, if there is one and its files are known to be whole.
func (s *Store) settleLayer(ctx context.Context, d digest.Digest) error {
	row, err := s.layerRow(ctx, s.db, d)
	if errors.Is(err, registry.ErrAbsent) || err == nil && (row.boot == "" || !s.sure(row.boot)) {
		return nil
	}
	if err != nil {
		return err
	}
	dir := s.LayerDir(d)
	if syncPaths(filepath.Join(dir, "layer.tar"), filepath.Join(dir, "layer.erofs"), dir, s.path("layers")) != nil {
		return nil // then the blob is kept beside it
	}
	return s.update(ctx, func(tx querier) error { return clearBoot(ctx, tx, "layer", "diffid", []any{d}) })
}

// PutPart is AdoptPart of a manifest or index, whose bytes are data. It can be read from then on; that it survives
// power loss, KeepManifest sees to. Errors: ErrQuota, registry.ErrInvalid.
func (s *Store) PutPart(ctx context.Context, repo string, d registry.Descriptor, data []byte, until time.Time, quota int64) error {
	refs, err := registry.Refers(d, data)
	if err != nil {
		return err
	}
	tmp, err := s.tempName("blob")
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // not there any more if it was moved
	if err := writeSynced(tmp, data); err != nil {
		return s.fail(err)
	}
	s.point("manifest written")
	m := moves{s: s}
	err = s.update(ctx, func(tx querier) error {
		if err := s.insertPart(ctx, tx, repo, Part{Descriptor: d, Until: until}, quota); err != nil {
			return err
		}
		ok, err := s.settled(ctx, tx, d)
		if err != nil {
			return err
		}
		if !ok {
			if err := s.placeSynced(ctx, tx, &m, tmp, d); err != nil {
				return err
			}
		}
		return s.insertMeaning(ctx, tx, d, data, refs)
	})
	if err != nil {
		m.undo()
		return err
	}
	s.unlink(m.trash...)
	return nil
}

func (s *Store) placeSynced(ctx context.Context, tx querier, m *moves, tmp string, d registry.Descriptor) error {
	if err := m.away(s.blobPath(d.Digest)); err != nil {
		return err
	}
	if err := m.to(tmp, s.blobPath(d.Digest)); err != nil {
		return err
	}
	return s.insertBlob(ctx, tx, d, "", "")
}

// RevivePart lets content of a repository stay until then at least: somebody was told that it is
// there and will refer to it. Errors: registry.ErrAbsent.
func (s *Store) RevivePart(ctx context.Context, r Repo, d digest.Digest, until time.Time) error {
	return s.update(ctx, func(tx querier) error {
		p, err := s.part(ctx, tx, r, d)
		if err != nil {
			return err
		}
		if _, err := s.content(ctx, tx, d); err != nil {
			return err
		}
		p.Until, p.Kept = until, false
		return s.insertPart(ctx, tx, r.Name, p, 0)
	})
}

// SharePart makes content of one repository content of another, for good. Errors: registry.ErrAbsent, ErrQuota.
func (s *Store) SharePart(ctx context.Context, repo string, from Repo, d digest.Digest, until time.Time, quota int64) error {
	if _, err := s.Part(ctx, from, d); err != nil {
		return err
	}
	if err := s.settleContent(ctx, d); err != nil {
		return err
	}
	return s.changeDurably(ctx, func(tx querier, _ *moves) error {
		p, err := s.part(ctx, tx, from, d)
		if err != nil {
			return err
		}
		if _, err := s.content(ctx, tx, d); err != nil {
			return err
		}
		p.Until, p.Kept = until, false
		return s.insertPart(ctx, tx, repo, p, quota)
	})
}

// settleContent has a blob or layer on the disk that was not synced when it came.
func (s *Store) settleContent(ctx context.Context, d digest.Digest) error {
	row, err := s.blobRow(ctx, s.db, d)
	if errors.Is(err, registry.ErrAbsent) {
		return s.settleLayer(ctx, d)
	}
	if err != nil || row.boot == "" {
		return err
	}
	path := s.blobPath(d)
	if err := syncPaths(path, filepath.Dir(path)); err != nil {
		return s.fail(err)
	}
	return s.update(ctx, func(tx querier) error { return clearBoot(ctx, tx, "blob", "digest", []any{d}) })
}
