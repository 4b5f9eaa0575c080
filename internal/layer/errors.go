package layer

import (
	"errors"
	"fmt"
	"io"
)

// What callers decide on. Messages around them name the entry.
var (
	// ErrTruncated: the stream ended before the layer did. Errors that wrap it
	// wrap io.ErrUnexpectedEOF too.
	ErrTruncated = fmt.Errorf("truncated layer: %w", io.ErrUnexpectedEOF)
	// ErrUnsafe: an entry that would reach outside of the root, or through a symlink.
	ErrUnsafe = errors.New("unsafe entry")
	// ErrLimit: more bytes or entries than Limits allow, as a decompression bomb has.
	ErrLimit = errors.New("limit exceeded")
	// ErrFormat: not a tar, or one that says what cannot be, or a damaged index.
	ErrFormat = errors.New("malformed layer")
	// ErrDiffID: the uncompressed bytes do not hash to what was promised.
	ErrDiffID = errors.New("wrong diffID")
	// ErrChanged: a file was not what its Entry said when it was read.
	ErrChanged = errors.New("file changed while it was read")
)
