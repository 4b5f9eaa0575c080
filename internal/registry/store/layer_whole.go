package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// ensureLayer makes certain that a layer is there and whole: it is verified if
// the machine may have lost power since it was written, and made again from its compressed
// blob if it is gone. Errors: registry.ErrAbsent.
func (s *Store) ensureLayer(ctx context.Context, diffID digest.Digest) error {
	s.mu.Lock()
	whole := s.whole[diffID]
	s.mu.Unlock()
	if whole && s.layerFiles(diffID) {
		return nil
	}
	row, err := s.layerRow(ctx, s.db, diffID)
	if err == nil && s.sure(row.boot) && s.layerFiles(diffID) {
		s.setWhole(diffID)
		return nil
	}
	if err != nil && !errors.Is(err, registry.ErrAbsent) {
		return err
	}
	if s.o.ReadOnly {
		return s.verifyOnly(ctx, diffID)
	}
	if err != nil {
		if none, err := s.hopeless(ctx, diffID); err != nil || none {
			return cmp.Or(err, fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent))
		}
	}
	unlock, err := s.Lock(ctx, "layer-"+diffID.Encoded())
	if err != nil {
		return err
	}
	defer unlock()
	return s.recover(ctx, diffID)
}

// hopeless tells that a layer is neither here nor being made, and that nothing here could
// become it. Whoever asks for what is not here yet, as every pull and push does, makes no file of a lock for it.
func (s *Store) hopeless(ctx context.Context, diffID digest.Digest) (bool, error) {
	if _, err := os.Lstat(s.path("locks", "layer-"+diffID.Encoded())); !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var some bool // asked after the lock, which is let go when the row is there
	err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM layer WHERE diffid = ?1)
		OR EXISTS (SELECT 1 FROM blob WHERE layer = ?1)
		OR EXISTS (SELECT 1 FROM claim JOIN blob ON digest = claim.blob WHERE diffid = ?1)`, diffID).Scan(&some)
	return !some, s.fail(err)
}

func (s *Store) setWhole(diffID digest.Digest) {
	s.mu.Lock()
	s.whole[diffID] = true
	s.mu.Unlock()
}

// recover verifies a layer or makes it again. The caller holds its lock.
func (s *Store) recover(ctx context.Context, diffID digest.Digest) error {
	row, err := s.layerRow(ctx, s.db, diffID)
	switch {
	case err == nil && s.sure(row.boot) && s.layerFiles(diffID):
		s.setWhole(diffID)
		return nil // another process did it
	case err == nil && s.layerFiles(diffID):
		ok, err := s.verifyLayer(ctx, diffID)
		if err != nil || ok {
			return err
		}
		if err := s.dropLayer(ctx, diffID); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, registry.ErrAbsent):
		return err
	}
	return s.remakeLayer(ctx, diffID)
}

// verifyOnly is for stores that may not be written.
func (s *Store) verifyOnly(ctx context.Context, diffID digest.Digest) error {
	got, _, err := hashFile(ctx, filepath.Join(s.LayerDir(diffID), "layer.tar"), digest.SHA256)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && got != diffID) {
		return fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent)
	}
	if err == nil {
		s.setWhole(diffID)
	}
	return err
}

// verifyLayer reads a layer whole and rebuilds its index. If the tar is what it
// should be, the index is put right where it is not and the layer noted as safe.
func (s *Store) verifyLayer(ctx context.Context, diffID digest.Digest) (ok bool, err error) {
	info, err := s.reindex(ctx, diffID)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil && isFull(err) {
		return false, err
	}
	if err != nil || info.DiffID != diffID {
		return false, nil
	}
	dir := s.LayerDir(diffID)
	if err := syncPaths(filepath.Join(dir, "layer.tar"), filepath.Join(dir, "layer.erofs"), dir); err != nil {
		return false, s.fail(err)
	}
	err = s.update(ctx, func(tx querier) error {
		_, err := tx.ExecContext(ctx, "UPDATE layer SET boot = '', size = ?, content = ?, entries = ?, files = ? WHERE diffid = ?",
			info.Size, info.Content, info.Entries, info.FileBytes, diffID)
		return err
	})
	if err == nil {
		s.setWhole(diffID)
	}
	return err == nil, err
}

// reindex makes the index of a layer again from its tar, beside it, and returns what
// the tar amounts to. An index that differs is put in the old one's place.
func (s *Store) reindex(ctx context.Context, diffID digest.Digest) (layer.Info, error) {
	dir, remove, err := s.scratch("reindex")
	if err != nil {
		return layer.Info{}, err
	}
	defer remove()
	info, same, err := s.compareIndex(ctx, diffID, dir)
	if err != nil || same || info.DiffID != diffID {
		return info, err
	}
	return info, s.fail(os.Rename(filepath.Join(dir, "layer.erofs"), filepath.Join(s.LayerDir(diffID), "layer.erofs")))
}

// compareIndex makes the index of a layer in dir, and tells whether it is the same as
// that of the layer.
func (s *Store) compareIndex(ctx context.Context, diffID digest.Digest, dir string) (info layer.Info, same bool, err error) {
	from := s.LayerDir(diffID)
	if _, err := os.Stat(filepath.Join(from, "layer.tar")); err != nil {
		return info, false, err
	}
	if err := os.Symlink(filepath.Join(from, "layer.tar"), filepath.Join(dir, "layer.tar")); err != nil {
		return info, false, s.fail(err)
	}
	if info, err = layer.Reindex(ctx, dir); err != nil {
		return info, false, s.fail(err)
	}
	a, err := os.Open(filepath.Join(dir, "layer.erofs"))
	if err != nil {
		return info, false, err
	}
	defer a.Close()
	b, err := os.Open(filepath.Join(from, "layer.erofs"))
	if errors.Is(err, fs.ErrNotExist) {
		return info, false, nil
	}
	if err != nil {
		return info, false, err
	}
	defer b.Close()
	return info, sameBytes(a, b), nil
}

// scratch is TempDir, outside of a store that may not be written.
func (s *Store) scratch(prefix string) (dir string, remove func(), err error) {
	if !s.o.ReadOnly {
		return s.TempDir(prefix)
	}
	dir, err = os.MkdirTemp("", "nacre-"+prefix)
	return dir, func() { os.RemoveAll(dir) }, err
}

// dropLayer removes a layer that is damaged, with the cache records that promise it.
func (s *Store) dropLayer(ctx context.Context, diffID digest.Digest) error {
	return s.removing(ctx, func(tx querier, r *removal) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM cache WHERE layer = ?", diffID); err != nil {
			return err
		}
		return r.layer(ctx, tx, diffID)
	})
}
