package registry

import (
	"context"
	_ "crypto/sha256" // go-digest uses whatever is linked in
	_ "crypto/sha512"
	"fmt"
	"hash"
	"io"

	"nacre/internal/image"
)

// Raw is a reader of content that its registry would verify, not verified: for
// those who verify what they read themselves, so that nothing is hashed twice. What
// Verify returns has it.
type Raw interface {
	// Raw returns the reader beneath, which may be an *os.File. It is to be
	// called before the first Read, and closed by closing the outer one.
	Raw() io.Reader
}

// Verify gives rc the verification that Reader.Open promises for d.
func Verify(rc io.ReadCloser, d Descriptor) io.ReadCloser {
	c, err := NewChecker(d)
	return &verified{rc: rc, check: c, err: err}
}

type verified struct {
	rc    io.ReadCloser
	check *Checker
	err   error // sticky
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.rc.Read(p)
	if _, werr := v.check.Write(p[:n]); werr != nil {
		v.err = werr
		return 0, werr
	}
	if err == io.EOF {
		if cerr := v.check.Check(); cerr != nil {
			err = cerr
		}
	}
	v.err = err
	return n, err
}

func (v *verified) Close() error   { return v.rc.Close() }
func (v *verified) Raw() io.Reader { return v.rc }

// Checker compares content with its descriptor as it passes by. It is what an
// Upload needs to keep the promise of Commit.
type Checker struct {
	d     Descriptor
	h     hash.Hash
	n     int64
	known bool // it was vouched for: there is nothing to hash
}

// NewChecker begins to check content of d. A d.Size of 0 is unknown. Errors: ErrInvalid.
func NewChecker(d Descriptor) (*Checker, error) {
	if err := CheckDescriptor(d); err != nil {
		return nil, err
	}
	return &Checker{d: d, h: d.Digest.Algorithm().Hash()}, nil
}

// CheckDescriptor tells whether d is well formed; a digest that is, holds no
// character with a meaning in a path. Errors: ErrInvalid.
func CheckDescriptor(d Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("%w: digest %q: %w", ErrInvalid, d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%w: %s: size %d", ErrInvalid, d.Digest, d.Size)
	}
	return nil
}

// Write takes the next bytes. Errors: ErrSize as soon as there are too many.
func (c *Checker) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	if c.d.Size > 0 && c.n > c.d.Size {
		return 0, fmt.Errorf("%s: %w: more than %d bytes", c.d.Digest, ErrSize, c.d.Size)
	}
	return c.h.Write(p)
}

// Size is the number of bytes seen.
func (c *Checker) Size() int64 { return c.n }

// Check tells whether what was written is the content, whole. Errors: ErrSize, ErrDigest.
func (c *Checker) Check() error {
	if c.d.Size > 0 && c.n != c.d.Size {
		return fmt.Errorf("%s: %w: %d bytes, not %d", c.d.Digest, ErrSize, c.n, c.d.Size)
	}
	if c.known {
		return nil
	}
	if got := fmt.Sprintf("%x", c.h.Sum(nil)); got != c.d.Digest.Encoded() {
		return fmt.Errorf("%s: %w: it has %s:%s", c.d.Digest, ErrDigest, c.d.Digest.Algorithm(), got)
	}
	return nil
}

// ReadAll reads small content whole, a manifest or config: more than limit bytes
// are an error. Errors: ErrInvalid, those of r.
func ReadAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrInvalid, limit)
	}
	return data, nil
}

// ReadDocument returns the bytes of a manifest, index or config, verified. Errors: ErrAbsent,
// ErrInvalid where it is too large to be one, ErrDigest, ErrSize.
func ReadDocument(ctx context.Context, r Reader, repo string, d Descriptor) ([]byte, error) {
	if d.Size > image.MaxSize {
		return nil, fmt.Errorf("%w: %s: a manifest of %d bytes", ErrInvalid, d.Digest, d.Size)
	}
	rc, err := r.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := ReadAll(rc, image.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.Digest, err)
	}
	return data, nil
}
