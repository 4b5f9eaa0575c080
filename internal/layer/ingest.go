package layer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// IngestOptions says what to expect of a layer from outside.
type IngestOptions struct {
	DiffID digest.Digest // of the uncompressed bytes, where it is known
	Limits Limits
	// Archive takes the tar for what tar -x in a directory of its own would make of it, not
	// for a layer: names go through symlinks of the archive as if it were the root, so
	// that none leaves it, and an entry for the root itself may be anything and is dropped.
	Archive bool
}

// Ingest takes a tar from outside in one pass, compressed or not: dir/layer.tar
// gets exactly its uncompressed bytes, dir/layer.erofs the index of its entries.
//
// Every entry is checked. Names that leave the root, go through a symlink of the
// layer, or hard links to what the layer has not are ErrUnsafe or ErrFormat; a
// stream that ends early is ErrTruncated; too much of anything is ErrLimit; other
// bytes than o.DiffID says are ErrDiffID. Errors of r are wrapped. Of several entries
// of one name the last wins, as with tar -x. After an error neither file is left.
func Ingest(ctx context.Context, dir string, r io.Reader, o IngestOptions) (Info, error) {
	s, err := newSink(filepath.Join(dir, tarFile))
	if err != nil {
		return Info{}, err
	}
	t := newTree()
	t.archive = o.Archive
	defer t.done()
	err = t.readTar(ctx, s, r, o.Limits.withDefaults(), true)
	return finish(dir, t, s, o.DiffID, err)
}

// Reindex makes dir/layer.erofs anew from dir/layer.tar, and puts it in the
// place of the old one once it is whole. The tar is hashed on the way but
// not compared with anything; see Info.DiffID.
func Reindex(ctx context.Context, dir string) (info Info, err error) {
	f, err := os.Open(filepath.Join(dir, tarFile))
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	s := newHashSink()
	limits := Limits{MaxSize: 1 << 62, MaxEntries: 1 << 30, MaxMeta: 1 << 40, MaxRatio: 1 << 30} // it was let in once
	t := newTree()
	defer t.done()
	err = t.readTar(ctx, s, f, limits, false)
	var p *plan
	if err == nil {
		p, err = t.plan(&info)
	}
	sum, serr := s.close()
	if err == nil {
		err = serr
	}
	if err == nil {
		info.seal(sum, s.size)
		tmp := filepath.Join(dir, indexFile+".new")
		if err = p.writeIndex(tmp, f.Name(), sum, s.size); err == nil {
			err = os.Rename(tmp, filepath.Join(dir, indexFile))
		}
	}
	if err != nil {
		return Info{}, fmt.Errorf("index %s: %w", f.Name(), err)
	}
	return info, nil
}

// readTar reads a whole stream into t, which is empty, feeding the sink on the way.
// The sink is left open.
func (t *tree) readTar(ctx context.Context, s *sink, r io.Reader, limits Limits, compressed bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	source := &counter{r: r}
	var in io.Reader = source
	if compressed {
		rc, _, err := Decompress(source)
		if err != nil {
			return source.explain(err)
		}
		defer rc.Close()
		in = rc
	}
	t.maxNodes, t.maxMeta = limits.MaxEntries, limits.MaxMeta
	g := ingester{tree: t, limits: limits, source: source, hash: sha256.New()}
	g.in = startFeed(ctx, s, in, source, limits)
	g.tar.in = g.in
	err := g.entries()
	if err != nil {
		cancel()
	}
	if derr := g.in.drain(); err == nil {
		err = derr
	}
	return err
}

// ingester turns the entries of a tar into a tree.
type ingester struct {
	tree   *tree
	tar    tarReader
	in     *feed
	limits Limits
	source *counter
	hash   hash.Hash
	holes  int64 // bytes of sparse files that are not in the stream
}

func (g *ingester) entries() error {
	for {
		e, err := g.tar.next()
		if e == nil || err != nil {
			return err
		}
		if err := g.entry(e); err != nil {
			return err
		}
	}
}

func (g *ingester) entry(e *tarEntry) error {
	name, err := cleanName(e.name)
	if err != nil {
		return err
	}
	parent, base := splitName(name)
	switch {
	case strings.HasPrefix(name, whiteoutMeta) && name != whiteoutOpaque:
		// What AUFS kept at its root; docker and containerd leave it out too.
	case strings.HasPrefix(parent, whiteoutPrefix) || strings.Contains(parent, "/"+whiteoutPrefix):
		return fmt.Errorf("entry %q: below a whiteout: %w", name, ErrFormat)
	case base == whiteoutOpaque:
		err = g.tree.addOpaque(parent)
	case strings.HasPrefix(base, whiteoutPrefix):
		err = g.whiteout(name, parent, base[len(whiteoutPrefix):])
	default:
		return g.object(name, e)
	}
	if err != nil {
		return err
	}
	return g.skip(name, e.size)
}

func (g *ingester) whiteout(name, parent, base string) error {
	if base == "" || base == "." || base == ".." || strings.HasPrefix(base, whiteoutPrefix) {
		return fmt.Errorf("entry %q: whiteout of %q: %w", name, base, ErrFormat)
	}
	return g.tree.addWhiteout(joinName(parent, base))
}

// object adds what is not a whiteout.
func (g *ingester) object(name string, e *tarEntry) error {
	if e.kind == typeLink {
		target, err := cleanName(e.link)
		if err != nil {
			return fmt.Errorf("entry %q: hard link: %w", name, err)
		}
		_, err = g.tree.addLink(name, target)
		return err
	}
	entry, err := e.entry(name)
	if err != nil {
		return err
	}
	if entry.Mode&unix.S_IFMT == unix.S_IFCHR && entry.Major == 0 && entry.Minor == 0 && name != "." {
		return g.tree.addWhiteout(name) // what overlay takes it for
	}
	n, err := newInode(&entry)
	if err != nil {
		return err
	}
	n.off = e.data
	if e.isSparse {
		n.uncommon().isSparse, n.rare.sparse = true, slices.Clip(e.sparse)
	}
	if g.tree.archive && name == "." {
		return g.skip(name, e.size)
	}
	if err := g.tree.add(name, n); err != nil {
		return err
	}
	if !n.isReg() {
		return nil
	}
	return g.content(name, e, n)
}

// content hashes what the file holds, holes as zeros.
func (g *ingester) content(name string, e *tarEntry, n *inode) error {
	g.hash.Reset()
	if !e.isSparse {
		if err := g.hashBytes(name, e.size); err != nil {
			return err
		}
	} else if err := g.hashSparse(name, e); err != nil {
		return err
	}
	g.hash.Sum(n.sum[:0])
	return g.padding(name, e.size)
}

func (g *ingester) hashSparse(name string, e *tarEntry) error {
	pos := int64(0)
	for _, s := range append(e.sparse[:len(e.sparse):len(e.sparse)], segment{off: e.real}) {
		if err := g.hashHole(name, s.off-pos); err != nil {
			return err
		}
		if err := g.hashBytes(name, s.size); err != nil {
			return err
		}
		pos = s.off + s.size
	}
	return nil
}

func (g *ingester) hashBytes(name string, n int64) error {
	for n > 0 {
		b, err := g.in.next(n)
		if err != nil {
			return entryError(name, truncated(err))
		}
		g.hash.Write(b)
		n -= int64(len(b))
	}
	return nil
}

// hashHole counts holes like bytes: they take time to hash and nothing to send.
func (g *ingester) hashHole(name string, n int64) error {
	g.holes += n
	if g.holes > g.limits.MaxSize {
		return fmt.Errorf("entry %q: more than %d bytes: %w", name, g.limits.MaxSize, ErrLimit)
	}
	if err := g.limits.check(g.source.n.Load(), g.in.pos+g.holes); err != nil {
		return entryError(name, err)
	}
	for n > 0 {
		m := min(n, int64(len(zeroPage)))
		g.hash.Write(zeroPage[:m])
		n -= m
	}
	return nil
}

func (g *ingester) skip(name string, size int64) error {
	if err := g.in.skip(size); err != nil {
		return entryError(name, truncated(err))
	}
	return g.padding(name, size)
}

// padding skips to the next block. Go's reader lets it be missing at the very end.
func (g *ingester) padding(name string, size int64) error {
	if err := g.in.skip(-size & (blockSize - 1)); err != nil && err != io.EOF {
		return entryError(name, err)
	}
	return nil
}

func entryError(name string, err error) error { return fmt.Errorf("entry %q: %w", name, err) }
