package servertest

import (
	"context"
	"io"
	"iter"
	"strings"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
)

// Within shows the repositories of one domain of r, named without it: for media whose names
// always have one.
func Within(r registry.Registry, domain string) registry.Registry {
	return Renamed(r, func(repo string) string { return domain + "/" + repo }, func(repo string) (string, bool) {
		return strings.CutPrefix(repo, domain+"/")
	})
}

// Renamed shows the repositories of r under other names: inner is the name that r knows
// one by, outer the name it is shown as, if it is.
func Renamed(r registry.Registry, inner func(string) string, outer func(string) (string, bool)) registry.Registry {
	return renamed{r, inner, outer}
}

type renamed struct {
	r     registry.Registry
	inner func(string) string
	outer func(string) (string, bool)
}

func (w renamed) ref(ref registry.Ref) registry.Ref {
	ref.Repo = w.inner(ref.Repo)
	return ref
}

func (w renamed) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return w.r.Resolve(ctx, w.ref(ref))
}

func (w renamed) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return w.r.Open(ctx, w.inner(repo), d)
}

func (w renamed) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	return w.r.Has(ctx, w.inner(repo), d)
}

func (w renamed) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	return w.r.Create(ctx, w.inner(repo), d)
}

func (w renamed) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	return w.r.Tag(ctx, w.ref(ref), d)
}

func (w renamed) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for n, err := range w.r.Refs(ctx) {
			repo, ok := w.outer(n.Ref.Repo)
			if err == nil && (!ok || n.Ref.Tag == "") {
				continue
			}
			n.Ref.Repo = repo
			if !yield(n, err) {
				return
			}
		}
	}
}

func (w renamed) Untag(ctx context.Context, ref registry.Ref) error {
	return w.r.Untag(ctx, w.ref(ref))
}

func (w renamed) Delete(ctx context.Context, repo string, d digest.Digest) error {
	return w.r.Delete(ctx, w.inner(repo), d)
}
