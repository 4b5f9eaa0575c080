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
	return within{r, domain + "/"}
}

type within struct {
	r      registry.Registry
	prefix string
}

func (w within) ref(ref registry.Ref) registry.Ref {
	ref.Repo = w.prefix + ref.Repo
	return ref
}

func (w within) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return w.r.Resolve(ctx, w.ref(ref))
}

func (w within) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return w.r.Open(ctx, w.prefix+repo, d)
}

func (w within) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	return w.r.Has(ctx, w.prefix+repo, d)
}

func (w within) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	return w.r.Create(ctx, w.prefix+repo, d)
}

func (w within) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	return w.r.Tag(ctx, w.ref(ref), d)
}

func (w within) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for n, err := range w.r.Refs(ctx) {
			repo, ok := strings.CutPrefix(n.Ref.Repo, w.prefix)
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

func (w within) Untag(ctx context.Context, ref registry.Ref) error {
	return w.r.Untag(ctx, w.ref(ref))
}

func (w within) Delete(ctx context.Context, repo string, d digest.Digest) error {
	return w.r.Delete(ctx, w.prefix+repo, d)
}
