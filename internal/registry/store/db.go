package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
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

// walPages is the length of the log, in pages of 4 KiB, at which a commit empties it: the first
// connection of all reads it whole, which takes as long as it is (0.2 ms for 100 pages), and emptying it takes two fsyncs.
const walPages = 400

// openDB opens nacre.db, making it where it does not exist. The connection
// itself is made by the first statement.
func openDB(ctx context.Context, root string, readOnly bool) (*sql.DB, error) {
	q := url.Values{
		// Writers queue for longer than any transaction here lasts, and it is not the one that waits longest who is next: on
		// a machine with forty processes for each processor ten seconds were too few for eight builds at once.
		"_busy_timeout": {"60000"},
		// NORMAL: a commit is in the WAL's page cache; kill -9 loses nothing, power loss may
		// lose the last commits but never tears one. Names are committed with FULL.
		"_synchronous": {"NORMAL"},
		"_error_rc":    {"true"},
		"_pragma":      {fmt.Sprintf("wal_autocheckpoint(%d)", walPages)},
	}
	if readOnly {
		q.Set("mode", "ro")
	}
	ofdLocks()
	db, err := sql.Open("sqlite", dsn(filepath.Join(root, "nacre.db"), q))
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

// ofdLocks has SQLite use locks that belong to an open file rather than to the process:
// the others vanish when anything in the process closes a file descriptor of the database.
var ofdLocks = sync.OnceFunc(func() { sqlite.OFDLocking(true) }) // without OFD locks the others do

// closeDB closes the database without a checkpoint of its log, which SQLite
// would make when the last connection closes: two or three fsyncs at the end of every
// command that wrote, each of which waits for whatever else is on its way to
// the disk. The log stays, the next connection reads it, and who makes it longer than
// walPages makes the checkpoint.
func closeDB(db *sql.DB, root string) error {
	f, err := os.Open(filepath.Join(root, "nacre.db"))
	if err == nil {
		defer f.Close()
		// What another reader of the database would hold: SQLite only makes
		// that checkpoint if it can lock everyone out (sqlite3WalClose; the bytes
		// are those of os.h, "locking bytes").
		lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 0x40000000 + 2, Len: 510}
		unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock) // a checkpoint more, if it fails
	}
	return db.Close()
}

// dsn is the data source name of a database file whose path may have any character.
func dsn(path string, q url.Values) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	return u.String()
}

// prepare checks the format version, creates the tables on first use and adds what an older
// format does not have.
func prepare(ctx context.Context, db *sql.DB, root string, readOnly bool) error {
	v, err := version(ctx, db)
	if err != nil || v == formatVersion {
		return err
	}
	if v > formatVersion {
		return fmt.Errorf("%w: %s has format %d and this nacre knows up to %d; use a newer nacre", ErrVersion, root, v, formatVersion)
	}
	if readOnly && v == 0 {
		return fmt.Errorf("%s is not a store yet: %w", root, os.ErrNotExist)
	}
	if readOnly {
		return fmt.Errorf("%w: %s has format %d, which this nacre reads after raising it to %d, and that takes writing", ErrVersion, root, v, formatVersion)
	}
	if err := os.MkdirAll(filepath.Join(root, "blobs", "sha512"), 0o700); err != nil { // not in older formats
		return err
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
		steps := strings.Join(formats[v:], "")
		_, err := tx.ExecContext(ctx, steps+fmt.Sprintf("PRAGMA user_version = %d;", formatVersion))
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
	return s.transact(ctx, false, f)
}

// updateDurably is update whose changes, and all committed before them, survive power loss too.
func (s *Store) updateDurably(ctx context.Context, f func(tx querier) error) error {
	return s.transact(ctx, true, f)
}

func (s *Store) transact(ctx context.Context, durable bool, f func(tx querier) error) error {
	err := transact(ctx, s.db, durable, func(tx querier) error {
		err := f(tx)
		s.point("before commit")
		return err
	})
	s.point("after commit")
	return s.fail(err)
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
