package registry

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
)

// sound is a file whose content is known to be what its digest says.
type sound struct{ *os.File }

// Vouch is Verify for a file that was verified when it was written and that nobody changes since. Those who
// read it verify it all the same; who has it copied whole by the kernel (see CopyTo) does not hash it again.
func Vouch(f *os.File, d Descriptor) io.ReadCloser {
	c, err := NewChecker(d)
	return &vouched{verified{rc: f, check: c, err: err}, f}
}

type vouched struct {
	verified
	file *os.File
}

// CopyTo copies r to dst, checking it on the way. Where r is a file, possibly under an
// *io.LimitedReader, and dst reads from files by itself, the kernel copies it (copy_file_range,
// sendfile) while it is read a second time beside that for its hash: so r must be a file nobody
// changes. One that was vouched for is not read again.
func (c *Checker) CopyTo(dst io.Writer, r io.Reader) (int64, error) {
	if out, ok := dst.(io.ReaderFrom); ok {
		if f, n, known := regular(r); f != nil {
			return c.copyFile(out, f, n, known, r)
		}
	}
	buf := make([]byte, bufferSize)
	var total int64
	for {
		n, err := r.Read(buf)
		if _, cerr := c.Write(buf[:n]); cerr != nil {
			return total, cerr
		}
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return total, werr
		}
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// copyFile copies the next n bytes of src, which r reads.
func (c *Checker) copyFile(dst io.ReaderFrom, src *os.File, n int64, known bool, r io.Reader) (int64, error) {
	off, err := src.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if c.d.Size > 0 && c.n+n > c.d.Size {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", c.d.Digest, ErrSize, c.d.Size)
	}
	hashed := make(chan error, 1)
	if known {
		c.known = true
		c.n += n
		hashed <- nil
	} else {
		go func() { hashed <- c.hash(io.NewSectionReader(src, off, n), n) }()
	}
	copied, err := dst.ReadFrom(&io.LimitedReader{R: src, N: n})
	if lr, ok := r.(*io.LimitedReader); ok {
		lr.N -= copied
	}
	herr := <-hashed
	if err == nil && copied != n {
		err = io.ErrUnexpectedEOF
	}
	return copied, cmp.Or(err, herr)
}

// hash takes the n bytes of r.
func (c *Checker) hash(r io.Reader, n int64) error {
	m, err := io.CopyBuffer(struct{ io.Writer }{c}, r, make([]byte, bufferSize))
	if err == nil && m != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// regular returns the regular file that r reads, how much of it is left to read, and whether it was vouched for.
func regular(r io.Reader) (f *os.File, n int64, known bool) {
	limit := int64(math.MaxInt64)
	if lr, ok := r.(*io.LimitedReader); ok {
		r, limit = lr.R, lr.N
	}
	switch r := r.(type) {
	case sound:
		f, known = r.File, true
	case *os.File:
		f = r
	default:
		return nil, 0, false
	}
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, 0, false
	}
	off, err := f.Seek(0, io.SeekCurrent)
	if err != nil || off > fi.Size() {
		return nil, 0, false
	}
	return f, min(limit, fi.Size()-off), known
}
