package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"nacre/internal/cache"
	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
)

// Cache returns the build cache of the store. Its records keep their layers from
// being collected until they are pruned.
func (s *Store) Cache() cache.Cache { return records{s} }

type records struct{ s *Store }

// hitInterval is how exactly the last use of a record is known: noting every hit would make
// every cached build write.
const hitInterval = time.Hour

// Get implements cache.Cache.
func (c records) Get(ctx context.Context, key cache.Key) (cache.Output, bool, error) {
	var out cache.Output
	var created string
	var used int64
	err := c.s.db.QueryRowContext(ctx, "SELECT layer, content, created, size, used FROM cache WHERE key = ?", key[:]).
		Scan((*string)(&out.DiffID), (*string)(&out.Content), &created, &out.Size, &used)
	if errors.Is(err, sql.ErrNoRows) {
		return cache.Output{}, false, nil
	}
	if err != nil {
		return cache.Output{}, false, fmt.Errorf("cache: %w", c.s.fail(err))
	}
	if out.Created, err = time.Parse(time.RFC3339Nano, created); err != nil {
		return cache.Output{}, false, nil // damaged: Check finds it, a build makes it anew
	}
	err = c.s.ensureLayer(ctx, out.DiffID)
	if errors.Is(err, registry.ErrAbsent) {
		return cache.Output{}, false, nil
	}
	if err != nil {
		return cache.Output{}, false, fmt.Errorf("cache: %w", err)
	}
	c.s.touch(out.DiffID.Encoded())
	if now := c.s.now(); now.UnixNano()-used > int64(hitInterval) {
		c.s.mu.Lock()
		c.s.hits[string(key[:])] = now
		c.s.mu.Unlock()
	}
	return out, true, nil
}

// Put implements cache.Cache.
func (c records) Put(ctx context.Context, rec cache.Record, out cache.Output) error {
	if err := c.s.writable(); err != nil {
		return err
	}
	if !rec.Valid() {
		return fmt.Errorf("cache: %w: the key is not that of its fields", registry.ErrInvalid)
	}
	now := c.s.now().UnixNano()
	err := c.s.update(ctx, func(tx querier) error {
		if ok, err := c.s.hasLayer(ctx, tx, out.DiffID); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("layer %s: %w", out.DiffID, registry.ErrAbsent))
		}
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO cache (key, slot, fields, layer, content, created, size, added, used)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			rec.Key[:], rec.Slot, rec.Encode(), out.DiffID, out.Content, out.Created.Format(time.RFC3339Nano), out.Size, now, now)
		if err != nil || rec.Note == nil {
			return err
		}
		return putNote(ctx, tx, rec)
	})
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	c.s.touch(out.DiffID.Encoded())
	return nil
}

// Nearest implements cache.Cache.
func (c records) Nearest(ctx context.Context, slot string) (cache.Record, bool, error) {
	var key, fields []byte
	err := c.s.db.QueryRowContext(ctx, "SELECT key, fields FROM cache WHERE slot = ? ORDER BY added DESC, rowid DESC LIMIT 1", slot).Scan(&key, &fields)
	if errors.Is(err, sql.ErrNoRows) {
		return cache.Record{}, false, nil
	}
	if err != nil {
		return cache.Record{}, false, fmt.Errorf("cache: %w", c.s.fail(err))
	}
	rec, err := cache.Decode(slot, fields)
	if err != nil {
		return cache.Record{}, false, nil // damaged: it explains nothing
	}
	return rec, true, nil
}

// Recall implements cache.Recaller. Records that are damaged are left out.
func (c records) Recall(ctx context.Context, diffID digest.Digest) ([]cache.Entry, error) {
	type row struct {
		cache.Entry
		ok bool
	}
	rows, err := all(ctx, c.s.db, func(r *sql.Rows) (v row, err error) {
		var slot, created string
		var fields, data []byte
		if err := r.Scan(&slot, &fields, (*string)(&v.DiffID), (*string)(&v.Content), &created, &v.Size, &data); err != nil {
			return v, err
		}
		var timeErr, fieldsErr error
		v.Created, timeErr = time.Parse(time.RFC3339Nano, created)
		v.Record, fieldsErr = cache.Decode(slot, fields)
		v.Note = data
		v.ok = timeErr == nil && fieldsErr == nil
		return v, nil
	}, "SELECT cache.slot, fields, layer, content, created, size, data FROM cache LEFT JOIN note USING (key) WHERE layer = ? ORDER BY added, cache.rowid", diffID)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", c.s.fail(err))
	}
	var list []cache.Entry
	for _, v := range rows {
		if v.ok {
			list = append(list, v.Entry)
		}
	}
	return list, nil
}

// noteHits records when cache records were last used.
func (s *Store) noteHits(ctx context.Context) error {
	s.mu.Lock()
	hits := s.hits
	s.hits = map[string]time.Time{}
	s.mu.Unlock()
	if len(hits) == 0 {
		return nil
	}
	err := s.update(ctx, func(tx querier) error {
		for key, t := range hits {
			if _, err := tx.ExecContext(ctx, "UPDATE cache SET used = ? WHERE key = ?", t.UnixNano(), []byte(key)); err != nil {
				return err
			}
		}
		return nil
	})
	if isFull(err) {
		return nil // what was asked for is done; a later use is noted another time
	}
	return err
}
