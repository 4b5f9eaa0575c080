package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nacre/internal/copier"
	"nacre/internal/graph"
	"nacre/internal/layer"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// useCaches takes the cache directories of a RUN, each once whatever the number of
// its mounts, and always in the same order: steps that wait for each other's would wait for ever.
func (w *work) useCaches(ctx context.Context, list []graph.Mount) (map[string]string, error) {
	wanted := map[string]store.CacheDirOptions{}
	for _, m := range list {
		if m.Type != graph.MountCache {
			continue
		}
		if err := w.describeOrigin(ctx, m); err != nil {
			return nil, err
		}
		name := cacheName(m, w.variants[originOf(m)])
		o, ok := wanted[name]
		if !ok || stricter(m.Sharing, string(o.Sharing)) {
			wanted[name] = w.cacheOptions(ctx, m)
		}
	}
	dirs := map[string]string{}
	use := w.Store.UseCacheDir
	if w.o.FreshCaches {
		use = w.useFreshCache
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if err := w.fillCarried(ctx, wanted[name]); err != nil {
			return nil, err
		}
		dir, release, err := use(ctx, wanted[name])
		if err != nil {
			return nil, err
		}
		w.temp = append(w.temp, release)
		dirs[name] = dir
	}
	return dirs, nil
}

// origin is what a cache begins with: a step's root, or part of a context. The zero value is nothing.
type origin struct {
	from            *graph.Step
	context, source string
}

func originOf(m graph.Mount) origin {
	if m.From == nil && m.Context != "" {
		return origin{context: m.Context, source: m.Source}
	}
	return origin{from: m.From}
}

// describeOrigin notes what stands for the content that a cache begins with.
func (w *work) describeOrigin(ctx context.Context, m graph.Mount) error {
	o := originOf(m)
	if o == (origin{}) || w.variants[o] != "" {
		return nil
	}
	var sum digest.Digest
	if o.from == nil {
		text, err := w.contextSum(ctx, m, true, nil)
		if err != nil {
			return err
		}
		sum = digest.Digest(text)
	} else {
		contents, err := w.contents(ctx, w.input(o.from))
		if err != nil {
			return err
		}
		sum = sumOf(contents)
	}
	if w.variants == nil {
		w.variants = map[origin]string{}
	}
	w.variants[o] = fmt.Sprintf("from=%s", short(sum))
	return nil
}

// cacheName tells caches apart: by ID, by what they began with, and by owner and mode, as
// BuildKit does.
func cacheName(m graph.Mount, origin string) string { return cacheKey(m.ID, variant(m, origin)) }

func variant(m graph.Mount, origin string) string {
	var parts []string
	if mode := value(m.Mode, 0o755); mode != 0o755 {
		parts = append(parts, fmt.Sprintf("mode=%04o", mode))
	}
	if uid := value(m.UID, 0); uid != 0 {
		parts = append(parts, fmt.Sprintf("uid=%d", uid))
	}
	if gid := value(m.GID, 0); gid != 0 {
		parts = append(parts, fmt.Sprintf("gid=%d", gid))
	}
	if origin != "" {
		parts = append(parts, origin)
		if m.Source != "." {
			parts = append(parts, "source=/"+m.Source)
		}
	}
	return strings.Join(parts, " ")
}

func value(n *uint32, byDefault uint32) uint32 {
	if n == nil {
		return byDefault
	}
	return *n
}

// stricter tells whether sharing a leaves less to others than b.
func stricter(a, b string) bool {
	order := []string{string(store.SharingShared), string(store.SharingPrivate), string(store.SharingLocked)}
	return slices.Index(order, a) > slices.Index(order, b)
}

func (w *work) cacheOptions(ctx context.Context, m graph.Mount) store.CacheDirOptions {
	o := store.CacheDirOptions{
		ID: m.ID, Variant: variant(m, w.variants[originOf(m)]), Sharing: store.Sharing(m.Sharing),
		Mode: value(m.Mode, 0o755), UID: int(value(m.UID, 0)), GID: int(value(m.GID, 0)),
	}
	if w.Chroot && o.Sharing != store.SharingPrivate {
		o.Sharing = store.SharingLocked // it is moved into the root of one step
	}
	if originOf(m) != (origin{}) {
		o.Fill = func(dir string) error { return w.fillCache(ctx, m, dir) }
	}
	return o
}

// fillCache puts the directory a cache begins with into dir, by way of a layer: names of an
// image are never paths of the host.
func (w *work) fillCache(ctx context.Context, m graph.Mount, dir string) error {
	f, options, err := w.openOrigin(ctx, m)
	if err != nil {
		return err
	}
	name, err := w.resolveSource(f, m)
	if err != nil {
		return err
	}
	if info, err := f.Lstat(name); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("source /%s is not a directory", m.Source)
	}
	plan := copier.New(nil)
	if err := plan.Copy(f, name, "/", options); err != nil {
		return err
	}
	scratch, remove, err := w.Store.TempDir("cache")
	if err != nil {
		return err
	}
	defer remove()
	if _, err := layer.Write(ctx, scratch, plan.Files()); err != nil {
		return err
	}
	return unpack(ctx, scratch, dir)
}

// openOrigin is the tree that a cache begins with, and how to copy from it: files of a context are root's.
func (w *work) openOrigin(ctx context.Context, m graph.Mount) (tree, copier.Options, error) {
	if m.From != nil {
		f, err := w.rootFS(ctx, w.input(m.From).layers)
		return f, copier.Options{}, err
	}
	t, err := w.contextNamed(m.Context).open(ctx)
	if err != nil {
		return nil, copier.Options{}, err
	}
	return t, copier.Options{Owner: &copier.Owner{}, Digest: t.Digest}, nil
}

// sumOf is one digest for several.
func sumOf(list []digest.Digest) digest.Digest {
	var b strings.Builder
	for _, d := range list {
		b.WriteString(d.String() + "\n")
	}
	return digest.FromString(b.String())
}
