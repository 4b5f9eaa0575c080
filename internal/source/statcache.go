package source

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"sort"
)

// The layout of the cache file; docs/formats.md describes it. All numbers are little endian.
const (
	cacheMagic = "nacrestc"
	// cacheVersion changes with anything that changes what a record means.
	cacheVersion  = 1
	cacheHeader   = 32
	cacheDirSize  = 16
	cacheFileSize = 80
	// maxCache bounds what is read back: ten million files.
	maxCache = 1 << 30

	flagXattrs = 1 // the file has extended attributes that count
)

var errCache = errors.New("damaged stat cache")

// cacheFile is a stat cache in memory, checked. The zero pointer is an empty one.
type cacheFile struct {
	dirs, files, names []byte
}

// loadCache reads the cache at path. Whatever is wrong with it, it is only a cache. It is read, not mapped: a
// mapped file that another process cuts short would kill this one, and reading
// takes a millisecond for 50,000 files.
func loadCache(path string) *cacheFile {
	if path == "" {
		return nil
	}
	fi, err := os.Stat(path)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxCache {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	c, err := parseCache(b)
	if err != nil {
		return nil
	}
	return c
}

// parseCache checks b so far that no use of the result can go out of bounds.
func parseCache(b []byte) (*cacheFile, error) {
	le := binary.LittleEndian
	if len(b) < cacheHeader || string(b[:8]) != cacheMagic || le.Uint32(b[8:]) != cacheVersion {
		return nil, errCache
	}
	dirs, files, names := uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:])), le.Uint64(b[24:])
	if names > maxCache || cacheHeader+dirs*cacheDirSize+files*cacheFileSize+names != uint64(len(b)) {
		return nil, errCache
	}
	if crc32.Checksum(b[16:], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b[12:]) {
		return nil, errCache
	}
	rest := b[cacheHeader:]
	c := &cacheFile{dirs: rest[:dirs*cacheDirSize]}
	rest = rest[len(c.dirs):]
	c.files, c.names = rest[:files*cacheFileSize], rest[files*cacheFileSize:]

	for d := c.dirs; len(d) > 0; d = d[cacheDirSize:] {
		if uint64(le.Uint32(d))+uint64(le.Uint32(d[4:])) > names ||
			uint64(le.Uint32(d[8:]))+uint64(le.Uint32(d[12:])) > files {
			return nil, errCache
		}
	}
	for f := c.files; len(f) > 0; f = f[cacheFileSize:] {
		if uint64(le.Uint32(f))+uint64(le.Uint16(f[4:])) > names {
			return nil, errCache
		}
	}
	return c, nil
}

// len is the number of files remembered.
func (c *cacheFile) len() int {
	if c == nil {
		return 0
	}
	return len(c.files) / cacheFileSize
}

// dir returns what is remembered of the files in one directory.
func (c *cacheFile) dir(path string) *cachedDir {
	if c == nil {
		return nil
	}
	le := binary.LittleEndian
	n := len(c.dirs) / cacheDirSize
	i, found := sort.Find(n, func(i int) int {
		d := c.dirs[i*cacheDirSize:]
		off := le.Uint32(d)
		return compareBytes(path, c.names[off:off+le.Uint32(d[4:])])
	})
	if !found {
		return nil
	}
	d := c.dirs[i*cacheDirSize:]
	first, count := int(le.Uint32(d[8:])), int(le.Uint32(d[12:]))
	return &cachedDir{files: c.files[first*cacheFileSize : (first+count)*cacheFileSize], names: c.names}
}

// cachedDir is a cursor over the files of one directory, sorted by name.
type cachedDir struct{ files, names []byte }

// take gives n its digest if it is remembered in this very state. Calls come in the order of names.
func (d *cachedDir) take(n *node) bool {
	if d == nil {
		return false
	}
	le := binary.LittleEndian
	for ; len(d.files) > 0; d.files = d.files[cacheFileSize:] {
		f := d.files[:cacheFileSize]
		off := le.Uint32(f)
		switch c := compareBytes(n.name, d.names[off:off+uint32(le.Uint16(f[4:]))]); {
		case c < 0:
			return false
		case c > 0:
			continue
		}
		if le.Uint64(f[8:]) != n.dev || le.Uint64(f[16:]) != n.ino || le.Uint64(f[24:]) != uint64(n.size) ||
			le.Uint64(f[32:]) != uint64(n.mtime) || le.Uint64(f[40:]) != uint64(n.ctime) {
			return false
		}
		copy(n.digest[:], f[48:])
		n.state |= hasDigest | knowsXattrs
		if le.Uint16(f[6:])&flagXattrs != 0 {
			n.state |= hasXattrs
		}
		return true
	}
	return false
}

// compareBytes is strings.Compare.
func compareBytes(a string, b []byte) int {
	if a == string(b) { // compiles to no copy, as does the next
		return 0
	}
	if a < string(b) {
		return -1
	}
	return 1
}
