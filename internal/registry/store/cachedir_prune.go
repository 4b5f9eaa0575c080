package store

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// pruneCacheDirs removes the cache directories that o takes and nobody uses.
func (s *Store) pruneCacheDirs(ctx context.Context, o PruneOptions) (removed []CacheDir, err error) {
	list, err := s.CacheDirs(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if !o.Until.IsZero() && !c.Used.Before(o.Until) {
			continue
		}
		ok, err := s.removeCacheDir(ctx, c.Name)
		if err != nil {
			return removed, err
		}
		if ok {
			removed = append(removed, c)
		}
	}
	return removed, nil
}

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
