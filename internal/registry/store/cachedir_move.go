package store

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/rootfs"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// An archive of cache directories is a tar, compressed with zstd, of two files for each:
// <name>/record and <name>/layer.tar, in which the data is as in a layer. A reader then
// has nothing new to check: what comes in passes the same checks as any layer.

// ExportCacheDirs writes the cache directories of the IDs, or all, to w, and returns them. It waits
// for those that are in use. Errors: registry.ErrAbsent for an ID that has none.
func (s *Store) ExportCacheDirs(ctx context.Context, w io.Writer, ids []string) ([]CacheDir, error) {
	list, err := s.CacheDirs(ctx)
	if err != nil {
		return nil, err
	}
	if list, err = selectCacheDirs(list, ids); err != nil {
		return nil, err
	}
	zw, err := zstd.NewWriter(w)
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(zw)
	for _, c := range list {
		if err := s.exportCacheDir(ctx, tw, c); err != nil {
			zw.Close()
			return nil, s.fail(fmt.Errorf("export cache %s: %w", c.ID, err))
		}
	}
	return list, errors.Join(tw.Close(), zw.Close())
}

func selectCacheDirs(list []CacheDir, ids []string) ([]CacheDir, error) {
	if len(ids) == 0 {
		return list, nil
	}
	var out []CacheDir
	for _, id := range ids {
		n := len(out)
		for _, c := range list {
			if c.ID == id || c.Name == id {
				out = append(out, c)
			}
		}
		if len(out) == n {
			return nil, fmt.Errorf("cache %s: %w", id, registry.ErrAbsent)
		}
	}
	return out, nil
}

func (s *Store) exportCacheDir(ctx context.Context, tw *tar.Writer, c CacheDir) error {
	lock, err := s.lockCacheDir(ctx, c.Name, SharingLocked, nil)
	if err != nil {
		return err
	}
	defer lock.Close()
	record, data, err := s.presentRecord(lock, c.Name)
	if err != nil {
		return err
	}
	dir, remove, err := s.TempDir("cache")
	if err != nil {
		return err
	}
	defer remove()
	if _, err := layer.Write(ctx, dir, rootfs.Changes(ctx, rootfs.Mount{Upper: data}, nil, rootfs.ChangesOptions{})); err != nil {
		return err
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: c.Name + "/record", Mode: 0o644, Size: int64(len(text)), ModTime: record.Created}); err != nil {
		return err
	}
	if _, err := tw.Write(text); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, "layer.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: c.Name + "/layer.tar", Mode: 0o644, Size: st.Size(), ModTime: record.Created}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

// ImportCacheDirs reads what ExportCacheDirs wrote and returns what came. A directory of the same ID
// and variant is replaced, once nobody uses it. What was read before an error stays.
func (s *Store) ImportCacheDirs(ctx context.Context, r io.Reader) (list []CacheDir, err error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("import caches: %w", err)
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	for {
		c, err := s.importCacheDir(ctx, tr)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return list, s.fail(fmt.Errorf("import caches: %w", err))
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("import caches: there are none in it")
	}
	return list, nil
}

// importCacheDir reads the two entries of one directory; io.EOF where there are no more.
func (s *Store) importCacheDir(ctx context.Context, tr *tar.Reader) (CacheDir, error) {
	h, err := tr.Next()
	if err != nil {
		return CacheDir{}, err // io.EOF as it is
	}
	name, ok := strings.CutSuffix(h.Name, "/record")
	if !ok {
		return CacheDir{}, fmt.Errorf("%q is not what an archive of caches begins with", h.Name)
	}
	record, err := readCacheRecord(tr)
	if err != nil {
		return CacheDir{}, noEOF(err)
	}
	n, err := cacheDirNumber(name)
	if err != nil {
		return CacheDir{}, err
	}
	if h, err = tr.Next(); err != nil {
		return CacheDir{}, noEOF(err)
	}
	if h.Name != name+"/layer.tar" {
		return CacheDir{}, fmt.Errorf("%q in place of the data of cache %s", h.Name, record.ID)
	}
	dir, remove, err := s.newCacheDir(record, func(data string) error { return s.unpackCacheDir(ctx, tr, data) })
	if err != nil {
		return CacheDir{}, fmt.Errorf("cache %s: %w", record.ID, noEOF(err))
	}
	defer remove()
	name = cacheDirName(record.ID, record.Variant, n) // whatever it is called there
	if err := s.replaceCacheDir(ctx, dir, name); err != nil {
		return CacheDir{}, fmt.Errorf("cache %s: %w", record.ID, err)
	}
	c, _ := s.cacheDir(name, diskUsage)
	return c, nil
}

// noEOF makes the end of the data an error where there should be more.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// cacheDirNumber is the number at the end of a folder's name.
func cacheDirNumber(name string) (n int, err error) {
	_, number, ok := strings.Cut(name, "-")
	if _, serr := fmt.Sscanf(number, "%d", &n); !ok || serr != nil || n < 0 || n > maxPrivate {
		return 0, fmt.Errorf("%q cannot be the name of a cache", name)
	}
	return n, nil
}

// maxPrivate is more private directories of one ID than were ever in use at once.
const maxPrivate = 1000

// unpackCacheDir writes a layer's tar as files into data.
func (s *Store) unpackCacheDir(ctx context.Context, r io.Reader, data string) error {
	dir, remove, err := s.TempDir("cache")
	if err != nil {
		return err
	}
	defer remove()
	if _, err := layer.Ingest(ctx, dir, r, layer.IngestOptions{}); err != nil {
		return err
	}
	l, err := layer.Open(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	return unpackCache(ctx, l, data)
}

// replaceCacheDir moves dir, made by newCacheDir, to its place.
func (s *Store) replaceCacheDir(ctx context.Context, dir, name string) error {
	for {
		if err := s.discardCacheDir(ctx, name); err != nil {
			return err
		}
		err := os.Rename(dir, s.path("caches", name))
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
}

// discardCacheDir removes a cache directory that may be there, once nobody uses it.
func (s *Store) discardCacheDir(ctx context.Context, name string) error {
	lock, err := s.lockCacheDir(ctx, name, SharingLocked, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	trash, err := s.discard(s.path("caches", name))
	if err == nil && trash != "" {
		s.unlink(trash)
	}
	return err
}
