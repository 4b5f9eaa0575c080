package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Lock takes the lock called name among all processes and goroutines that use
// the store, waiting for whoever holds it. It is let go by unlock, or by the
// end of the process however that comes. Names are file names: no slashes.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	unlock, err = lockFile(ctx, filepath.Join(s.root, "locks", name))
	return unlock, s.fail(err)
}

// lockFile takes an exclusive flock(2) of path, made where absent. The file is
// removed by unlock, so that locks/ holds only locks that are held.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	wait := time.Millisecond
	for {
		f, err := tryLock(path)
		if err == nil {
			return func() {
				os.Remove(path) // before letting go: see tryLock
				f.Close()
			}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
			wait = min(2*wait, 20*time.Millisecond)
		}
	}
}

// tryLock opens and locks path or returns EWOULDBLOCK. A file that was removed
// between the two is nobody's lock any more, and another is tried.
func tryLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			f.Close()
			return nil, err
		}
		if st.Nlink > 0 {
			return f, nil
		}
		f.Close()
	}
}
