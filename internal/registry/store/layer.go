package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// opened is a layer open for reading, shared by all who ask for it in this process.
type opened struct {
	once sync.Once
	l    *layer.Layer
	err  error
}

func (o *opened) close() error {
	o.once.Do(func() { o.err = os.ErrClosed })
	if o.l == nil {
		return nil
	}
	return o.l.Close()
}

// LayerDir is where the layer's files are, if it is there: layer.tar and layer.erofs.
func (s *Store) LayerDir(diffID digest.Digest) string {
	return s.path("layers", diffID.Encoded())
}

// Layer opens a layer for reading. It is shared and closed by the store: the caller must
// not close it. Errors: registry.ErrAbsent.
func (s *Store) Layer(ctx context.Context, diffID digest.Digest) (*layer.Layer, error) {
	if _, err := hexOf(diffID); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	if err := s.ensureLayer(ctx, diffID); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, os.ErrClosed
	}
	o := s.layers[diffID]
	if o == nil {
		o = &opened{}
		s.layers[diffID] = o
	}
	s.mu.Unlock()
	o.once.Do(func() { o.l, o.err = layer.Open(s.LayerDir(diffID)) })
	if o.err != nil {
		s.forgetLayer(diffID) // so that another attempt is one
		if errors.Is(o.err, fs.ErrNotExist) {
			return nil, fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent)
		}
		return nil, fmt.Errorf("layer %s: %w", diffID, s.fail(o.err))
	}
	return o.l, nil
}

// forgetLayer has the next Layer open it anew. The old one may still be read
// from and is closed with the store.
func (s *Store) forgetLayer(diffID digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.layers[diffID]; o != nil {
		s.stale = append(s.stale, o)
	}
	delete(s.layers, diffID)
	delete(s.whole, diffID)
}

// LayerInfo returns what was recorded of a layer. Errors: registry.ErrAbsent.
func (s *Store) LayerInfo(ctx context.Context, diffID digest.Digest) (layer.Info, error) {
	row, err := s.layerRow(ctx, s.db, diffID)
	return row.info, err
}

// layerRow is a row of table layer.
type layerRow struct {
	info layer.Info
	boot string
	tree sql.NullString
}

const layerColumns = "diffid, size, content, entries, files, boot, tree"

func scanLayer(r interface{ Scan(...any) error }) (v layerRow, err error) {
	err = r.Scan((*string)(&v.info.DiffID), &v.info.Size, (*string)(&v.info.Content), &v.info.Entries, &v.info.FileBytes, &v.boot, &v.tree)
	return v, err
}

// layerRow returns the row of a layer. Errors: registry.ErrAbsent.
func (s *Store) layerRow(ctx context.Context, q querier, diffID digest.Digest) (layerRow, error) {
	v, err := scanLayer(q.QueryRowContext(ctx, "SELECT "+layerColumns+" FROM layer WHERE diffid = ?", diffID))
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("layer %s: %w", diffID, registry.ErrAbsent)
	}
	return v, s.fail(err)
}

// hasLayer tells whether a layer is recorded and its files are there: a row alone may
// be what a deletion left that died.
func (s *Store) hasLayer(ctx context.Context, q querier, diffID digest.Digest) (bool, error) {
	_, err := s.layerRow(ctx, q, diffID)
	if errors.Is(err, registry.ErrAbsent) {
		return false, nil
	}
	return err == nil && s.layerFiles(diffID), err
}

func (s *Store) layerFiles(diffID digest.Digest) bool {
	_, err := os.Lstat(s.LayerDir(diffID))
	return err == nil
}

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
	unlock, err := s.Lock(ctx, "layer-"+diffID.Encoded())
	if err != nil {
		return err
	}
	defer unlock()
	return s.recover(ctx, diffID)
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
	got, _, err := hashFile(ctx, filepath.Join(s.LayerDir(diffID), "layer.tar"))
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

// MakeLayer has make write a layer into a directory of its own: layer.tar and
// layer.erofs, as layer.Write and layer.Ingest do. The layer is then kept, and
// held by l; one that was there already is used instead. l may be nil:
// then the layer is held until the store is closed.
func (s *Store) MakeLayer(ctx context.Context, l *Lease, make func(dir string) (layer.Info, error)) (layer.Info, error) {
	dir, remove, err := s.TempDir("layer")
	if err != nil {
		return layer.Info{}, err
	}
	defer remove()
	info, err := make(dir)
	if err != nil {
		return layer.Info{}, s.fail(err)
	}
	if l == nil {
		if l, err = s.ownLease(ctx); err != nil {
			return layer.Info{}, err
		}
	}
	if err := s.adopt(ctx, l, dir, info, "", nil); err != nil {
		return layer.Info{}, fmt.Errorf("keep layer %s: %w", info.DiffID, err)
	}
	return info, nil
}

// adopt moves a finished layer from dir to its place and records it, together
// with what also records of the blob it came as, both held by l. A layer that is there already stays.
func (s *Store) adopt(ctx context.Context, l *Lease, dir string, info layer.Info, blob digest.Digest, also func(tx querier, m *moves) error) error {
	hex, err := hexOf(info.DiffID)
	if err != nil {
		return err
	}
	st, err := os.Lstat(filepath.Join(dir, "layer.tar"))
	if err != nil {
		return s.fail(err)
	}
	if st.Size() != info.Size {
		return fmt.Errorf("%w: layer.tar has %d bytes, not %d", registry.ErrSize, st.Size(), info.Size)
	}
	if _, err := os.Lstat(filepath.Join(dir, "layer.erofs")); err != nil {
		return s.fail(err)
	}
	moved := moves{s: s}
	l.mu.Lock()
	defer l.mu.Unlock()
	made := l.made
	err = s.update(ctx, func(tx querier) error {
		row, err := s.layerRow(ctx, tx, info.DiffID)
		if err != nil && !errors.Is(err, registry.ErrAbsent) {
			return err
		}
		if err != nil || !s.sure(row.boot) || !s.layerFiles(info.DiffID) {
			// What may lie there is no layer we know to be whole.
			if err := moved.away(s.path("layers", hex)); err != nil {
				return err
			}
			if err := moved.to(dir, s.path("layers", hex)); err != nil {
				return err
			}
			if err := s.insertLayer(ctx, tx, info); err != nil {
				return err
			}
		}
		if blob != "" {
			if err := also(tx, &moved); err != nil {
				return err
			}
			if err := l.insert(ctx, tx, blob); err != nil {
				return err
			}
		}
		return l.insert(ctx, tx, info.DiffID)
	})
	if err != nil {
		moved.undo()
		l.made = made
		return err
	}
	s.unlink(moved.trash...)
	l.pins[info.DiffID] = true
	if blob != "" {
		l.pins[blob] = true
	}
	s.mu.Lock()
	s.whole[info.DiffID], s.wrote = true, true
	s.mu.Unlock()
	return nil
}

func (s *Store) insertLayer(ctx context.Context, tx querier, info layer.Info) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO layer (diffid, size, content, entries, files, added, boot)
		VALUES (?, ?, ?, ?, ?, ?, ?)`, info.DiffID, info.Size, info.Content, info.Entries, info.FileBytes, s.now().UnixNano(), s.boot)
	return err
}

// moves are renames made within a transaction, to be undone if it fails.
type moves struct {
	s    *Store
	done  [][2]string // from, to
	trash []string    // where things were moved away to
}

// away moves path, if there is something, to tmp/.
func (m *moves) away(path string) error {
	trash, err := m.s.discard(path)
	m.s.point("moved away")
	if err == nil && trash != "" {
		m.done = append(m.done, [2]string{path, trash})
		m.trash = append(m.trash, trash)
	}
	return err
}

func (m *moves) to(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	m.done = append(m.done, [2]string{from, to})
	m.s.point("moved")
	return nil
}

func (m *moves) undo() {
	for i := len(m.done) - 1; i >= 0; i-- {
		os.Rename(m.done[i][1], m.done[i][0])
	}
	m.done, m.trash = nil, nil
}
