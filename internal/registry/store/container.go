package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/registry"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// ContainerRow is what the store knows of a container: its name is unique, its image is
// held for as long as the row is there, and its folder is containers/<ID>. What is in the folder,
// but for the file "lock", is package container's business.
type ContainerRow struct {
	ID      string        // 64 hex digits
	Name    string        // unique
	Image   digest.Digest // manifest or index it runs on, as in Image.Target
	Created time.Time
	// Doomed: it is to be removed when nobody runs it any more (run --rm), by whoever notices.
	Doomed bool
}

// NameTakenError says that a container's name is another's.
type NameTakenError struct{ Name, ID string }

// Error is in the words of docker's daemon.
func (e *NameTakenError) Error() string {
	return fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+e.Name, e.ID)
}

// ContainerDir is the folder of a container.
func (s *Store) ContainerDir(id string) string { return s.path("containers", id) }

// AddContainer records a container and makes dir, a directory of TempDir, its folder.
//
// Errors: *NameTakenError; registry.ErrAbsent where its image is gone.
func (s *Store) AddContainer(ctx context.Context, row ContainerRow, dir string) error {
	if err := s.writable(); err != nil {
		return err
	}
	moved := moves{s: s}
	err := s.update(ctx, func(tx querier) error {
		if err := nameFree(ctx, tx, row.Name); err != nil {
			return err
		}
		if ok, err := s.hasImage(ctx, tx, row.Image); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("image %s: %w", row.Image, registry.ErrAbsent)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO container (id, name, image, created, doomed) VALUES (?, ?, ?, ?, ?)",
			row.ID, row.Name, row.Image, row.Created.UnixNano(), row.Doomed)
		if err != nil {
			return err
		}
		if err := moved.away(s.ContainerDir(row.ID)); err != nil {
			return err
		}
		return moved.to(dir, s.ContainerDir(row.ID))
	})
	if err != nil {
		moved.undo()
		return err
	}
	s.unlink(moved.trash...)
	return nil
}

func (s *Store) hasImage(ctx context.Context, tx querier, d digest.Digest) (ok bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM image WHERE digest = ?)", d).Scan(&ok)
	return ok, err
}

func nameFree(ctx context.Context, tx querier, name string) error {
	var id string
	err := tx.QueryRowContext(ctx, "SELECT id FROM container WHERE name = ?", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return &NameTakenError{name, id}
}

// Containers lists the containers, newest first.
func (s *Store) Containers(ctx context.Context) ([]ContainerRow, error) {
	rows, err := s.containers(ctx, s.db, "")
	return rows, s.fail(err)
}

// HasContainer tells whether a container is on record. It waits for those who are changing that: a container's folder goes, or comes,
// a moment before that is committed.
func (s *Store) HasContainer(ctx context.Context, id string) (ok bool, err error) {
	look := func(tx querier) error {
		return tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM container WHERE id = ?)", id).Scan(&ok)
	}
	if s.writable() != nil {
		return ok, s.fail(look(s.db))
	}
	return ok, s.update(ctx, look)
}

// DoomedContainers lists those that are to be removed when nobody runs them.
func (s *Store) DoomedContainers(ctx context.Context) ([]ContainerRow, error) {
	rows, err := s.containers(ctx, s.db, "WHERE doomed = 1")
	return rows, s.fail(err)
}

// ContainersLike lists those that s may mean: the one of that name or ID, else all whose ID begins so.
func (s *Store) ContainersLike(ctx context.Context, nameOrID string) ([]ContainerRow, error) {
	rows, err := s.containers(ctx, s.db, "WHERE name = ?1 OR id = ?1", nameOrID)
	if err != nil || len(rows) > 0 || !isHex(nameOrID) {
		return rows, s.fail(err)
	}
	rows, err = s.containers(ctx, s.db, "WHERE id >= ?1 AND id < ?1 || 'g'", nameOrID) // "g" sorts after every hex digit
	return rows, s.fail(err)
}

func (s *Store) containers(ctx context.Context, q querier, where string, args ...any) ([]ContainerRow, error) {
	return all(ctx, q, func(r *sql.Rows) (v ContainerRow, err error) {
		var created int64
		err = r.Scan(&v.ID, &v.Name, (*string)(&v.Image), &created, &v.Doomed)
		v.Created = time.Unix(0, created)
		return v, err
	}, "SELECT id, name, image, created, doomed FROM container "+where+" ORDER BY created DESC, id", args...)
}

// RenameContainer gives a container another name. Errors: *NameTakenError, registry.ErrAbsent.
func (s *Store) RenameContainer(ctx context.Context, id, name string) error {
	return s.changeContainer(ctx, id, func(tx querier) (sql.Result, error) {
		if err := nameFree(ctx, tx, name); err != nil {
			return nil, err
		}
		return tx.ExecContext(ctx, "UPDATE container SET name = ? WHERE id = ?", name, id)
	})
}

// DoomContainer says that a container is to be removed when nobody runs it any more.
func (s *Store) DoomContainer(ctx context.Context, id string) error {
	return s.changeContainer(ctx, id, func(tx querier) (sql.Result, error) {
		return tx.ExecContext(ctx, "UPDATE container SET doomed = 1 WHERE id = ?", id)
	})
}

func (s *Store) changeContainer(ctx context.Context, id string, f func(tx querier) (sql.Result, error)) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.update(ctx, func(tx querier) error {
		r, err := f(tx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return fmt.Errorf("container %s: %w", id, registry.ErrAbsent)
	})
}

// DropContainer removes a container's record and its folder. The caller holds its lock. What of its
// image nothing else needs is left to Prune.
func (s *Store) DropContainer(ctx context.Context, id string) error {
	return s.removing(ctx, func(tx querier, r *removal) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM container WHERE id = ?", id); err != nil {
			return err
		}
		return r.moved.away(s.ContainerDir(id))
	})
}

// DiskUsage is the disk space that a file or directory takes, with all in it. What cannot be read takes none.
func DiskUsage(path string) int64 { return diskUsage(path) }

// lockName is the file in a container's folder that is held locked by who runs, starts or removes it.
const lockName = "lock"

// LockContainer takes the lock of a container's folder without waiting. It is an open file description lock
// (fcntl(2)): whoever has the file open, or was given it by the one who locked it, holds it, and it ends
// with the last of them however that comes.
//
// Errors: unix.EAGAIN where another holds it; fs.ErrNotExist.
func LockContainer(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		f.Close()
		if errors.Is(err, unix.EACCES) {
			err = unix.EAGAIN
		}
		return nil, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return f, nil
}

// ContainerLocked tells whether somebody holds the lock of a container's folder, without disturbing who
// tries to take it.
func ContainerLocked(dir string) bool {
	fd, err := unix.Open(filepath.Join(dir, lockName), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}
