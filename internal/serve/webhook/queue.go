package webhook

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver
)

// queue is the database of events that are still to be delivered. Times are in milliseconds since 1970.
type queue struct {
	db   *sql.DB
	lock *os.File
}

const schema = `
CREATE TABLE IF NOT EXISTS event (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	endpoint TEXT NOT NULL,
	body     BLOB NOT NULL,
	attempts INTEGER NOT NULL DEFAULT 0,
	due      INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS event_endpoint ON event (endpoint, id);
CREATE TABLE IF NOT EXISTS dead (
	id       INTEGER PRIMARY KEY,
	endpoint TEXT NOT NULL,
	body     BLOB NOT NULL,
	died     INTEGER NOT NULL,
	reason   TEXT NOT NULL);`

// maxDead is how many undeliverable events are kept for people to look at.
const maxDead = 1000

// openQueue opens the database at path, or makes it. One process at a time has it.
func openQueue(ctx context.Context, path string) (*queue, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: another server is using it: %w", path, err)
	}
	// NORMAL: what is committed survives the end of the process; of a power failure it
	// may lose the last moment, and never more than that.
	q := url.Values{"_busy_timeout": {"10000"}, "_synchronous": {"NORMAL"}, "_pragma": {"journal_mode(WAL)"}}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err == nil {
		db.SetMaxOpenConns(1)
		_, err = db.ExecContext(ctx, schema)
		if err != nil {
			db.Close()
		}
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &queue{db: db, lock: lock}, nil
}

func (q *queue) close() error { return errors.Join(q.db.Close(), q.lock.Close()) }

// errFull means that an endpoint's queue has as many events as it may.
var errFull = errors.New("the queue is full")

// add appends an event for an endpoint, unless there are max already. Errors: errFull.
func (q *queue) add(ctx context.Context, endpoint string, body []byte, max int, now time.Time) error {
	r, err := q.db.ExecContext(ctx, `INSERT INTO event (endpoint, body, due)
		SELECT ?, ?, ? WHERE (SELECT count(*) FROM event WHERE endpoint = ?) < ?`, endpoint, body, now.UnixMilli(), endpoint, max)
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(errFull, err)
	}
	return nil
}

// pending is the event an endpoint is to get next.
type pending struct {
	id       int64
	body     []byte
	attempts int
	due      time.Time
}

// next finds it; ok is false where there is none.
func (q *queue) next(ctx context.Context, endpoint string) (p pending, ok bool, err error) {
	var due int64
	err = q.db.QueryRowContext(ctx, `SELECT id, body, attempts, due FROM event WHERE endpoint = ? ORDER BY id LIMIT 1`, endpoint).
		Scan(&p.id, &p.body, &p.attempts, &due)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	p.due = time.UnixMilli(due)
	return p, err == nil, err
}

func (q *queue) done(ctx context.Context, id int64) error {
	_, err := q.db.ExecContext(ctx, `DELETE FROM event WHERE id = ?`, id)
	return err
}

func (q *queue) postpone(ctx context.Context, id int64, attempts int, due time.Time) error {
	_, err := q.db.ExecContext(ctx, `UPDATE event SET attempts = ?, due = ? WHERE id = ?`, attempts, due.UnixMilli(), id)
	return err
}

// bury puts an event where nothing is delivered from.
func (q *queue) bury(ctx context.Context, id int64, reason string, now time.Time) error {
	tx, err := q.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`INSERT OR REPLACE INTO dead (id, endpoint, body, died, reason) SELECT id, endpoint, body, ?, ? FROM event WHERE id = ?`, []any{now.UnixMilli(), reason, id}},
		{`DELETE FROM event WHERE id = ?`, []any{id}},
		{`DELETE FROM dead WHERE id NOT IN (SELECT id FROM dead ORDER BY id DESC LIMIT ?)`, []any{maxDead}},
	} {
		if _, err := tx.ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// length is how many events wait for an endpoint.
func (q *queue) length(ctx context.Context, endpoint string) (n int, err error) {
	err = q.db.QueryRowContext(ctx, `SELECT count(*) FROM event WHERE endpoint = ?`, endpoint).Scan(&n)
	return n, err
}
