package copier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"time"

	"nacre/internal/layer"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Sum is a digest over the files of the plan with their content. Times are left out
// where notAfter is nil; else those after it count as if they were it.
// It stands for everything the copy depends on: two plans of equal Sum
// make interchangeable layers, whatever else their roots and sources hold.
func (p *Plan) Sum(ctx context.Context, notAfter *time.Time) (digest.Digest, error) {
	if err := p.digestFiles(ctx); err != nil {
		return "", err
	}
	h := sha256.New()
	for f, err := range p.Files() {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %o %d %d %d %q %t %d,%d %s\n",
			f.Name, f.Mode, f.UID, f.GID, f.Size, f.Link, f.Hard, f.Major, f.Minor, f.Digest)
		if notAfter != nil {
			fmt.Fprintf(h, " %d\n", min(f.ModTime.Unix(), notAfter.Unix()))
		}
		for _, k := range slices.Sorted(maps.Keys(f.Xattrs)) {
			fmt.Fprintf(h, " %q=%q\n", k, f.Xattrs[k])
		}
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// digestFiles hashes the files whose digest nobody knew, a few at a time.
func (p *Plan) digestFiles(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, n := range p.added {
		if n.Open == nil || n.Digest != "" {
			continue
		}
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			n.Digest, err = digestFile(&n.File)
			return err
		})
	}
	return g.Wait()
}

func digestFile(f *layer.File) (digest.Digest, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("%s: %w", f.Name, err)
	}
	return digest.NewDigest(digest.SHA256, h), nil
}
