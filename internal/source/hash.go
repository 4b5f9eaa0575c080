package source

import (
	"context"
	"crypto/sha256"
	"hash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

const (
	// A batch is what a goroutine takes at once: enough files for the opening of their
	// directory not to count, few enough bytes to leave the others work.
	batchFiles = 64
	batchBytes = 8 << 20
	// hashBuf is read at once: most files of a context are smaller.
	hashBuf = 256 << 10
)

// Digests makes sure that the content digest of every regular file at and below names
// is known, reading what the stat cache did not have, in parallel.
func (t *Tree) Digests(ctx context.Context, names ...string) error {
	var p plan
	for _, name := range names {
		n, err := t.lookup("digest", name)
		if err != nil {
			return err
		}
		if n.isDir() {
			err = p.addDir(n.ext.sub)
		} else {
			err = p.addFile(t.parent(name), n)
		}
		if err != nil {
			return err
		}
	}
	if len(p.batches) == 0 {
		return nil
	}
	select {
	case t.hashing <- struct{}{}: // one at a time: each uses all cores, and they may overlap
		defer func() { <-t.hashing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return t.hash(ctx, p.batches)
}

// Digest returns the sha256 of the regular file name, empty while it is not known.
func (t *Tree) Digest(name string) digest.Digest {
	n, err := t.lookup("digest", name)
	if err != nil {
		return ""
	}
	return n.contentDigest()
}

func (n *node) contentDigest() digest.Digest {
	if !n.has(hasDigest) {
		return ""
	}
	return digest.NewDigestFromBytes(digest.SHA256, n.digest[:])
}

// parent is the directory that holds name, which exists.
func (t *Tree) parent(name string) *dir {
	n, d := &t.top, t.top.ext.sub
	for elem := range splitPath(name) {
		d = n.ext.sub
		n = d.find(elem)
	}
	return d
}

// batch is some files of one directory.
type batch struct {
	dir   *dir
	files []*node
	bytes int64
}

// plan collects the files whose digest is not known.
type plan struct{ batches []batch }

func (p *plan) addDir(d *dir) error {
	if d.err != nil {
		return d.err
	}
	for i := range d.nodes {
		n := &d.nodes[i]
		var err error
		if n.isDir() {
			err = p.addDir(n.ext.sub)
		} else {
			err = p.addFile(d, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) addFile(d *dir, n *node) error {
	if !n.isRegular() || n.has(hasDigest) {
		return nil
	}
	last := len(p.batches) - 1
	if last < 0 || p.batches[last].dir != d || len(p.batches[last].files) == batchFiles ||
		p.batches[last].bytes+n.size > batchBytes {
		p.batches = append(p.batches, batch{dir: d})
		last++
	}
	b := &p.batches[last]
	b.files = append(b.files, n)
	b.bytes += n.size
	return nil
}

// hash computes the digests of batches on all cores, the biggest first so that no core
// ends up alone with one.
func (t *Tree) hash(ctx context.Context, batches []batch) error {
	slices.SortStableFunc(batches, func(a, b batch) int {
		return int(max(b.bytes/batchBytes, 0) - max(a.bytes/batchBytes, 0))
	})
	var (
		next   atomic.Int64
		failed atomic.Bool
		hashed atomic.Int64
		errs   = make([]error, len(batches))
		wg     sync.WaitGroup
		meter  = newMeter(t.report, batches)
	)
	defer meter.done()
	for range min(workers(), len(batches)) {
		wg.Go(func() {
			h := hasher{t: t, sum: sha256.New(), buf: make([]byte, hashBuf), meter: meter}
			for i := next.Add(1) - 1; i < int64(len(batches)) && !failed.Load(); i = next.Add(1) - 1 {
				n, err := h.batch(ctx, batches[i])
				hashed.Add(int64(n))
				if err != nil {
					errs[i] = err
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	t.hashed += int(hashed.Load())
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// hasher is what one goroutine hashes with.
type hasher struct {
	t   *Tree
	sum hash.Hash
	buf []byte

	meter *meter
}

// batch returns how many digests it computed.
func (h *hasher) batch(ctx context.Context, b batch) (int, error) {
	fd, err := h.t.open(b.dir.path)
	if err != nil {
		return 0, pathError("open", b.dir.path, err)
	}
	defer unix.Close(fd)
	for i, n := range b.files {
		if n.has(hasDigest) { // by a batch that ran while this one waited
			continue
		}
		if err := ctx.Err(); err != nil {
			return i, err
		}
		if err := h.file(ctx, fd, n); err != nil {
			return i, pathError("read", b.dir.join(n.name), err)
		}
		h.meter.add(1, 0)
	}
	return len(b.files), nil
}

// file computes the digest of n, in the directory dirfd. The state of the file is compared after its
// last byte was read: what changed before or meanwhile shows.
func (h *hasher) file(ctx context.Context, dirfd int, n *node) error {
	fd, err := openRetry(dirfd, n.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY)
	switch {
	case err == unix.ENOENT, err == unix.ELOOP, err == unix.ENXIO:
		return ErrChanged
	case err != nil:
		return err
	}
	defer unix.Close(fd)
	if err := h.read(ctx, fd, n); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if !n.sameContent(&st) {
		return ErrChanged
	}
	bits := uint32(hasDigest | knowsXattrs)
	if anyXattr(fd, h.buf) {
		bits |= hasXattrs
	}
	if !n.same(&st) {
		bits |= unsettled
	}
	h.sum.Sum(n.digest[:0])
	n.set(bits)
	return nil
}

// read hashes n.size bytes. A file that is shorter or longer is not what the walk saw.
func (h *hasher) read(ctx context.Context, fd int, n *node) error {
	h.sum.Reset()
	for left := n.size; ; {
		// One byte more than is left shows a file that grew, and saves asking for the end.
		k, err := unix.Read(fd, h.buf[:min(int64(len(h.buf)), left+1)])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EISDIR:
			return ErrChanged
		case err != nil:
			return err
		case int64(k) > left, k == 0 && left > 0:
			return ErrChanged
		}
		h.sum.Write(h.buf[:k])
		h.meter.add(0, int64(k))
		left -= int64(k)
		if left == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
