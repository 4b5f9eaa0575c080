package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"nacre/internal/cache"
)

const (
	// slotNotes bounds the notes of one slot in bytes: those of the latest builds are what
	// misses are compared with. The latest stays, however large.
	slotNotes = 8 << 20
	// goneNotes is how many notes without a record are kept.
	goneNotes = 10_000
)

// putNote keeps the note of a record. Older notes of its slot lose theirs where it gets too much.
func putNote(ctx context.Context, tx querier, rec cache.Record) error {
	if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO note (key, slot, data) VALUES (?, ?, ?)", rec.Key[:], rec.Slot, rec.Note); err != nil {
		return err
	}
	if len(rec.Note) < 4<<10 {
		return nil // not what fills a disk; larger ones of the slot make room for it
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM note WHERE rowid IN (SELECT id FROM
		(SELECT rowid AS id, sum(length(data)) OVER newer AS bytes, row_number() OVER newer AS n
			FROM note WHERE slot = ? AND data IS NOT NULL WINDOW newer AS (ORDER BY rowid DESC))
		WHERE bytes > ? AND n > 1)`, rec.Slot, slotNotes)
	return err
}

// dropGoneNotes forgets the oldest records that were pruned.
func dropGoneNotes(ctx context.Context, tx querier) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM note WHERE data IS NULL AND rowid <
		(SELECT rowid FROM note WHERE data IS NULL ORDER BY rowid DESC LIMIT 1 OFFSET ?)`, goneNotes-1)
	return err
}

// Note implements cache.Cache.
func (c records) Note(ctx context.Context, key cache.Key) (data []byte, ok bool, err error) {
	err = c.s.db.QueryRowContext(ctx, "SELECT data FROM note WHERE key = ?", key[:]).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("cache: %w", c.s.fail(err))
	}
	return data, true, nil
}

// Earlier implements cache.Cache. Records that are damaged are left out.
func (c records) Earlier(ctx context.Context, prefix string, n int) ([]cache.Record, error) {
	// Slots have zero bytes in them, where SQLite ends the texts it measures: they are taken as
	// bytes. The range, in which all of them are, is for the index.
	list, err := all(ctx, c.s.db, func(r *sql.Rows) (rec cache.Record, err error) {
		var slot string
		var fields []byte
		if err := r.Scan(&slot, &fields); err != nil {
			return rec, err
		}
		if rec, err = cache.Decode(slot, fields); err != nil {
			return cache.Record{}, nil
		}
		return rec, nil
	}, `SELECT slot, fields FROM cache WHERE slot >= ?1 AND slot <= ?2 AND substr(CAST(slot AS BLOB), 1, ?4) = ?3
		ORDER BY added DESC, rowid DESC LIMIT ?5`, prefix, prefix+"\xff\xff\xff\xff", []byte(prefix), len(prefix), n)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", c.s.fail(err))
	}
	kept := list[:0]
	for _, rec := range list {
		if rec.Fields != nil {
			kept = append(kept, rec)
		}
	}
	return kept, nil
}

// recordOldNotes takes over the notes of records that were taken over.
func (s *Store) recordOldNotes(ctx context.Context, old *sql.DB) error {
	return eachOld(ctx, old, "SELECT key, slot, data FROM note WHERE data IS NOT NULL ORDER BY rowid", func(r *sql.Rows) error {
		var key, data []byte
		var slot string
		if r.Scan(&key, &slot, &data) != nil {
			return nil
		}
		return s.update(ctx, func(tx querier) error {
			_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO note (key, slot, data) SELECT ?, ?, ? FROM cache WHERE key = ?1", key, slot, data)
			return err
		})
	})
}
