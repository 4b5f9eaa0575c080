package hosted_test

import (
	"context"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nacre/internal/event"
	"nacre/internal/registry"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

func TestConform(t *testing.T) {
	registrytest.Conform(t, func(t testing.TB) registry.Registry {
		f := open(t, hosted.Options{})
		t.Cleanup(func() { wantSound(t, f.s) })
		return worldly{f.r}
	})
}

// fixture is a new store and it as a registry, by a clock of their own.
type fixture struct {
	t   testing.TB
	s   *store.Store
	r   *hosted.Registry
	mu  sync.Mutex
	now time.Time
}

func open(t testing.TB, o hosted.Options) *fixture { return openAt(t, t.TempDir(), o) }

func openAt(t testing.TB, root string, o hosted.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s, err := store.Open(t.Context(), root, store.Options{Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	o.Clock = f.clock
	o.Background = func(err error) { t.Errorf("in the background: %v", err) }
	f.s, f.r = s, hosted.New(s, o)
	t.Cleanup(func() {
		if err := f.r.Close(); err != nil {
			t.Errorf("close registry: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return f
}

// clock never shows the same time twice, so that what happens has an order.
func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(time.Microsecond)
	return f.now
}

func (f *fixture) later(d time.Duration) { f.now = f.now.Add(d) }

// worldly is a registry whose repositories have domains, over one where they have none.
type worldly struct{ *hosted.Registry }

func short(repo string) string { return registry.Ref{Repo: repo}.FamiliarRepo() }

func shortRef(ref registry.Ref) registry.Ref {
	ref.Repo = short(ref.Repo)
	return ref
}

func (w worldly) Resolve(ctx context.Context, ref registry.Ref) (registry.Descriptor, error) {
	return w.Registry.Resolve(ctx, shortRef(ref))
}

func (w worldly) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	return w.Registry.Open(ctx, short(repo), d)
}

func (w worldly) Has(ctx context.Context, repo string, d registry.Descriptor) (bool, error) {
	return w.Registry.Has(ctx, short(repo), d)
}

func (w worldly) Create(ctx context.Context, repo string, d registry.Descriptor) (registry.Upload, error) {
	return w.Registry.Create(ctx, short(repo), d)
}

func (w worldly) Tag(ctx context.Context, ref registry.Ref, d registry.Descriptor) error {
	return w.Registry.Tag(ctx, shortRef(ref), d)
}

func (w worldly) Untag(ctx context.Context, ref registry.Ref) error {
	return w.Registry.Untag(ctx, shortRef(ref))
}

func (w worldly) Delete(ctx context.Context, repo string, d digest.Digest) error {
	return w.Registry.Delete(ctx, short(repo), d)
}

func (w worldly) Refs(ctx context.Context) iter.Seq2[registry.Named, error] {
	return func(yield func(registry.Named, error) bool) {
		var all []registry.Named
		for n, err := range w.Registry.Refs(ctx) {
			if err != nil {
				yield(n, err)
				return
			}
			full, err := registry.ParseRef(n.Ref.String())
			all = append(all, registry.Named{Ref: full, Desc: n.Desc})
			if err != nil {
				yield(n, err)
				return
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

func wantSound(t testing.TB, s *store.Store) {
	t.Helper()
	r, err := s.Check(context.Background(), false, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Errorf("problem: %s", p)
	}
}
