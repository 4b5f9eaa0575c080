package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/cache"
	"nacre/internal/image"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// salvage replaces a database that cannot be read; a sound one stays. Names and
// cache records come from what can still be read of the old one, everything else from
// the files. The old one is kept in damaged-<time>/. No other process may have the store open.
func (s *Store) salvage(ctx context.Context, opened error) error {
	if opened == nil && s.sound(ctx) {
		return nil
	}
	if opened != nil && !errors.Is(opened, ErrDamaged) {
		return opened
	}
	if err := s.writable(); err != nil {
		return err
	}
	if s.db != nil {
		s.db.Close()
	}
	aside := s.path("damaged-" + s.now().UTC().Format("20060102T150405.000"))
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"nacre.db-wal", "nacre.db-shm", "nacre.db"} {
		if err := os.Rename(s.path(name), filepath.Join(aside, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.recordFiles(ctx); err != nil {
		return fmt.Errorf("salvage: %w", err)
	}
	return s.recordOld(ctx, aside)
}

func (s *Store) sound(ctx context.Context) bool {
	lines, err := texts[string](ctx, s.db, "PRAGMA integrity_check")
	return err == nil && len(lines) == 1 && lines[0] == "ok"
}

// recordFiles records every blob and layer that is what its name says, and an
// image for every manifest or index that no other refers to.
func (s *Store) recordFiles(ctx context.Context) error {
	for _, in := range []struct {
		dir    string
		record func(context.Context, digest.Digest) error
	}{
		{s.path("layers"), s.recordLayer},
		{s.path("blobs", "sha256"), s.recordBlob},
		{s.path("blobs", "sha512"), s.recordBlob},
	} {
		names, err := readNames(in.dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			d := digest.NewDigestFromEncoded(strayAlgorithm(filepath.Join(in.dir, name)), name)
			if checkDigest(d) != nil {
				continue
			}
			if err := in.record(ctx, d); err != nil {
				return err
			}
		}
	}
	tops, err := texts[digest.Digest](ctx, s.db, "SELECT digest FROM blob WHERE media LIKE 'application/vnd.%' AND digest NOT IN (SELECT dst FROM edge)")
	if err != nil {
		return err
	}
	for _, d := range tops {
		if err := s.recordImage(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// recordImage records the image of manifest d, if it is whole.
func (s *Store) recordImage(ctx context.Context, d digest.Digest) error {
	blob, err := s.blobRow(ctx, s.db, d)
	if err != nil || !image.IsManifestOrIndex(blob.desc.MediaType) {
		return nil
	}
	row, err := s.examine(ctx, blob.desc)
	if isFull(err) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		return nil
	}
	return s.updateDurably(ctx, func(tx querier) error { return s.insertImage(ctx, tx, row) })
}

// recordOld takes names and cache records over from the old database, as far as they
// can be read and still mean something.
func (s *Store) recordOld(ctx context.Context, dir string) error {
	old, err := sql.Open("sqlite", dsn(filepath.Join(dir, "nacre.db"), nil))
	if err != nil {
		return nil
	}
	defer old.Close()
	// A table that is damaged half-way gives what comes before.
	names := eachOld(ctx, old, "SELECT repo, tag, digest, target FROM name", func(r *sql.Rows) error {
		var ref registry.Ref
		var target digest.Digest
		if err := r.Scan(&ref.Repo, &ref.Tag, (*string)(&ref.Digest), (*string)(&target)); err != nil {
			return nil
		}
		if parsed, err := registry.ParseRef(ref.String()); err != nil || parsed != ref {
			return nil
		}
		if err := s.recordImage(ctx, target); err != nil {
			return err
		}
		return s.updateDurably(ctx, func(tx querier) error {
			var n int
			if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM image WHERE digest = ?", target).Scan(&n); err != nil || n == 0 {
				return err
			}
			return s.insertName(ctx, tx, ref, target)
		})
	})
	if names != nil {
		return names
	}
	if err := s.recordOldParts(ctx, old); err != nil {
		return err
	}
	err = eachOld(ctx, old, "SELECT slot, fields, layer, content, created, size, added, used FROM cache", func(r *sql.Rows) error {
		var slot, layer, content, created string
		var fields []byte
		var size, added, used int64
		if r.Scan(&slot, &fields, &layer, &content, &created, &size, &added, &used) != nil {
			return nil
		}
		rec, err := cache.Decode(slot, fields)
		if err != nil {
			return nil
		}
		return s.update(ctx, func(tx querier) error {
			if ok, err := s.hasLayer(ctx, tx, digest.Digest(layer)); err != nil || !ok {
				return err
			}
			_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO cache (key, slot, fields, layer, content, created, size, added, used)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, rec.Key[:], slot, fields, layer, content, created, size, added, used)
			return err
		})
	})
	if err != nil {
		return err
	}
	if err := s.recordOldContainers(ctx, old); err != nil {
		return err
	}
	return s.recordOldNotes(ctx, old)
}

// recordOldParts takes over what repositories had, as far as it is there still.
func (s *Store) recordOldParts(ctx context.Context, old *sql.DB) error {
	err := eachOld(ctx, old, "SELECT repo, digest, media, size, kept, until FROM part", func(r *sql.Rows) error {
		var repo string
		var p Part
		var until int64
		if r.Scan(&repo, (*string)(&p.Digest), &p.MediaType, &p.Size, &p.Kept, &until) != nil {
			return nil
		}
		p.Until = time.Unix(0, until)
		return s.update(ctx, func(tx querier) error {
			if _, err := s.content(ctx, tx, p.Digest); errors.Is(err, registry.ErrAbsent) {
				return nil
			} else if err != nil {
				return err
			}
			return s.insertPart(ctx, tx, repo, p, 0)
		})
	})
	if err != nil {
		return err
	}
	err = eachOld(ctx, old, "SELECT diffid, blob FROM claim", func(r *sql.Rows) error {
		var c claim
		if r.Scan((*string)(&c.diffID), (*string)(&c.blob)) != nil {
			return nil
		}
		return s.update(ctx, func(tx querier) error { return insertClaims(ctx, tx, []claim{c}) })
	})
	if err != nil {
		return err
	}
	// What has lost its last tag is no image: see unnamed.
	return s.update(ctx, func(tx querier) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM image WHERE digest NOT IN (SELECT target FROM name)
			AND digest IN (SELECT digest FROM part WHERE kept = 1)`)
		return err
	})
}

// eachOld calls f for the rows of a query until one cannot be read or f fails,
// and returns f's error.
func eachOld(ctx context.Context, old *sql.DB, query string, f func(*sql.Rows) error) error {
	rows, err := old.QueryContext(ctx, query)
	if err != nil {
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return nil
}
