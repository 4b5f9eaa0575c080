package store

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"
)

// Version is a state of the database: what was read under one Version is still so for as
// long as CurrentVersion returns an equal one. The zero Version is equal to none.
type Version struct {
	header [walHeader]byte
	known  bool
}

// Same tells whether nothing was committed between v and w, by any process.
func (v Version) Same(w Version) bool { return v.known && w.known && v.header == w.header }

// walHeader is the size of the first copy of the header of SQLite's WAL index, nacre.db-shm: with a
// counter of transactions, the length of the log and checksums of its last frame. Every
// commit changes it before it returns (sqlite.org/walformat.html, "The WAL-Index Header").
const walHeader = 48

// versions looks at the WAL index. Reading it is a hundred times cheaper than asking
// SQLite for its data_version.
type versions struct {
	once sync.Once
	conn *sql.Conn // open for as long as the store is, so that the WAL index remains the one it is
	shm  *os.File
	err  error
}

// CurrentVersion returns the state of the database. Where that cannot be found out it returns the
// zero Version.
func (s *Store) CurrentVersion(ctx context.Context) Version {
	w := &s.versions
	w.once.Do(func() { w.err = s.watch(context.WithoutCancel(ctx)) })
	var v Version
	if w.err != nil {
		return v
	}
	n, err := w.shm.ReadAt(v.header[:], 0)
	v.known = err == nil && n == walHeader
	return v
}

func (s *Store) watch(ctx context.Context) (err error) {
	s.db.SetMaxOpenConns(maxConns + 1)
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	var n int
	// The first read opens the WAL index.
	if err := c.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		return errors.Join(err, c.Close())
	}
	f, err := os.Open(s.path("nacre.db-shm"))
	if err != nil {
		return errors.Join(err, c.Close())
	}
	s.versions.conn, s.versions.shm = c, f
	return nil
}

// unwatch ends what watch began.
func (s *Store) unwatch() error {
	w := &s.versions
	w.once.Do(func() { w.err = os.ErrClosed })
	if w.conn == nil {
		return nil
	}
	// The connection first: without open file description locks, closing the
	// file would take its locks away.
	return errors.Join(w.conn.Close(), w.shm.Close())
}
