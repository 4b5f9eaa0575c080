package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/rootfs"
	"nacre/internal/source"

	"github.com/opencontainers/go-digest"
)

// contextTree is the files of a context: a directory of this machine, or a layer.
type contextTree interface {
	tree
	Sum(ctx context.Context, names []string, notAfter *time.Time) (digest.Digest, error)
	// Each calls f with what Sum is over.
	Each(ctx context.Context, names []string, notAfter *time.Time, f func(source.Object)) error
	Digest(name string) digest.Digest
	Excluded(name string) bool
	Close() error
}

// layerTree is a context that came as a tar or from elsewhere. It is never written to files.
type layerTree struct {
	*rootfs.FS
	summed *memo[string, summed]
	single string // name of the one file that it is: a Dockerfile from a URL
	close  func()
}

func (t layerTree) Sum(ctx context.Context, names []string, notAfter *time.Time) (digest.Digest, error) {
	s, err := t.sum(ctx, names, notAfter)
	return s.digest, err
}

func (t layerTree) Each(ctx context.Context, names []string, notAfter *time.Time, f func(source.Object)) error {
	s, err := t.sum(ctx, names, notAfter)
	for _, o := range s.objects {
		f(o)
	}
	return err
}

// summed is a sum and what it is over, with the one notAfter that a build has: reading all files again would cost too much.
type summed struct {
	digest  digest.Digest
	objects []source.Object
}

func (t layerTree) sum(ctx context.Context, names []string, notAfter *time.Time) (summed, error) {
	key := strings.Join(names, "\x00")
	if notAfter == nil {
		key += "\x00" // and an empty name: without times
	}
	return t.summed.do(key, func() (s summed, err error) {
		s.digest, err = source.SumFS(ctx, t.FS, names, source.SumOptions{SkipOwner: true, NotAfter: notAfter, Each: func(o source.Object) { s.objects = append(s.objects, o) }})
		return s, err
	})
}

func (t layerTree) Digest(string) digest.Digest { return "" }
func (t layerTree) Excluded(string) bool        { return false }

func (t layerTree) Close() error {
	if t.close != nil {
		t.close()
	}
	return nil
}

// Remote makes a source of a context that is not a directory: a git repository or a URL.
// It is nil where spec is a path.
func Remote(spec string) (*graph.Fetch, error) {
	switch {
	case strings.HasPrefix(spec, "file://"), graph.IsGit(spec):
		return userGit(spec)
	case strings.HasPrefix(spec, "github.com/"):
		if _, err := os.Stat(spec); err == nil {
			return nil, nil
		}
		return userGit("https://" + spec)
	case graph.IsHTTP(spec):
		h, err := graph.ParseHTTP(spec)
		if err != nil {
			return nil, err
		}
		h.Name = "context"
		return &graph.Fetch{HTTP: h}, nil
	}
	return nil, nil
}

func userGit(spec string) (*graph.Fetch, error) {
	g, err := graph.ParseGit(spec)
	if err != nil {
		return nil, err
	}
	g.ByUser = true
	return &graph.Fetch{Git: g}, nil
}

// isRemote tells whether what the build is given needs fetching, or reading from a stream.
func (o Options) isRemote() bool {
	f, err := Remote(o.Context)
	return o.Tar != nil || f != nil || err != nil
}

// loadRemote gets a context that is no directory of this machine.
func (c *contextSource) loadRemote(ctx context.Context) (contextTree, error) {
	if c.o.Tar != nil {
		return c.untar(ctx, c.o.Tar)
	}
	op, err := Remote(c.o.Context)
	if err != nil {
		return nil, err
	}
	if g := op.Git; g != nil {
		if v := c.o.BuildArgs["SOURCE_DATE_EPOCH"]; v != nil && *v != "" {
			g.CommitTime = true
		}
		if v := c.o.BuildArgs["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]; v != nil && (*v == "1" || *v == "true") {
			g.KeepDir = true
		}
	}
	f := &fetcher{Builder: c.Builder, o: c.o, hold: c.lease.Layer, lease: c.lease, id: c.step.ID}
	out, _, err := f.fetch(ctx, op)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	root, err := Root(ctx, c.Store, []digest.Digest{out.DiffID})
	if err != nil || op.Git != nil {
		return layerTree{summed: &memo[string, summed]{}, FS: root}, err
	}
	if !isArchive(root, op.HTTP.Name) {
		return layerTree{summed: &memo[string, summed]{}, FS: root, single: op.HTTP.Name}, nil
	}
	file, err := root.Open(op.HTTP.Name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return c.untar(ctx, file)
}

// untar makes a context of a tar, compressed or not, that is kept for this build.
func (c *contextSource) untar(ctx context.Context, r io.Reader) (contextTree, error) {
	dir, remove, err := c.Store.TempDir("context")
	if err != nil {
		return nil, err
	}
	if _, err := layer.Ingest(ctx, dir, r, layer.IngestOptions{Archive: true}); err != nil {
		remove()
		return nil, fmt.Errorf("build context: %w", err)
	}
	l, err := layer.Open(dir)
	if err != nil {
		remove()
		return nil, err
	}
	return layerTree{summed: &memo[string, summed]{}, FS: rootfs.NewFS(l), close: func() { l.Close(); remove() }}, nil
}

// ociLayout begins a named context that is an image in an OCI layout.
const ociLayout = "oci-layout://"

// namedContexts is what the graph has to know of --build-context.
func namedContexts(specs map[string]string) (map[string]graph.Context, error) {
	contexts := map[string]graph.Context{}
	for name, spec := range specs {
		c := graph.Context{}
		var err error
		if ref, ok := strings.CutPrefix(spec, "docker-image://"); ok {
			c.Image = ref
		} else if strings.HasPrefix(spec, ociLayout) {
			c.Image = spec
		} else if c.Fetch, err = Remote(spec); err == nil && c.Fetch == nil {
			err = isDir(spec)
		}
		if err != nil {
			return nil, fmt.Errorf("build context %s: %w", name, err)
		}
		contexts[graph.ContextName(name)] = c
	}
	return contexts, nil
}

func isDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	return err
}

// contextNamed is the files that COPY and mounts call name; "" is the main context.
func (s *solver) contextNamed(name string) *contextSource {
	if name == "" {
		return s.source
	}
	return s.named[name]
}

// fromLayout copies the image that spec names into the store, and returns what it is there.
func (b Builder) fromLayout(ctx context.Context, spec string) (string, error) {
	dir, ref := splitLayout(strings.TrimPrefix(spec, ociLayout))
	l, err := layout.Open(dir)
	if err != nil {
		return "", err
	}
	var want registry.Descriptor
	n := 0
	for named, err := range l.Refs(ctx) {
		if err != nil {
			return "", err
		}
		if ref == "" || named.Ref.Tag == ref || named.Desc.Digest.String() == ref {
			if named.Desc.Digest != want.Digest {
				n++ // two names of one image are no two images
			}
			want = named.Desc
		}
	}
	if n == 0 && strings.HasPrefix(ref, "sha256:") {
		want, n = registry.Descriptor{Digest: digest.Digest(ref)}, 1
	}
	if n == 0 {
		return "", fmt.Errorf("%s has no image %s: %w", dir, ref, registry.ErrAbsent)
	}
	if n > 1 && ref == "" {
		return "", fmt.Errorf("%s has %d images: say which one with :TAG or @DIGEST", dir, n)
	}
	if n > 1 {
		return "", fmt.Errorf("%s has %d images with tag %s: say which one with @DIGEST", dir, n, ref)
	}
	from := registry.Ref{Digest: want.Digest}
	d, err := registry.Copy(ctx, b.Store, from, l, from, registry.CopyOptions{Partial: true})
	return d.Digest.String(), err
}

// splitLayout takes apart dir[:tag][@digest].
func splitLayout(spec string) (dir, ref string) {
	if dir, d, ok := strings.Cut(spec, "@"); ok {
		dir, _, _ = strings.Cut(dir, ":")
		return dir, d
	}
	if i := strings.LastIndexByte(spec, ':'); i > strings.LastIndexByte(spec, '/') {
		return spec[:i], spec[i+1:]
	}
	return spec, ""
}
