package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nacre/internal/layer"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

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
	s     *Store
	done  [][2]string // from, to
	trash []string    // where things were moved away to
	sync  []string    // folders that changeDurably is to sync
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
