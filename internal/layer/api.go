package layer

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
)

type IngestOptions struct {
	DiffID digest.Digest
	Limits Limits
}

type Limits struct {
	MaxSize    int64
	MaxEntries int
	MaxRatio   int
}

func Ingest(ctx context.Context, dir string, r io.Reader, o IngestOptions) (Info, error) {
	return Info{}, errors.ErrUnsupported
}
func Decompress(r io.Reader) (rc io.ReadCloser, name string, err error) {
	return nil, "", errors.ErrUnsupported
}
func Reindex(ctx context.Context, dir string) (Info, error) { return Info{}, errors.ErrUnsupported }
