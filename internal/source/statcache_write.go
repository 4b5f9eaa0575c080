package source

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// saveCache replaces the cache at path. Processes that do so at once do not wait for each other: one
// of them wins, and any outcome is a good cache.
func (t *Tree) saveCache(path string) error {
	b := t.encodeCache()
	if b == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// One fixed temporary name under a lock: what a killed process left is used
	// again instead of piling up.
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		return &os.PathError{Op: "lock", Path: tmp, Err: err}
	}
	if !stillThere(f, tmp) { // its writer has just renamed it
		return nil
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	// No fsync: after a power cut the checksum finds what is missing.
	if _, err := f.Write(b); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}

func stillThere(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// encodeCache returns the cache of what t knows, nil if it would be too big.
func (t *Tree) encodeCache() []byte {
	var dirs []*dir
	files, names := 0, 0
	eachDir(t.top.ext.sub, func(d *dir) {
		before := files
		for i := range d.nodes {
			if t.settled(&d.nodes[i]) {
				files++
				names += len(d.nodes[i].name)
			}
		}
		if files > before {
			dirs = append(dirs, d)
			names += len(d.path)
		}
	})
	size := cacheHeader + len(dirs)*cacheDirSize + files*cacheFileSize + names
	if size > maxCache {
		return nil
	}
	slices.SortFunc(dirs, func(a, b *dir) int { return strings.Compare(a.path, b.path) })

	le := binary.LittleEndian
	b := make([]byte, size)
	copy(b, cacheMagic)
	le.PutUint32(b[8:], cacheVersion)
	le.PutUint32(b[16:], uint32(len(dirs)))
	le.PutUint32(b[20:], uint32(files))
	le.PutUint64(b[24:], uint64(names))
	dirAt := b[cacheHeader:]
	fileAt := dirAt[len(dirs)*cacheDirSize:]
	nameAt := fileAt[files*cacheFileSize:]
	first, off := 0, 0
	name := func(s string) uint32 {
		at := off
		off += copy(nameAt[off:], s)
		return uint32(at)
	}
	for _, d := range dirs {
		le.PutUint32(dirAt, name(d.path))
		le.PutUint32(dirAt[4:], uint32(len(d.path)))
		le.PutUint32(dirAt[8:], uint32(first))
		count := 0
		for i := range d.nodes {
			n := &d.nodes[i]
			if !t.settled(n) {
				continue
			}
			le.PutUint32(fileAt, name(n.name))
			n.encode(fileAt)
			fileAt = fileAt[cacheFileSize:]
			count++
		}
		le.PutUint32(dirAt[12:], uint32(count))
		dirAt = dirAt[cacheDirSize:]
		first += count
	}
	le.PutUint32(b[12:], crc32.Checksum(b[16:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

const (
	// fineSteps is more than the longest tick by which Linux stamps files (10 ms at
	// HZ=100, and a second tick as the stamp may be as old as that).
	fineSteps = 20 * time.Millisecond
	// coarseSteps is for stamps of whole seconds: FAT keeps even ones only.
	coarseSteps = 2 * time.Second
	// foreignSteps allows for the clock of a file server or of a virtual machine's host.
	foreignSteps = 5 * time.Second
)

// settled reports whether the digest of n may be remembered: whether any change from now on
// will show in its times. A file touched just before the walk may be changed once more
// without its stamp moving, as git says of "racily clean" entries; it is not
// remembered, and so is hashed again by the next build.
func (t *Tree) settled(n *node) bool {
	if !n.isRegular() || !n.has(hasDigest) || n.has(unsettled) {
		return false
	}
	step := fineSteps
	switch {
	case t.slow:
		step = foreignSteps
	case n.ctime%int64(time.Second) == 0:
		step = coarseSteps
	}
	return max(n.mtime, n.ctime) < t.began.Add(-step).UnixNano()
}

// eachDir calls do for d and every directory below it.
func eachDir(d *dir, do func(*dir)) {
	do(d)
	for i := range d.nodes {
		if n := &d.nodes[i]; n.isDir() {
			eachDir(n.ext.sub, do)
		}
	}
}

// encode writes all of a record but the offset of the name.
func (n *node) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint16(b[4:], uint16(len(n.name)))
	if n.has(hasXattrs) {
		le.PutUint16(b[6:], flagXattrs)
	}
	le.PutUint64(b[8:], n.dev)
	le.PutUint64(b[16:], n.ino)
	le.PutUint64(b[24:], uint64(n.size))
	le.PutUint64(b[32:], uint64(n.mtime))
	le.PutUint64(b[40:], uint64(n.ctime))
	copy(b[48:], n.digest[:])
}
