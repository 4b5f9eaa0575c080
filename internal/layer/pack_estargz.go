package layer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// estargzPacker makes an eStargz layer (stargz-snapshotter, docs/estargz.md): a gzip member
// for every chunk of a file, and at the end a table of them in a tar of its own. Readers
// of gzip see that table behind the end of the tar: it changes the diffID and nothing else.
type estargzPacker struct {
	in   *io.PipeWriter
	size int64
	done chan struct{}

	// By the time done is closed:
	err    error
	packed Packed
}

func newEStargz(w io.Writer, level int) *estargzPacker {
	if level == LevelStored {
		level = gzip.NoCompression
	}
	r, in := io.Pipe()
	e := &estargzPacker{in: in, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		out := &failing{w: w}
		if e.err = e.pack(out, r, level); out.err != nil {
			e.err = out.err // the library tells of it in words alone
		}
		r.CloseWithError(e.err) // whoever still writes hears of it
	}()
	return e
}

func (e *estargzPacker) pack(w io.Writer, r io.Reader, level int) error {
	out := estargz.NewWriterWithCompressor(w, chunkCompressor{estargz.NewGzipCompressorWithLevel(level), level})
	in := bufio.NewReader(r)
	add := out.AppendTarLossLess
	if head, _ := in.Peek(blockSize); len(bytes.TrimLeft(head, "\x00")) == 0 {
		add = out.AppendTar // of a tar without entries the library cannot keep the end
	}
	if err := add(in); err != nil {
		return fmt.Errorf("estargz: %w", err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what follows a tar's end
		return err
	}
	table, err := out.Close()
	if err != nil {
		return fmt.Errorf("estargz: %w", err)
	}
	e.packed = Packed{DiffID: digest.Digest(out.DiffID()), Annotations: map[string]string{
		estargz.TOCJSONDigestAnnotation:         table.String(),
		estargz.StoreUncompressedSizeAnnotation: strconv.FormatInt(e.size, 10),
	}}
	return nil
}

func (e *estargzPacker) Write(p []byte) (int, error) {
	n, err := e.in.Write(p)
	e.size += int64(n)
	return n, err
}

// Close implements Packer.
func (e *estargzPacker) Close() error {
	e.in.Close()
	<-e.done
	return e.err
}

func (e *estargzPacker) Packed() Packed { return e.packed }

// failing remembers why writing failed.
type failing struct {
	w   io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil && f.err == nil {
		f.err = err
	}
	return n, err
}

// chunkCompressor is estargz's own with a faster gzip for the chunks.
type chunkCompressor struct {
	*estargz.GzipCompressor
	level int
}

func (c chunkCompressor) Writer(w io.Writer) (estargz.WriteFlushCloser, error) {
	return gzip.NewWriterLevel(w, c.level)
}
