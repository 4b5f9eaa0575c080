package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"nacre/internal/cache/trim"

	"golang.org/x/sys/unix"
)

// A build that has reported its result trims the cache: once in a while, for a moment, and one process at a time. The file
// trimmed has the time that it was last looked at.

// lowDisk is how often a disk is looked at that has less room than the policy wants.
const lowDisk = time.Minute

// Trim removes from the build cache what p has go, if it is time for it. What this process used or made, what
// others use, and what images need stays. When ctx ends, what is not done is left to the next: so are files that were taken out of
// the store and not yet unlinked.
func (s *Store) Trim(ctx context.Context, p trim.Policy) (CacheRemoved, error) {
	if err := s.writable(); err != nil || !p.On {
		return CacheRemoved{}, err
	}
	size, free, err := s.Disk()
	if err != nil {
		return CacheRemoved{}, err
	}
	limits := p.Limits(size)
	stamp, err := s.takeTrim(p.Every, free < limits.MinFree)
	if err != nil || stamp == nil {
		return CacheRemoved{}, s.fail(err)
	}
	defer stamp.Close()
	if err := s.noteHits(ctx); err != nil {
		return CacheRemoved{}, err
	}
	full := limits.MaxUsed > 0 && size-free > limits.MaxUsed || free < limits.MinFree
	if old, err := s.hasOld(ctx, limits.Unused); err != nil || !old && !full {
		return CacheRemoved{}, err
	}
	items, err := s.CacheItems(ctx, false)
	if err != nil {
		return CacheRemoved{}, err
	}
	gone, err := s.ChooseCache(items, limits, func(c CacheItem) bool { return !c.Shared && !s.touched(c) })
	if err != nil || len(gone) == 0 {
		return CacheRemoved{}, err
	}
	s.bin.hold()
	r, err := s.DropCache(ctx, gone)
	for _, path := range s.bin.held() {
		if removeAll(ctx, path) != nil {
			s.owner.leave() // to whoever opens the store next
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return r, err
}

// hasOld tells whether there is something in the cache that was not used for so long.
func (s *Store) hasOld(ctx context.Context, unused time.Duration) (bool, error) {
	if unused <= 0 {
		return false, nil
	}
	then := s.now().Add(-unused)
	for _, in := range [][2]string{{"caches", "record"}, {"contexts", ""}} {
		names, err := readNames(s.path(in[0]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, s.fail(err)
		}
		for _, name := range names {
			if st, err := os.Stat(s.path(in[0], name, in[1])); err == nil && st.ModTime().Before(then) {
				return true, nil
			}
		}
	}
	var n int
	err := s.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM cache WHERE used < ?)", then.UnixNano()).Scan(&n)
	return n > 0, s.fail(err)
}

// takeTrim returns the file trimmed, locked, where it is time; nil where it is not. In a new store it is not: it has nothing that is old.
func (s *Store) takeTrim(every time.Duration, low bool) (*os.File, error) {
	path, now := s.path("trimmed"), s.now()
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.WriteFile(path, nil, 0o600); err != nil || every > 0 {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if low {
		every = min(every, lowDisk)
	}
	// A time in the future is a clock that was set back since.
	if st != nil && now.Sub(st.ModTime()) < every && !st.ModTime().After(now) {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = nil // another process is at it
		}
		return nil, err
	}
	return f, os.Chtimes(path, now, now)
}

// Disk is the size of the disk of the store, and how many bytes of it are free for us.
func (s *Store) Disk() (size, free int64, err error) {
	if s.testOnlyDisk != nil {
		size, free = s.testOnlyDisk()
		return size, free, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.root, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", s.root, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// touch notes that this process used a layer or a cache directory.
func (s *Store) touch(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uses[name] = true
}

// touched tells whether this process used or made it. Of contexts that is not noted: a young one may be.
func (s *Store) touched(c CacheItem) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses[c.ID] || c.Kind == CacheContext && s.now().Sub(c.Used) < 24*time.Hour
}

// diskUsageUntil is diskUsage, of as much as can be looked at before ctx ends.
func diskUsageUntil(ctx context.Context, path string) (n int64) {
	filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(p, &st) == nil {
			n += st.Blocks * 512
		}
		return ctx.Err()
	})
	return n
}
