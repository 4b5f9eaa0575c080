package layer

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"

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

func Write(ctx context.Context, dir string, files iter.Seq2[File, error]) (Info, error) {
	return Info{}, errors.ErrUnsupported
}
func Ingest(ctx context.Context, dir string, r io.Reader, o IngestOptions) (Info, error) {
	return Info{}, errors.ErrUnsupported
}
func Less(a, b string) bool { return a < b }
func Decompress(r io.Reader) (rc io.ReadCloser, name string, err error) {
	return nil, "", errors.ErrUnsupported
}
func Reindex(ctx context.Context, dir string) (Info, error) { return Info{}, errors.ErrUnsupported }
func WriteIndex(path string, entries iter.Seq2[Entry, error]) error {
	return errors.ErrUnsupported
}

type Layer struct{}

func Open(dir string) (*Layer, error)                       { return nil, errors.ErrUnsupported }
func (l *Layer) Close() error                               { return nil }
func (l *Layer) Lstat(name string) (fs.FileInfo, error)     { return nil, errors.ErrUnsupported }
func (l *Layer) ReadDir(name string) ([]fs.DirEntry, error) { return nil, errors.ErrUnsupported }
func (l *Layer) ReadLink(name string) (string, error)       { return "", errors.ErrUnsupported }
func (l *Layer) Open(name string) (fs.File, error)          { return nil, errors.ErrUnsupported }
func (l *Layer) Empty() bool                                { return false }
func (l *Layer) HasImplicit() bool                          { return false }
func (l *Layer) FS() fs.FS                                  { return nil }
func (l *Layer) All() iter.Seq2[*Stat, error]               { return nil }
