package layer

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	// gzipBlock is what is compressed at once. At 1 MiB what is lost at its ends is 0.1 % of the size.
	gzipBlock = 1 << 20
	// gzipBack is deflate's window: a block looks back into the one before, as it would in one stream.
	gzipBack = 32 << 10
)

// gzipPacker makes one gzip member (RFC 1952) out of blocks that end at byte
// boundaries, as pigz does.
type gzipPacker struct {
	blocks
	started  bool
	crc      uint32
	size     uint32    // modulo 2^32
	encoders sync.Pool // at level
	coders   sync.Pool // that look for nothing
	level    int
}

func newGzip(w io.Writer, level, workers int) *gzipPacker {
	if level == LevelStored {
		level = flate.NoCompression
	}
	g := &gzipPacker{level: level}
	g.blocks = blocks{w: w, size: gzipBlock, back: gzipBack, limit: workers + 1, encode: g.encode}
	return g
}

// header has neither name nor time, so that nothing but the content decides on the bytes;
// the operating system is "unknown".
var gzipHeader = [10]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

func (g *gzipPacker) start() {
	if !g.started {
		g.started = true
		_, g.err = g.w.Write(gzipHeader[:])
	}
}

func (g *gzipPacker) Write(p []byte) (int, error) {
	g.start()
	n, err := g.blocks.Write(p)
	g.crc = crc32.Update(g.crc, crc32.IEEETable, p[:n])
	g.size += uint32(n)
	return n, err
}

// encode makes deflate blocks that end at a byte boundary.
func (g *gzipPacker) encode(dst, before, block []byte) ([]byte, error) {
	if g.level == flate.NoCompression {
		return appendStored(dst, block), nil
	}
	for r := range runs(before, block) {
		if r.dense {
			dst = appendStored(dst, r.data)
			continue
		}
		var err error
		if dst, err = g.deflate(dst, r.dict, r.data); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// deflate compresses data, which dict goes before.
func (g *gzipPacker) deflate(dst, dict, data []byte) ([]byte, error) {
	start := len(dst)
	dst, err := deflateWith(&g.encoders, g.level, dst, dict, data)
	size := len(dst) - start
	if err != nil || size < len(data)*3/5 || size < entropy(data)+codeTable {
		return dst, err
	}
	// Where it found nothing to refer to, the library does not try codes by frequency either.
	codes, err := deflateWith(&g.coders, flate.HuffmanOnly, dst[len(dst):], nil, data)
	if len(codes) < size {
		dst = append(dst[:start], codes...)
	}
	return dst, err
}

func deflateWith(pool *sync.Pool, level int, dst, dict, data []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w, _ := pool.Get().(*flate.Writer)
	if w == nil {
		var err error
		if w, err = flate.NewWriterDict(out, level, dict); err != nil {
			return dst, err
		}
	} else {
		w.ResetDict(out, dict)
	}
	defer pool.Put(w)
	if _, err := w.Write(data); err != nil {
		return dst, err
	}
	err := w.Flush() // ends at a byte boundary (RFC 1951, 3.2.4)
	return out.Bytes(), err
}

// appendStored wraps data in stored blocks (RFC 1951, 3.2.4).
func appendStored(dst, data []byte) []byte {
	const most = 1<<16 - 1
	for len(data) > 0 {
		n := min(len(data), most)
		dst = append(dst, 0)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst, data = append(dst, data[:n]...), data[n:]
	}
	return dst
}

// Close implements Packer.
func (g *gzipPacker) Close() error {
	g.start()
	if err := g.flush(); err != nil {
		return err
	}
	end := []byte{3, 0} // an empty block that is the last
	end = binary.LittleEndian.AppendUint32(end, g.crc)
	end = binary.LittleEndian.AppendUint32(end, g.size)
	_, err := g.w.Write(end)
	g.err = io.ErrClosedPipe
	return err
}

func (g *gzipPacker) Packed() Packed { return Packed{} }
