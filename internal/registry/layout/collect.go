package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nacre/internal/image"
	"nacre/internal/registry"
)

// CollectAge is how old a blob must be that nothing refers to before Collect removes it: a copy that is under way
// sends blobs first and names what refers to them last. Has makes a blob young again.
const CollectAge = time.Hour

// Collect removes blobs that nothing in index.json refers to and that are older than CollectAge at the time now. It returns
// their number and bytes. Where something cannot be read that may refer to others, nothing is removed. Errors:
// registry.ErrInvalid.
func (l *Layout) Collect(ctx context.Context, now time.Time) (n int, bytes int64, err error) {
	unlock, err := lock(ctx, filepath.Join(l.dir, ocispec.ImageLayoutFile))
	if err != nil {
		return 0, 0, err
	}
	defer unlock()
	data, err := readFile(filepath.Join(l.dir, ocispec.ImageIndexFile), registry.MaxNames)
	if err != nil {
		return 0, 0, err
	}
	index, err := image.ParseIndex(data)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w: %w", l.dir, registry.ErrInvalid, err)
	}
	needed, read := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, d := range index.Manifests {
		if err := l.mark(ctx, d, needed, read, 0); err != nil {
			return 0, 0, err
		}
	}
	old := now.Add(-CollectAge)
	err = filepath.WalkDir(filepath.Join(l.dir, ocispec.ImageBlobsDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(filepath.Base(filepath.Dir(path))), e.Name())
		if d.Validate() != nil || needed[d] {
			return ctx.Err()
		}
		info, err := e.Info()
		if err == nil && info.ModTime().Before(old) {
			if err = os.Remove(path); err == nil {
				n, bytes = n+1, bytes+info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
	return n, bytes, err
}

// mark notes d in needed, and all it refers to; manifests it has looked into in read. What is not there refers to nothing.
func (l *Layout) mark(ctx context.Context, d registry.Descriptor, needed, read map[digest.Digest]bool, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("%w: %s: indexes nested more than %d deep", registry.ErrInvalid, d.Digest, maxNesting)
	}
	needed[d.Digest] = true
	if !image.IsManifestOrIndex(d.MediaType) || read[d.Digest] {
		return ctx.Err()
	}
	read[d.Digest] = true
	rc, err := l.Open(ctx, "", d)
	if errors.Is(err, registry.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := registry.ReadAll(rc, image.MaxSize)
	rc.Close()
	if err != nil {
		return fmt.Errorf("%s: %w", d.Digest, err)
	}
	refers, err := registry.Refers(d, data)
	if err != nil {
		return err
	}
	for _, c := range refers {
		if err := l.mark(ctx, c, needed, read, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// maxNesting bounds indexes within indexes, as registry.Copy does.
const maxNesting = 8

// touch has Collect leave a blob alone for a while that somebody relies on. Where times cannot be set, as in a folder
// that is read-only, nobody collects either.
func (l *Layout) touch(d digest.Digest, age time.Duration) {
	if age > CollectAge/2 {
		now := time.Now()
		os.Chtimes(l.blobPath(d), now, now)
	}
}
