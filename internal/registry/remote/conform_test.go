package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
)

// world is a folder of one host seen as all registries: the domains of the suite's names become
// parts of paths.
type world struct {
	h      *remote.Host
	folder string
}

func (w world) in(repo string) string { return w.folder + strings.ReplaceAll(repo, ":", "__") }

// out is false for what is in another folder.
func (w world) out(repo string) (string, bool) {
	repo, ok := strings.CutPrefix(repo, w.folder)
	return strings.ReplaceAll(repo, "__", ":"), ok
}

func (w world) inRef(ref registry.Ref) registry.Ref {
	ref.Repo = w.in(ref.Repo)
	return ref
}

func (w world) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return w.h.Resolve(ctx, w.inRef(ref))
}

func (w world) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return w.h.Open(ctx, w.in(repo), d)
}

func (w world) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	return w.h.Has(ctx, w.in(repo), d)
}

func (w world) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	return w.h.Create(ctx, w.in(repo), d)
}

func (w world) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	return w.h.Tag(ctx, w.inRef(ref), d)
}

func (w world) Untag(ctx context.Context, ref registry.Ref) error {
	return w.h.Untag(ctx, w.inRef(ref))
}

func (w world) Delete(ctx context.Context, repo string, d digest.Digest) error {
	return w.h.Delete(ctx, w.in(repo), d)
}

func (w world) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		var all []registry.Named
		for n, err := range w.h.Refs(ctx) {
			if err != nil {
				yield(n, err)
				return
			}
			if repo, ok := w.out(n.Ref.Repo); ok {
				n.Ref.Repo = repo
				all = append(all, n)
			}
		}
		slices.SortFunc(all, func(a, b registry.Named) int { return strings.Compare(a.Ref.String(), b.Ref.String()) })
		for _, n := range all {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// TestConform: a client of our own server keeps the contract whole.
func TestConform(t *testing.T) {
	registrytest.Conform(t, func(t testing.TB) registry.Registry {
		return world{client(t, remote.Options{}).Host(serve(t, nil).addr), ""}
	})
}

// TestConformHTTP2: the same over TLS and HTTP/2, in small pieces.
func TestConformHTTP2(t *testing.T) {
	registrytest.Conform(t, func(t testing.TB) registry.Registry {
		f := serveTLS(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 2 {
					t.Errorf("%s %s by %s", r.Method, r.URL, r.Proto)
				}
				h.ServeHTTP(w, r)
			})
		})
		return world{client(t, remote.Options{Hosts: remote.Hosts{f.addr: {Insecure: true, Chunk: 50_000}}}).Host(f.addr), ""}
	})
}

// withoutUntag is a registry that cannot remove a tag alone, as Docker's cannot. It says so, and the
// names it should have removed are hidden here, for the rest of the suite.
type withoutUntag struct {
	world
	t      testing.TB
	hidden map[registry.Ref]bool
}

func (w withoutUntag) Untag(ctx context.Context, ref registry.Ref) error {
	if _, err := w.Resolve(ctx, ref); err != nil {
		return err
	}
	if err := w.world.Untag(ctx, ref); !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), "does not remove a tag alone") {
		w.t.Errorf("untag where that is not supported: %v", err)
	}
	w.hidden[ref] = true
	return nil
}

func (w withoutUntag) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	if w.hidden[ref] {
		return registry.Descriptor{}, registry.ErrAbsent
	}
	return w.world.Resolve(ctx, ref)
}

func (w withoutUntag) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		for n, err := range w.world.Refs(ctx) {
			if !w.hidden[n.Ref] && !yield(n, err) {
				return
			}
		}
	}
}

func TestConformDocker(t *testing.T) {
	addr, n := docker(t), 0
	registrytest.Conform(t, func(t testing.TB) registry.Registry {
		n++
		w := world{client(t, remote.Options{}).Host(addr), fmt.Sprintf("world-%d/", n)}
		return withoutUntag{w, t, map[registry.Ref]bool{}}
	})
}
