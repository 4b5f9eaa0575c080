package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
