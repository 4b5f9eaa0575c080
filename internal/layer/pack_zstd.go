package layer

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdBlock is what becomes one frame. Frames know nothing of each other: smaller ones would
// cost size, larger ones memory. It is also the window of the level that most use.
const zstdBlock = 4 << 20

// zstdPacker makes a sequence of zstd frames (RFC 8878, 3: "frames can be concatenated").
type zstdPacker struct {
	blocks
	some     bool
	level    zstd.EncoderLevel
	encoders sync.Pool
}

// normalZstd returns the lowest level that gives the same bytes.
func normalZstd(level int) int {
	switch zstd.EncoderLevelFromZstd(level) {
	case zstd.SpeedFastest:
		return 1
	case zstd.SpeedDefault:
		return 3
	case zstd.SpeedBetterCompression:
		return 6
	}
	return 10
}

func newZstd(w io.Writer, level, workers int) *zstdPacker {
	z := &zstdPacker{level: zstd.EncoderLevelFromZstd(level)}
	z.blocks = blocks{w: w, size: zstdBlock, limit: workers + 1, encode: z.encode}
	return z
}

func (z *zstdPacker) encode(dst, _, block []byte) ([]byte, error) {
	e, _ := z.encoders.Get().(*zstd.Encoder)
	if e == nil {
		var err error
		e, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(z.level), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(zstdBlock), zstd.WithZeroFrames(true))
		if err != nil {
			return dst, err
		}
	}
	defer z.encoders.Put(e)
	return e.EncodeAll(block, dst), nil
}

func (z *zstdPacker) Write(p []byte) (int, error) {
	z.some = z.some || len(p) > 0
	return z.blocks.Write(p)
}

// Close implements Packer.
func (z *zstdPacker) Close() error {
	if !z.some && z.err == nil { // nothing at all is one empty frame
		z.block = []byte{}
		z.start()
	}
	err := z.flush()
	if z.err == nil {
		z.err = io.ErrClosedPipe
	}
	return err
}

func (z *zstdPacker) Packed() Packed { return Packed{} }
