package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
)

// Limits keep hostile streams from filling disk, memory or time. The zero value
// means the defaults.
type Limits struct {
	MaxSize int64 // uncompressed bytes, holes of sparse files included; 64 GiB
	// MaxEntries counts repeated and implied entries too; 550,000. Real layers have up to
	// half a million. Each takes 112 bytes of memory and 24 to 50 in its directory.
	MaxEntries int
	// MaxMeta is the bytes of names, link targets and attributes with what it takes to
	// keep them, and what directories take more than files; 20 MiB. Together with
	// MaxEntries it holds Ingest under 200 MB, garbage included (see thrift), apart
	// from what a decompressor looks back into: 128 MiB at the very most.
	MaxMeta int
	// MaxRatio of uncompressed to compressed bytes, looked at once there is more
	// than 1 GiB; 200. Real layers stay under 20.
	MaxRatio int
}

const ratioFrom = 1 << 30

func (l Limits) withDefaults() Limits {
	if l.MaxSize == 0 {
		l.MaxSize = 64 << 30
	}
	if l.MaxEntries == 0 {
		l.MaxEntries = 550_000
	}
	if l.MaxMeta == 0 {
		l.MaxMeta = 20 << 20
	}
	if l.MaxRatio == 0 {
		l.MaxRatio = 200
	}
	return l
}

// check is asked with the bytes in and out so far.
func (l Limits) check(in, out int64) error {
	switch {
	case out > l.MaxSize:
		return fmt.Errorf("more than %d bytes: %w", l.MaxSize, ErrLimit)
	case out > ratioFrom && in < math.MaxInt64/int64(l.MaxRatio) && out > in*int64(l.MaxRatio):
		return fmt.Errorf("%d bytes out of %d compressed ones: %w", out, in, ErrLimit)
	}
	return nil
}

// feed reads a stream in a goroutine of its own. What is read goes to the sink
// and, byte for byte the same, to whoever calls next.
type feed struct {
	sink *sink
	full chan *buffer
	cur  *buffer
	rest []byte // of cur
	pos  int64  // of rest in the stream
	err  error  // of the reading goroutine, valid once full is closed
	done sync.WaitGroup
}

// startFeed reads r, whose bytes before decompression source counts.
func startFeed(ctx context.Context, s *sink, r io.Reader, source *counter, limits Limits) *feed {
	f := &feed{sink: s, full: make(chan *buffer, bufferCount)}
	f.done.Go(func() {
		defer close(f.full)
		f.err = f.run(ctx, r, source, limits)
	})
	return f
}

func (f *feed) run(ctx context.Context, r io.Reader, source *counter, limits Limits) error {
	for {
		b, err := f.sink.get(ctx)
		if err != nil {
			return err
		}
		n := 0
		for n < len(b.mem) && err == nil {
			var m int
			m, err = r.Read(b.mem[n:])
			n += m
		}
		b.data = b.mem[:n]
		f.sink.put(b, 1)
		f.full <- b // as many places as buffers
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return source.explain(err)
		}
		if err := limits.check(source.n.Load(), f.sink.size); err != nil {
			return err
		}
	}
}

// next returns up to max bytes, at least one, which stay valid until the next
// call. The end of the stream is io.EOF; what else ended it is returned as it is.
func (f *feed) next(max int64) ([]byte, error) {
	for len(f.rest) == 0 {
		if f.cur != nil {
			f.sink.release(f.cur)
			f.cur = nil
		}
		b, ok := <-f.full
		if !ok {
			if f.err != nil {
				return nil, f.err
			}
			return nil, io.EOF
		}
		f.cur, f.rest = b, b.data
	}
	n := int(min(max, int64(len(f.rest))))
	p := f.rest[:n]
	f.rest = f.rest[n:]
	f.pos += int64(n)
	return p, nil
}

// read fills p. The stream's end is io.EOF before the first byte, ErrTruncated after it.
func (f *feed) read(p []byte) error {
	for done := 0; done < len(p); {
		b, err := f.next(int64(len(p) - done))
		if err == io.EOF && done > 0 {
			err = ErrTruncated
		}
		if err != nil {
			return err
		}
		done += copy(p[done:], b)
	}
	return nil
}

// skip leaves n bytes out. A stream that ends before is io.EOF.
func (f *feed) skip(n int64) error {
	for n > 0 {
		b, err := f.next(n)
		if err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// truncated is err, where the stream must not end yet.
func truncated(err error) error {
	if err == io.EOF {
		return ErrTruncated
	}
	return err
}

// drain takes all that is left, after which the sink has seen the whole stream.
func (f *feed) drain() error {
	for {
		if _, err := f.next(math.MaxInt64); err != nil {
			f.done.Wait()
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// counter counts what is read of a source and remembers how it failed, to tell
// its own errors from those of the decoder above it.
type counter struct {
	r   io.Reader
	n   atomic.Int64
	err error
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// explain wraps err, which reading c through a decoder gave.
func (c *counter) explain(err error) error {
	switch {
	case c.err != nil && errors.Is(c.err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read: %w: %w", c.err, ErrTruncated)
	case c.err != nil:
		return fmt.Errorf("read: %w", c.err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	}
	return fmt.Errorf("decompress: %w: %w", err, ErrFormat)
}
