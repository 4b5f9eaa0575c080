package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nacre/internal/rootfs"
)

// A cache directory is what RUN --mount=type=cache mounts: a folder that outlives
// builds and is part of no image. Each is caches/<name>/ with a record and its data/; whoever
// uses it holds a lock on the record, which is never written again.

// Sharing says who else may use a cache directory at the same time.
type Sharing string

// The ways of sharing.
const (
	SharingShared  Sharing = "shared"  // others who share it too
	SharingPrivate Sharing = "private" // nobody: who comes second gets another directory
	SharingLocked  Sharing = "locked"  // nobody: who comes second waits
)

// CacheDirOptions are what a cache directory is found by, and how a new one begins.
type CacheDirOptions struct {
	ID string
	// Variant keeps directories of one ID apart that began differently; a text for people.
	Variant string
	Sharing Sharing // empty: SharingShared
	// Mode and owner of a new directory: bits as in st_mode, 0 is 0755.
	Mode     uint32
	UID, GID int
	// Fill puts what a new directory begins with into dir; nil: nothing.
	Fill func(dir string) error
}

// CacheDir describes a cache directory.
type CacheDir struct {
	Name          string // of its folder: 32 hex digits, a dash, a number
	ID, Variant   string
	Created, Used time.Time
	Size          int64 // bytes on disk
	InUse         bool
}

// cacheRecord is caches/<name>/record.
type cacheRecord struct {
	ID      string    `json:"id"`
	Variant string    `json:"variant,omitempty"`
	Created time.Time `json:"created"`
	Mode    uint32    `json:"mode"` // of data/ when it was made, as its owner
	UID     int       `json:"uid"`
	GID     int       `json:"gid"`
}

// maxCacheRecord bounds what is read as a record.
const maxCacheRecord = 64 << 10

// UseCacheDir returns the data directory of a cache directory, made where there is
// none, once nobody uses it who may not at the same time. release ends the use.
func (s *Store) UseCacheDir(ctx context.Context, o CacheDirOptions) (dir string, release func(), err error) {
	if err := s.writable(); err != nil {
		return "", nil, err
	}
	for n := 0; ; n++ {
		name := cacheDirName(o.ID, o.Variant, n)
		f, err := s.lockCacheDir(ctx, name, o.Sharing, func() error { return s.makeCacheDir(name, o) })
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // private, and in use: the next one
		}
		if err != nil {
			return "", nil, s.fail(fmt.Errorf("cache %s: %w", o.ID, err))
		}
		if err := s.remakeData(f, name); err != nil {
			f.Close()
			return "", nil, s.fail(fmt.Errorf("cache %s: %w", o.ID, err))
		}
		now := s.now()
		os.Chtimes(f.Name(), now, now) // Used; a saving at most
		s.touch(name)
		return s.path("caches", name, "data"), func() { f.Close() }, nil
	}
}

// remakeData makes the data directory of a locked cache directory anew, should it be gone: a user who had moved it
// elsewhere (rootfs.Place) was killed.
func (s *Store) remakeData(record *os.File, name string) error {
	data := s.path("caches", name, "data")
	if _, err := os.Lstat(data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := readCacheRecord(record)
	if err == nil {
		err = os.Mkdir(data, 0o700)
	}
	if errors.Is(err, fs.ErrExist) { // by another who shares it
		return nil
	}
	if err != nil {
		return err
	}
	if err := rootfs.Chown(data, r.UID, r.GID); err != nil && os.Geteuid() == 0 {
		return err
	}
	return unix.Chmod(data, r.Mode)
}

// cacheDirName is the folder of the nth directory that a key has.
func cacheDirName(id, variant string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(id), id, variant))
	return fmt.Sprintf("%s-%d", hex.EncodeToString(sum[:16]), n)
}

// lockCacheDir locks the record of a cache directory as sharing has it. Where there is
// none it is made, by make; nil: fs.ErrNotExist. EWOULDBLOCK: it is private and in use.
func (s *Store) lockCacheDir(ctx context.Context, name string, sharing Sharing, make func() error) (*os.File, error) {
	how := unix.LOCK_EX
	if sharing == SharingShared || sharing == "" {
		how = unix.LOCK_SH
	}
	path := s.path("caches", name, "record")
	for wait := time.Millisecond; ; wait = min(2*wait, maxCacheWait) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && make != nil {
			if err := make(); err != nil {
				return nil, err
			}
			f, err = os.Open(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // pruned since
			}
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil && isAt(f, path) {
			return f, nil
		}
		f.Close()
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
			continue // another directory has this name by now
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		case sharing == SharingPrivate && wait > time.Millisecond: // a look at it takes less
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// maxCacheWait is how long to wait before trying again to lock a cache directory.
const maxCacheWait = 50 * time.Millisecond

// isAt tells whether f is the file that path names.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// makeCacheDir makes a cache directory, unless another process does first.
func (s *Store) makeCacheDir(name string, o CacheDirOptions) error {
	if o.Mode == 0 {
		o.Mode = 0o755
	}
	r := cacheRecord{ID: o.ID, Variant: o.Variant, Created: s.now().UTC(), Mode: o.Mode & 0o7777, UID: o.UID, GID: o.GID}
	dir, remove, err := s.newCacheDir(r, o.Fill)
	if err != nil {
		return err
	}
	defer remove()
	s.point("cache directory made")
	err = os.Rename(dir, s.path("caches", name))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// newCacheDir makes a folder as it is below caches/, in tmp/.
func (s *Store) newCacheDir(r cacheRecord, fill func(dir string) error) (dir string, remove func(), err error) {
	if err := os.MkdirAll(s.path("caches"), 0o700); err != nil {
		return "", nil, err
	}
	dir, remove, err = s.TempDir("cache")
	if err != nil {
		return "", nil, err
	}
	data := filepath.Join(dir, "data")
	err = func() error {
		record, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if len(record) > maxCacheRecord {
			return errors.New("its id is too long")
		}
		if err := os.WriteFile(filepath.Join(dir, "record"), record, 0o600); err != nil {
			return err
		}
		if err := os.Mkdir(data, 0o700); err != nil {
			return err
		}
		if fill != nil {
			if err := fill(data); err != nil {
				return err
			}
		}
		if err := rootfs.Chown(data, r.UID, r.GID); err != nil && os.Geteuid() == 0 {
			return err
		}
		return unix.Chmod(data, r.Mode)
	}()
	if err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}

// CacheDirs lists the cache directories, the one used last first.
func (s *Store) CacheDirs(ctx context.Context) ([]CacheDir, error) {
	return s.cacheDirs(ctx, diskUsage)
}

// cacheDirs is CacheDirs, with sizes by size of the path.
func (s *Store) cacheDirs(ctx context.Context, size func(path string) int64) ([]CacheDir, error) {
	names, err := readNames(s.path("caches"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, s.fail(err)
	}
	var list []CacheDir
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c, ok := s.cacheDir(name, size); ok {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b CacheDir) int {
		if c := b.Used.Compare(a.Used); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list, nil
}

// cacheDir describes one; false where it is gone. A record that cannot be read has no ID.
func (s *Store) cacheDir(name string, size func(path string) int64) (CacheDir, bool) {
	f, err := os.Open(s.path("caches", name, "record"))
	if err != nil {
		return CacheDir{}, false
	}
	defer f.Close()
	c := CacheDir{Name: name, Size: size(s.path("caches", name))}
	if st, err := f.Stat(); err == nil {
		c.Used = st.ModTime()
	}
	if r, err := readCacheRecord(f); err == nil {
		c.ID, c.Variant, c.Created = r.ID, r.Variant, r.Created
	}
	c.InUse = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
	return c, true
}

func readCacheRecord(r io.Reader) (cacheRecord, error) {
	var rec cacheRecord
	data, err := io.ReadAll(io.LimitReader(r, maxCacheRecord+1))
	if err != nil {
		return rec, err
	}
	if len(data) > maxCacheRecord {
		return rec, errors.New("record of a cache: too long")
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("record of a cache: %w", err)
	}
	if rec.ID == "" || rec.Mode&^0o7777 != 0 || rec.UID < 0 || rec.GID < 0 {
		return rec, errors.New("record of a cache: not valid")
	}
	return rec, nil
}
