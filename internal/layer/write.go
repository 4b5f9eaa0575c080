package layer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Write makes a canonical layer of files: dir/layer.tar and dir/layer.erofs.
// The same files give the same bytes, on any machine.
//
// Files must come in the order of Less, no name twice; parents may be left out
// and are then implied. Modification times are cut to seconds. Attributes that
// overlay keeps for itself are left out, names beginning with ".wh." and sockets
// refused. A file whose content is not Size bytes long is ErrChanged. Nothing is
// synced to disk; after an error neither file is left.
//
// Content is read ahead by several goroutines, into 16 MiB of buffers in all.
func Write(ctx context.Context, dir string, files iter.Seq2[File, error]) (info Info, err error) {
	s, err := newSink(filepath.Join(dir, tarFile))
	if err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &writer{ctx: ctx, sink: s, tree: newTree(), fill: startFillers(ctx, cancel)}
	defer w.tree.done()
	err = w.all(files)
	if ferr := w.fill.wait(); ferr != nil {
		err = ferr // what went wrong first; all may have seen only the cancellation
	}
	return finish(dir, w.tree, s, "", err)
}

// finish closes the sink and writes the index of what went through it, unless
// err says that it was all in vain.
func finish(dir string, t *tree, s *sink, want digest.Digest, err error) (info Info, _ error) {
	var p *plan
	if err == nil {
		p, err = t.plan(&info)
	}
	sum, serr := s.close()
	if err == nil || s.failed.Load() {
		err = serr
	}
	if err == nil {
		info.seal(sum, s.size)
		if want != "" && info.DiffID != want {
			err = fmt.Errorf("%w: %s instead of %s", ErrDiffID, info.DiffID, want)
		}
	}
	if err == nil {
		err = p.writeIndex(filepath.Join(dir, indexFile), filepath.Join(dir, tarFile), sum, s.size)
	}
	if err != nil {
		os.Remove(filepath.Join(dir, tarFile))
		os.Remove(filepath.Join(dir, indexFile))
		return Info{}, err
	}
	return info, nil
}

// plan sums a finished tree up and lays it out.
func (t *tree) plan(info *Info) (*plan, error) {
	if err := t.summarize(info); err != nil {
		return nil, err
	}
	return t.layOut(true)
}

// seal adds what only the finished tar tells.
func (info *Info) seal(sum string, size int64) {
	info.DiffID = digest.NewDigestFromEncoded(digest.SHA256, sum)
	info.Size = size
}

// writeIndex writes the index of a tar of that hash and size to path.
func (p *plan) writeIndex(path, tarPath, sum string, size int64) error {
	blocks := roundUp(size, blockSize) >> blockBits
	if blocks >= nullBlock {
		return fmt.Errorf("layer of %d bytes, 2 TiB can be indexed: %w", size, ErrLimit)
	}
	p.tag, p.tar = sum, uint32(blocks)
	tar, err := os.Open(tarPath)
	if err != nil {
		return err
	}
	defer tar.Close()
	return p.writeFile(path, tar)
}

// writer lays the stream out, in order; fillers fill in the content.
type writer struct {
	ctx     context.Context
	sink    *sink
	tree    *tree
	fill    *fillers
	buf     *buffer // being filled
	pos     int64   // in the stream
	last    string
	scratch []byte
}

func (w *writer) all(files iter.Seq2[File, error]) error {
	for f, err := range files {
		if err == nil {
			err = w.file(&f)
		}
		if err != nil {
			return err
		}
	}
	if err := w.append(make([]byte, 2*blockSize)); err != nil {
		return err
	}
	w.sink.put(w.buf, 0)
	return nil
}

func (w *writer) file(f *File) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	if err := w.checkName(f.Name); err != nil {
		return err
	}
	var err error
	switch w.scratch = w.scratch[:0]; {
	case f.Whiteout:
		if err = w.tree.addEntry(&f.Entry); err == nil {
			dir, base := splitName(f.Name)
			w.scratch, err = appendMarker(w.scratch, dir, whiteoutPrefix+base)
		}
	case f.Hard:
		var n *inode
		if n, err = w.tree.addLink(f.Name, f.Link); err == nil {
			w.scratch, err = appendEntry(w.scratch, f.Name, f.Link, n)
		}
	default:
		return w.inode(f)
	}
	if err != nil {
		return err
	}
	return w.append(w.scratch)
}

func (w *writer) checkName(name string) error {
	if err := checkClean(name); err != nil {
		return err
	}
	if w.last != "" && !Less(w.last, name) {
		return fmt.Errorf("entry %q: out of order, after %q: %w", name, w.last, ErrFormat)
	}
	if strings.HasPrefix(name, whiteoutPrefix) || strings.Contains(name, "/"+whiteoutPrefix) {
		return fmt.Errorf("entry %q: names beginning with %q mean deletions in a layer: %w", name, whiteoutPrefix, ErrFormat)
	}
	w.last = name
	return nil
}

func (w *writer) inode(f *File) error {
	if !f.ModTime.IsZero() {
		f.ModTime = time.Unix(f.ModTime.Unix(), 0)
	}
	n, err := newInode(&f.Entry)
	if err != nil {
		return err
	}
	if err := w.tree.add(f.Name, n); err != nil {
		return err
	}
	if w.scratch, err = appendEntry(w.scratch, f.Name, "", n); err != nil {
		return err
	}
	if err := w.append(w.scratch); err != nil {
		return err
	}
	if n.mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	n.off = w.pos
	if err := w.content(f, n); err != nil {
		return err
	}
	return w.append(zeros[:-n.size&(blockSize-1)])
}

// room returns at least one and up to max free bytes of the stream, contiguous.
func (w *writer) room(max int64) ([]byte, error) {
	if w.buf != nil && len(w.buf.data) == bufferSize {
		w.sink.put(w.buf, 0)
		w.buf = nil
	}
	if w.buf == nil {
		var err error
		if w.buf, err = w.sink.get(w.ctx); err != nil {
			return nil, err
		}
	}
	at := len(w.buf.data)
	end := at + int(min(max, int64(bufferSize-at)))
	w.buf.data = w.buf.data[:end]
	w.pos += int64(end - at)
	return w.buf.data[at:end], nil
}

func (w *writer) append(b []byte) error {
	for len(b) > 0 {
		room, err := w.room(int64(len(b)))
		if err != nil {
			return err
		}
		b = b[copy(room, b):]
	}
	return nil
}

// content makes room for what f holds and has it filled.
func (w *writer) content(f *File, n *inode) error {
	j := job{name: f.Name, open: f.Open, node: n}
	n.sum, j.known = knownSum(f.Digest)
	switch {
	case f.Open == nil && n.size > 0:
		return fmt.Errorf("entry %q: no content for %d bytes: %w", f.Name, n.size, ErrChanged)
	case f.Open == nil:
		n.sum = sha256.Sum256(nil)
		return nil
	case n.size == 0 && j.known:
		return nil
	}
	rest, parts := n.size, 0
	for rest > 0 && parts < len(j.parts) {
		part, err := w.part(rest)
		if err != nil {
			j.abandon()
			return err
		}
		j.parts[parts] = part
		rest, parts = rest-int64(len(part.mem)), parts+1
	}
	if rest == 0 {
		return w.fill.send(w.ctx, j)
	}
	more := make(chan part, bufferCount)
	defer close(more)
	j.more = more
	if err := w.fill.send(w.ctx, j); err != nil {
		return err
	}
	for rest > 0 {
		part, err := w.part(rest)
		if err != nil {
			return err
		}
		more <- part // as many places as buffers
		rest -= int64(len(part.mem))
	}
	return nil
}

// part reserves up to max bytes in one buffer for a filler.
func (w *writer) part(max int64) (part, error) {
	mem, err := w.room(max)
	if err != nil {
		return part{}, err
	}
	w.buf.filling.Add(1)
	return part{mem, w.buf}, nil
}
