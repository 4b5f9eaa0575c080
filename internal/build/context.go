package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"nacre/internal/dockerfile"
	"nacre/internal/event"
	"nacre/internal/sandbox"
	"nacre/internal/source"
)

// contextSource opens the build context when a step first asks for it; a build
// without COPY from the context never looks at it.
type contextSource struct {
	Builder
	o    Options
	once sync.Once
	tree *source.Tree
	err  error
}

func newContextSource(b Builder, o Options) *contextSource { return &contextSource{Builder: b, o: o} }

func (c *contextSource) open(ctx context.Context) (*source.Tree, error) {
	c.once.Do(func() {
		done := c.begin(event.Step{ID: stepContext, Name: "[internal] load build context"})
		c.tree, c.err = c.load(ctx)
		done(event.Done{}, c.err)
	})
	return c.tree, c.err
}

func (c *contextSource) load(ctx context.Context) (*source.Tree, error) {
	if c.o.Context == "" {
		return nil, errors.New("there is no build context: give a directory to copy from it")
	}
	matcher, patterns, err := c.ignore()
	if err != nil {
		return nil, err
	}
	dir := absolute(c.o.Context)
	// One stat cache for each way of looking at a directory: what is ignored has no entry in it.
	id := sha256.Sum256(fmt.Appendf(nil, "%s\x00%q", dir, patterns))
	return source.OpenDir(ctx, dir, source.DirOptions{
		Ignore:    matcher,
		StatCache: filepath.Join(c.Store.Root(), "contexts", hex.EncodeToString(id[:16])),
	})
}

// absolute is a path as it is known in the cache. Without a working directory
// it stays as it was given.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// ignore reads the ignore file of the Dockerfile, or that of the context.
func (c *contextSource) ignore() (source.Ignore, []string, error) {
	df := c.o.Dockerfile
	if df == "" {
		df = filepath.Join(c.o.Context, "Dockerfile")
	}
	for _, path := range []string{df + ".dockerignore", filepath.Join(c.o.Context, ".dockerignore")} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		patterns, err := dockerfile.ParseIgnore(f)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		m, err := dockerfile.NewMatcher(patterns)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		return m, patterns, nil
	}
	return nil, nil, nil
}

func (c *contextSource) close() error {
	if c.tree == nil {
		return nil
	}
	return c.tree.Close()
}

// close ends the use of the context and of sandboxes kept ready.
func (s *solver) close() {
	s.source.close()
	sandbox.Cool()
}
