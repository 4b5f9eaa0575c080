package layer

import (
	"io"
)

// blocks cuts what is written into blocks of one size, has several of them encoded at
// the same time and writes the results in their order. As a block's bytes depend on
// nothing but the block and the end of the one before, they are the same however many
// are encoded at once.
type blocks struct {
	w     io.Writer
	size  int // of a block
	back  int // bytes of the block before that encoders see
	limit int // blocks under way at most
	// encode appends the encoded block to dst. It runs in a goroutine of its own.
	encode func(dst, before, block []byte) ([]byte, error)

	before, block []byte         // the end of the last block; the block being filled
	under         []chan encoded // oldest first
	spare         [][]byte       // buffers to use again
	err           error          // the first
}

// encoded is a block that is done.
type encoded struct {
	data, block, before []byte
	err                 error
}

func (b *blocks) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 && b.err == nil {
		if b.block == nil {
			b.block = b.buffer(b.size)
		}
		k := min(len(p), b.size-len(b.block))
		b.block = append(b.block, p[:k]...)
		p, n = p[k:], n+k
		if len(b.block) == b.size {
			b.start()
		}
	}
	return n, b.err
}

// start has the block encoded that was filled.
func (b *blocks) start() {
	for len(b.under) >= b.limit {
		b.finish()
	}
	block, before := b.block, b.before
	b.block, b.before = nil, nil
	if b.back > 0 {
		b.before = append(b.buffer(b.back), block[max(0, len(block)-b.back):]...)
	}
	dst := b.buffer(b.size + b.size/1024) // what does not become smaller becomes a little larger
	done := make(chan encoded, 1)         // so that an encoder ends, whoever waits for it
	b.under = append(b.under, done)
	go func() {
		data, err := b.encode(dst, before, block)
		done <- encoded{data, block, before, err}
	}()
}

// finish waits for the oldest block under way and writes it.
func (b *blocks) finish() {
	e := <-b.under[0]
	b.under = b.under[1:]
	if b.err == nil {
		b.err = e.err
	}
	if b.err == nil {
		_, b.err = b.w.Write(e.data)
	}
	for _, buf := range [][]byte{e.data, e.block, e.before} {
		if cap(buf) > 0 {
			b.spare = append(b.spare, buf[:0])
		}
	}
}

// flush encodes and writes all that is left.
func (b *blocks) flush() error {
	if len(b.block) > 0 && b.err == nil {
		b.start()
	}
	for len(b.under) > 0 {
		b.finish()
	}
	return b.err
}

// buffer returns an empty buffer of a capacity.
func (b *blocks) buffer(size int) []byte {
	for i, buf := range b.spare {
		if cap(buf) >= size && cap(buf) < 4*size {
			last := len(b.spare) - 1
			b.spare[i] = b.spare[last]
			b.spare = b.spare[:last]
			return buf
		}
	}
	return make([]byte, 0, size)
}
