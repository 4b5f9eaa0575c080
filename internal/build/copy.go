package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"nacre/internal/cache"
	"nacre/internal/copier"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/rootfs"
	"nacre/internal/source"

	"github.com/opencontainers/go-digest"
)

// tree is what COPY reads: the context, or the root of a stage.
type tree interface {
	source.FS
	Resolve(name string) (string, error)
}

// addContext adds to a key what the context has under the step's sources.
func (w *work) addContext(ctx context.Context, h *cache.Hash, c *graph.Copy) error {
	t, err := w.contextNamed(c.Context).open(ctx)
	if err != nil {
		return err
	}
	var names []string
	for i, src := range c.Sources {
		if fetchedBy(c, i) != nil {
			continue
		}
		found, err := w.expand(t, c, src)
		if err != nil {
			return err
		}
		for _, name := range found {
			resolved, err := t.Resolve(name)
			if err != nil {
				return w.absent(c, i, err)
			}
			names = append(names, resolved)
		}
	}
	sum, err := t.Sum(ctx, names, w.epoch)
	if err != nil {
		return err
	}
	h.Add("context", sum.String())
	w.used = append(w.used, usedFiles{contextLabel(c.Context), t, names, w.epoch})
	return nil
}

// expand turns a source as written into names in its tree. With --parents these
// are the directories from which the copy starts.
func (w *work) expand(t tree, c *graph.Copy, src string) ([]string, error) {
	if c.Parents {
		start, pattern := pivot(src)
		if !source.HasWildcard(start) && !source.HasWildcard(pattern) {
			return []string{path.Join(start, pattern)}, nil
		}
		return []string{start}, nil
	}
	if !source.HasWildcard(src) {
		return []string{src}, nil
	}
	return source.GlobFS(t, src)
}

// absent words the error for a source that is not there.
func (w *work) absent(c *graph.Copy, i int, err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, copier.ErrAbsent) {
		return err
	}
	src := c.Sources[i]
	if c.From != nil {
		return fmt.Errorf("%q: %w in %s", "/"+src, copier.ErrAbsent, c.From.Stage)
	}
	e := &SourceError{Source: src}
	written := src
	if i < len(c.Written) {
		written = c.Written[i]
	}
	switch t, _ := w.contextNamed(c.Context).open(context.Background()); {
	case t != nil && t.Excluded(src):
		e.Hint = "the file is there, but .dockerignore leaves it out"
	case strings.HasPrefix(path.Clean(written), ".."):
		e.Hint = fmt.Sprintf("%q is outside the build context, and nothing outside can be copied: build with a directory that has it", written)
	}
	return e
}

// SourceError is a source of COPY or ADD that the build context does not have.
type SourceError struct {
	Source, Hint string
}

func (e *SourceError) Error() string {
	return fmt.Sprintf("%q: not found in the build context", "/"+e.Source)
}

func (e *SourceError) Unwrap() error { return copier.ErrAbsent }

// pivot splits a --parents source at "/./": the part before is where the copy
// starts and is not repeated in the target.
func pivot(src string) (start, pattern string) {
	before, after, ok := strings.Cut("/"+strings.TrimPrefix(src, "/"), "/./")
	if !ok {
		return ".", path.Clean("/" + src)[1:]
	}
	return path.Clean("/" + before)[1:], path.Clean("/" + after)[1:]
}

// tree is where a COPY reads: the context, or the root of an earlier stage.
func (w *work) copyTree(ctx context.Context, c *graph.Copy) (tree, func(string) digest.Digest, error) {
	if c.From == nil {
		t, err := w.contextNamed(c.Context).open(ctx)
		if err != nil {
			return nil, nil, err
		}
		return t, t.Digest, nil
	}
	f, err := w.rootFS(ctx, w.from().layers)
	return f, nil, err
}

// planCopy works out the files of a COPY or ADD.
func (w *work) planCopy(ctx context.Context, c *graph.Copy) error {
	lower, err := w.lower(ctx)
	if err != nil {
		return err
	}
	o := copier.Options{Chmod: c.Chmod, Exclude: c.Exclude}
	if o.Owner, err = w.owner(lower, c); err != nil {
		return err
	}
	w.plan = newPlan(lower)
	if err := w.copySources(ctx, c, o); err != nil {
		return err
	}
	for _, f := range c.Inline {
		if err := w.plan.CopyInline(path.Base(f.Path), f.Data, f.Mode, c.Dest, w.now(), o); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) copySources(ctx context.Context, c *graph.Copy, o copier.Options) error {
	var t tree
	if len(local(c)) > 0 {
		var err error
		if t, o.Digest, err = w.copyTree(ctx, c); err != nil {
			return err
		}
	}
	for i, src := range c.Sources {
		if r := fetchedBy(c, i); r != nil {
			if err := w.copyFetched(ctx, r, c, src, o); err != nil {
				return err
			}
			continue
		}
		if err := w.copySource(ctx, t, c, src, o); err != nil {
			return w.absent(c, i, err)
		}
	}
	return nil
}

func newPlan(lower *rootfs.FS) *copier.Plan {
	if lower == nil {
		return copier.New(nil)
	}
	return copier.New(lower)
}

func (w *work) copySource(ctx context.Context, t tree, c *graph.Copy, src string, o copier.Options) error {
	if c.Parents {
		start, pattern := pivot(src)
		if !source.HasWildcard(start) && !source.HasWildcard(pattern) {
			if _, err := t.Lstat(path.Join(start, pattern)); err != nil {
				return fmt.Errorf("%q: %w", "/"+path.Join(start, pattern), copier.ErrAbsent)
			}
		}
		if pattern != "" { // else all that is in start is meant
			o.Include = []string{pattern}
		}
		starts := []string{start}
		if source.HasWildcard(start) {
			var err error
			if starts, err = source.GlobFS(t, start); err != nil {
				return err
			}
		}
		for _, start := range starts {
			if err := w.plan.Copy(t, start, c.Dest, o); err != nil {
				return err
			}
		}
		return nil
	}
	names, err := w.expand(t, c, src)
	if err != nil {
		return err
	}
	for _, name := range names {
		done, err := w.unpack(ctx, t, c, name, o)
		if err == nil && !done {
			err = w.plan.Copy(t, name, c.Dest, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpack extracts name where ADD would: it is an archive, and --unpack=false is not given.
func (w *work) unpack(ctx context.Context, t tree, c *graph.Copy, name string, o copier.Options) (bool, error) {
	want := c.Add
	if c.Unpack != nil {
		want = *c.Unpack
	}
	if !want || !isArchive(t, name) {
		return false, nil
	}
	resolved, err := t.Resolve(name)
	if err != nil {
		return false, err
	}
	f, err := t.Open(resolved)
	if err != nil {
		return false, err
	}
	defer f.Close()
	dir, remove, err := w.Store.TempDir("add")
	if err != nil {
		return false, err
	}
	w.temp = append(w.temp, remove)
	// An archive is read as a layer is, with all its checks; its files then are copied from there.
	if _, err := layer.Ingest(ctx, dir, f, layer.IngestOptions{Archive: true}); err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	l, err := layer.Open(dir)
	if err != nil {
		return false, err
	}
	w.temp = append(w.temp, func() { l.Close() })
	o.Digest = nil
	if c.Chown == "" {
		o.Owner = nil // as the archive has it
	}
	return true, w.plan.Extract(rootfs.NewFS(l), c.Dest, o)
}

func isArchive(t tree, name string) bool {
	resolved, err := t.Resolve(name)
	if err != nil {
		return false
	}
	info, err := t.Lstat(resolved)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := t.Open(resolved)
	if err != nil {
		return false
	}
	defer f.Close()
	r, _, err := layer.Decompress(f)
	if err != nil {
		return false
	}
	defer r.Close()
	_, err = tar.NewReader(r).Next()
	return err == nil
}

// owner resolves --chown in the target root. Without it, files from the context
// belong to root, and files from a stage keep their owner.
func (w *work) owner(lower *rootfs.FS, c *graph.Copy) (*copier.Owner, error) {
	if c.Chown == "" {
		if c.From != nil {
			return nil, nil
		}
		return &copier.Owner{}, nil
	}
	o, err := ownerOf(lower, c.Chown)
	if err != nil {
		return nil, fmt.Errorf("--chown=%s: %w", c.Chown, err)
	}
	return &o, nil
}
