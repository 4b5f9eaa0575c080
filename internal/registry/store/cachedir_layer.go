package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"nacre/internal/layer"
	"nacre/internal/rootfs"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A cache directory also travels with the build cache: its contents as a layer of the store, which anybody can
// make files of again. Equal contents are equal layers, so that what did not change is not sent twice.

// FindCacheDirs lists the cache directories whose ID and variant are wanted, without their sizes, the one used last first. Of those that
// came up because others were in use (SharingPrivate) there is only the first.
func (s *Store) FindCacheDirs(ctx context.Context, wanted func(id, variant string) bool) ([]CacheDir, error) {
	list, err := s.cacheDirs(ctx, func(string) int64 { return 0 })
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, c := range list {
		if c.Name == cacheDirName(c.ID, c.Variant, 0) && wanted(c.ID, c.Variant) {
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// CacheDirLayer makes a layer of what is in a cache directory, held by l, once nobody uses it. o is as a new directory
// with these contents would be made. Errors: fs.ErrNotExist for one that is gone or empty.
func (s *Store) CacheDirLayer(ctx context.Context, l *Lease, name string) (o CacheDirOptions, info layer.Info, err error) {
	lock, err := s.lockCacheDir(ctx, name, SharingLocked, nil)
	if err != nil {
		return o, info, err
	}
	defer lock.Close()
	record, data, err := s.presentRecord(lock, name)
	if err != nil {
		return o, info, err
	}
	if !hasFiles(data) {
		return o, info, fmt.Errorf("cache %s: it is empty: %w", record.ID, fs.ErrNotExist)
	}
	info, err = s.MakeLayer(ctx, l, func(dir string) (layer.Info, error) {
		return layer.Write(ctx, dir, rootfs.Changes(ctx, rootfs.Mount{Upper: data}, nil, rootfs.ChangesOptions{}))
	})
	if err != nil {
		return o, info, fmt.Errorf("cache %s: %w", record.ID, err)
	}
	return CacheDirOptions{ID: record.ID, Variant: record.Variant, Mode: record.Mode, UID: record.UID, GID: record.GID}, info, nil
}

// presentRecord is the record of a cache directory with the owner and mode that it has now.
func (s *Store) presentRecord(lock *os.File, name string) (record cacheRecord, data string, err error) {
	if record, err = readCacheRecord(lock); err != nil {
		return record, "", err
	}
	data = s.path("caches", name, "data")
	var now unix.Stat_t // its owner and mode may have changed since it was made
	if err := unix.Stat(data, &now); err != nil {
		return record, "", &os.PathError{Op: "stat", Path: data, Err: err}
	}
	record.Mode, record.UID, record.GID = now.Mode&0o7777, int(now.Uid), int(now.Gid)
	return record, data, nil
}

// FillCacheDir has contents written into the first cache directory of o's key, where there is none or it is empty; one that has
// something in it, or is in use, is left alone (false). The layer that contents gives has to be in the store.
// After an error, and when the process dies, there is as much as before.
func (s *Store) FillCacheDir(ctx context.Context, o CacheDirOptions, contents func() (digest.Digest, error)) (filled bool, err error) {
	if err := s.writable(); err != nil {
		return false, err
	}
	name := cacheDirName(o.ID, o.Variant, 0)
	if hasFiles(s.path("caches", name, "data")) {
		return false, nil
	}
	d, err := contents()
	if err != nil {
		return false, err
	}
	record := cacheRecord{ID: o.ID, Variant: o.Variant, Created: s.now().UTC(), Mode: o.Mode & 0o7777, UID: o.UID, GID: o.GID}
	dir, remove, err := s.newCacheDir(record, func(data string) error {
		l, err := s.Layer(ctx, d)
		if err != nil {
			return err
		}
		return unpackCache(ctx, l, data)
	})
	if err != nil {
		return false, s.fail(fmt.Errorf("cache %s: %w", o.ID, err))
	}
	defer remove()
	s.point("cache directory filled")
	filled, err = s.replaceEmpty(ctx, dir, name)
	return filled, s.fail(err)
}

// replaceEmpty moves dir, made by newCacheDir, to where nothing is, or an empty cache directory that nobody uses.
func (s *Store) replaceEmpty(ctx context.Context, dir, name string) (bool, error) {
	for {
		err := os.Rename(dir, s.path("caches", name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return false, err
		}
		lock, err := s.lockCacheDir(ctx, name, SharingPrivate, nil)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // pruned since
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case err != nil:
			return false, err
		}
		empty := !hasFiles(s.path("caches", name, "data"))
		if empty {
			var trash string
			if trash, err = s.discard(s.path("caches", name)); err == nil && trash != "" {
				s.unlink(trash)
			}
		}
		lock.Close()
		if err != nil || !empty {
			return false, err
		}
	}
}

// hasFiles tells whether there is something in a directory.
func hasFiles(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(1)
	return len(names) > 0
}

// unpackCache writes a layer as files into data. What steps leave in caches are files, directories and links; a device would be
// one of this machine for whoever uses the cache.
func unpackCache(ctx context.Context, l *layer.Layer, data string) error {
	for st, err := range l.All() {
		if err != nil {
			return err
		}
		switch kind := st.Entry.Mode & unix.S_IFMT; {
		case st.Entry.Whiteout, st.Entry.Opaque:
			return fmt.Errorf("%q: a deleted name has no place in a cache directory", st.Entry.Name)
		case kind == unix.S_IFCHR, kind == unix.S_IFBLK:
			return fmt.Errorf("%q: a device has no place in a cache directory", st.Entry.Name)
		}
	}
	return rootfs.Unpack(ctx, l, data, rootfs.UnpackOptions{})
}
