package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// querier is what statements run on: the database or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// maxConns bounds SQLite connections of a process. Each is opened when first
// needed and costs 0.5 ms; readers beyond it wait.
const maxConns = 4

// openDB opens nacre.db, making it where it does not exist. The connection
// itself is made by the first statement.
func openDB(ctx context.Context, root string, readOnly bool) (*sql.DB, error) {
	q := url.Values{
		// Writers queue for longer than any transaction here lasts.
		"_busy_timeout": {"10000"},
		// NORMAL: a commit is in the WAL's page cache; kill -9 loses nothing, power loss may
		// lose the last commits but never tears one. Names are committed with FULL.
		"_synchronous": {"NORMAL"},
		"_error_rc":    {"true"},
	}
	if readOnly {
		q.Set("mode", "ro")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Join(root, "nacre.db")}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	if err := prepare(ctx, db, root, readOnly); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// prepare checks the format version and creates the tables on first use.
func prepare(ctx context.Context, db *sql.DB, root string, readOnly bool) error {
	v, err := version(ctx, db)
	if err != nil || v == formatVersion {
		return err
	}
	if v > formatVersion {
		return fmt.Errorf("%w: %s has format %d and this nacre knows up to %d; use a newer nacre", ErrVersion, root, v, formatVersion)
	}
	if readOnly {
		return fmt.Errorf("%s is not a store yet: %w", root, os.ErrNotExist)
	}
	// Switching to WAL does not wait for others as transactions do, hence the lock.
	unlock, err := lockFile(ctx, filepath.Join(root, "locks", "create"))
	if err != nil {
		return err
	}
	defer unlock()
	if v, err = version(ctx, db); err != nil || v == formatVersion {
		return err
	}
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
		return err
	}
	return transact(ctx, db, true, func(tx querier) error {
		_, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d;", formatVersion))
		return err
	})
}

func version(ctx context.Context, db *sql.DB) (v int, err error) {
	err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v)
	return v, err
}

// update runs f in a transaction that no other writer runs beside. When it
// returns nil the changes survive kill -9.
func (s *Store) update(ctx context.Context, f func(tx querier) error) error {
	return s.fail(transact(ctx, s.db, false, f))
}

// updateDurably is update whose changes, and all committed before them, survive power loss too.
func (s *Store) updateDurably(ctx context.Context, f func(tx querier) error) error {
	return s.fail(transact(ctx, s.db, true, f))
}

func transact(ctx context.Context, db *sql.DB, durable bool, f func(tx querier) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	// What is begun is ended: transactions are short, and a statement interrupted by
	// ctx would leave files renamed that no row tells of.
	ctx = context.WithoutCancel(ctx)
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if durable {
		if _, err := c.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
			return err
		}
		defer c.ExecContext(ctx, "PRAGMA synchronous = NORMAL")
	}
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done { // an error, or a panic of f on its way up
			c.ExecContext(ctx, "ROLLBACK")
		}
	}()
	if err := f(c); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, "COMMIT"); err != nil {
		return err
	}
	done = true
	return nil
}

// all reads every row of a query before it returns, so that no connection is
// held while the caller works with them.
func all[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// texts reads a query of one text column.
func texts[T ~string](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	return all(ctx, q, func(r *sql.Rows) (T, error) {
		var v string
		err := r.Scan(&v)
		return T(v), err
	}, query, args...)
}
