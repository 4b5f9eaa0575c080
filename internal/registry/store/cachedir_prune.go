package store

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// removeCacheDir removes the cache directory called name unless it is in use; false
// then, and where it is gone.
func (s *Store) removeCacheDir(ctx context.Context, name string) (bool, error) {
	f, err := s.lockCacheDir(ctx, name, SharingPrivate, nil)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, s.fail(err)
	}
	defer f.Close()
	trash, err := s.discard(s.path("caches", name))
	if err != nil || trash == "" {
		return false, s.fail(err)
	}
	s.unlink(trash)
	s.point("cache directory removed")
	return true, nil
}
