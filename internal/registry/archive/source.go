package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"nacre/internal/layer"
)

// Limits of what may come of compressed bytes, against archives that are small only
// while compressed. Images are rarely compressed better than 1:20.
const (
	maxSpool   = 256 << 30 // bytes of tar
	freeSpool  = 1 << 30   // bytes of tar that are fine whatever the ratio
	maxRatio   = 250
	spoolBlock = 256 << 10
)

// source is a plain tar that can be read anywhere.
type source struct {
	io.ReaderAt
	size int64
	file *os.File // to close; nil where it is the caller's
}

func (s *source) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// openSource gives random access to the tar in r, in place or by way of scratch.
func openSource(ctx context.Context, r io.Reader, scratch string) (*source, error) {
	if f, ok := r.(*os.File); ok {
		s, err := inPlace(f)
		if s != nil || err != nil {
			return s, err
		}
	}
	count := &counter{r: r}
	plain, name, err := layer.Decompress(count)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	s, err := spool(ctx, plain, scratch, count)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	if err != nil && name != "" {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return s, err
}

// inPlace uses f as it is where it is a regular file with a plain tar; nil where not.
func inPlace(f *os.File) (*source, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return nil, fmt.Errorf("%s is a directory", f.Name())
	}
	if !fi.Mode().IsRegular() {
		return nil, nil
	}
	off, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, nil
	}
	size := max(fi.Size()-off, 0)
	section := io.NewSectionReader(f, off, size)
	if name, err := compression(section, size); err != nil || name != "" {
		return nil, err
	}
	return &source{ReaderAt: section, size: size}, nil
}

// spool writes r to a nameless file in scratch. Blocks of zeros become holes: they cost nothing.
func spool(ctx context.Context, r io.Reader, scratch string, in *counter) (*source, error) {
	f, err := nameless(scratch)
	if err != nil {
		return nil, err
	}
	size, err := fill(ctx, f, r, in)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &source{ReaderAt: f, size: size, file: f}, nil
}

func fill(ctx context.Context, f *os.File, r io.Reader, in *counter) (int64, error) {
	buf := make([]byte, spoolBlock)
	zero := make([]byte, spoolBlock)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := io.ReadFull(r, buf)
		end := err == io.EOF || (err == io.ErrUnexpectedEOF && n < len(buf))
		if string(buf[:n]) != string(zero[:n]) {
			if _, werr := f.WriteAt(buf[:n], size); werr != nil {
				return size, fmt.Errorf("spool archive: %w", werr)
			}
		}
		size += int64(n)
		if tooMuch(size, in.n) {
			return size, fmt.Errorf("%w: %d bytes so far, from %d", ErrLimit, size, in.n)
		}
		if end {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// tooMuch tells whether size bytes are more than should come of from compressed ones.
func tooMuch(size, from int64) bool {
	return size > maxSpool || (size > freeSpool && size/maxRatio > from)
}

// nameless makes a file that goes with its last descriptor, even on kill -9.
func nameless(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE|unix.O_EXCL, 0o600)
	if err == nil || !(errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR)) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, "archive-*"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
