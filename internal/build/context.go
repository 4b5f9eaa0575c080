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
	"nacre/internal/registry/store"
	"nacre/internal/sandbox"
	"nacre/internal/source"
)

// contextSource opens the build context, or a named one, when a step first asks for it; a build
// without COPY from the context never looks at it.
type contextSource struct {
	Builder
	o     Options // those of the build, Context being this one
	lease *store.Lease
	step  event.Step
	once  sync.Once
	tree  contextTree
	err   error
	named bool // its ignore file has nothing to do with a Dockerfile
}

func newContextSource(b Builder, o Options, lease *store.Lease) *contextSource {
	return &contextSource{Builder: b, o: o, lease: lease, step: event.Step{ID: stepContext, Name: "[internal] load build context"}}
}

// newNamedContext is for the directory of a --build-context; it has a .dockerignore of its own.
func newNamedContext(b Builder, name, dir string, id int) *contextSource {
	return &contextSource{Builder: b, o: Options{Context: dir}, named: true, step: event.Step{ID: id, Name: "[context " + name + "] load files"}}
}

func (c *contextSource) open(ctx context.Context) (contextTree, error) {
	c.once.Do(func() {
		done := c.begin(c.step)
		c.tree, c.err = c.load(ctx)
		done(event.Done{}, c.err)
	})
	return c.tree, c.err
}

func (c *contextSource) load(ctx context.Context) (contextTree, error) {
	if c.o.isRemote() {
		return c.loadRemote(ctx)
	}
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
	t, err := source.OpenDir(ctx, dir, source.DirOptions{
		Ignore:    matcher,
		StatCache: filepath.Join(c.Store.Root(), "contexts", hex.EncodeToString(id[:16])),
		Progress:  c.hashing(),
	})
	if err != nil {
		return nil, err
	}
	return t, nil
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
	var paths []string
	if df := c.o.dockerfilePath(); df != "" && !c.named {
		paths = append(paths, df+".dockerignore")
	}
	for _, path := range append(paths, filepath.Join(c.o.Context, ".dockerignore")) {
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

// close ends the use of named contexts and of sandboxes kept ready, and does what is
// to be done at the end.
func (s *solver) close() {
	for _, f := range s.ends {
		f()
	}
	s.dropScratch()
	for _, c := range s.named {
		c.close()
	}
	sandbox.Cool()
}
