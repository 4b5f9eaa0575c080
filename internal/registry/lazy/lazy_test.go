package lazy_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"nacre/internal/image"
	"nacre/internal/registry"
	"nacre/internal/registry/lazy"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"

	"github.com/opencontainers/go-digest"
)

// counting is a registry that counts what is read from it.
type counting struct {
	*mem.Registry
	opened atomic.Int32
	open   func(ctx context.Context) error // called first
}

func (c *counting) Open(ctx context.Context, repo string, d registry.Descriptor) (io.ReadCloser, error) {
	c.opened.Add(1)
	if c.open != nil {
		if err := c.open(ctx); err != nil {
			return nil, err
		}
	}
	return c.Registry.Open(ctx, repo, d)
}

// setup is a layer that is in a registry, and an empty store; layers travel as tars here, so that mem is a store.
func setup(t *testing.T) (*counting, *lazy.Layers, *mem.Registry, registrytest.Blob) {
	t.Helper()
	src, dst := &counting{Registry: mem.New()}, mem.New()
	blob := registrytest.NewBlob(image.TypeLayer, registrytest.Tar("a", "content"))
	if err := registrytest.Push(t.Context(), src.Registry, "r", blob); err != nil {
		t.Fatal(err)
	}
	hold := func(ctx context.Context, diffIDs ...digest.Digest) error {
		for _, d := range diffIDs {
			ok, err := dst.Has(ctx, "", registry.Descriptor{Digest: d})
			if err != nil || !ok {
				return errors.Join(err, registry.ErrAbsent)
			}
		}
		return nil
	}
	return src, lazy.New(dst, hold, registry.CopyOptions{}), dst, blob
}

// TestNeedOnce: however many need a layer, it is fetched once, and what waits for it happens once.
func TestNeedOnce(t *testing.T) {
	src, l, _, blob := setup(t)
	if err := l.Need(t.Context(), blob.Digest); !errors.Is(err, registry.ErrAbsent) {
		t.Errorf("before it is known: %v", err)
	}
	l.Add(blob.Digest, lazy.Origin{Name: "here", Registry: src, Repo: "r", Blob: blob.Descriptor})
	if d, elsewhere, err := l.Blob(t.Context(), blob.Digest); err != nil || !elsewhere || d.Digest != blob.Digest {
		t.Errorf("blob: %v, %v, %v", d, elsewhere, err)
	}
	if repos := l.MountFrom(blob.Descriptor); !slices.Equal(repos, []string{"r"}) {
		t.Errorf("mount from %q", repos)
	}
	var came atomic.Int32
	l.After(blob.Digest, func(context.Context) error { came.Add(1); return nil })
	if err := l.Hold(t.Context(), blob.Digest); err != nil || src.opened.Load() > 0 {
		t.Errorf("hold: %v, after %d reads", err, src.opened.Load())
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := l.Need(t.Context(), blob.Digest); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if src.opened.Load() != 1 || came.Load() != 1 {
		t.Errorf("read %d times, came %d times", src.opened.Load(), came.Load())
	}
	if _, elsewhere, err := l.Blob(t.Context(), blob.Digest); err != nil || elsewhere {
		t.Errorf("it is still elsewhere: %v, %v", elsewhere, err)
	}
}

// TestStopped: a fetch that its caller gave up is not the end of it for others.
func TestStopped(t *testing.T) {
	src, l, _, blob := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	src.open = func(ctx context.Context) error { cancel(); return ctx.Err() }
	l.Add(blob.Digest, lazy.Origin{Registry: src, Repo: "r", Blob: blob.Descriptor})
	if err := l.Need(ctx, blob.Digest); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	src.open = nil
	if err := l.Need(t.Context(), blob.Digest); err != nil {
		t.Errorf("the next: %v", err)
	}
}

// TestPlaces: the second place is asked where the first fails; when all did, the layer is lost until it is forgotten.
func TestPlaces(t *testing.T) {
	src, l, dst, blob := setup(t)
	other := registrytest.NewBlob(image.TypeLayer, registrytest.Tar("b", "another"))
	if err := registrytest.Push(t.Context(), src.Registry, "r", other); err != nil {
		t.Fatal(err)
	}
	empty := mem.New()
	l.Add(blob.Digest, lazy.Origin{Name: "empty", Registry: empty, Repo: "r", Blob: blob.Descriptor})
	l.Add(blob.Digest, lazy.Origin{Name: "wrong", Registry: src, Repo: "r", Blob: other.Descriptor})
	err := l.Need(t.Context(), blob.Digest)
	lost, ok := errors.AsType[*lazy.LostError](err)
	if !ok || lost.DiffID != blob.Digest || !errors.Is(err, registry.ErrAbsent) || !errors.Is(err, lazy.ErrWrong) ||
		!strings.Contains(err.Error(), "from empty: ") {
		t.Errorf("lost: %v", err)
	}
	if l.Lose(blob.Digest); l.Known(blob.Digest) {
		t.Error("a layer that was lost is known")
	}

	_, again, _, _ := setup(t)
	again.Add(blob.Digest, lazy.Origin{Name: "empty", Registry: empty, Repo: "r", Blob: blob.Descriptor})
	rc, err := again.Open(t.Context(), "", blob.Descriptor)
	if _, ok := errors.AsType[*lazy.LostError](err); !ok {
		t.Errorf("open: %v, %v", rc, err)
	}

	_, third, into, _ := setup(t)
	third.Add(blob.Digest, lazy.Origin{Name: "empty", Registry: empty, Repo: "r", Blob: blob.Descriptor})
	third.Add(blob.Digest, lazy.Origin{Name: "there", Registry: src, Repo: "r", Blob: blob.Descriptor})
	if err := third.Need(t.Context(), blob.Digest); err != nil {
		t.Error(err)
	}
	if ok, _ := into.Has(t.Context(), "", blob.Descriptor); !ok {
		t.Error("it is not in the store")
	}
	if ok, _ := dst.Has(t.Context(), "", blob.Descriptor); ok {
		t.Error("what was lost is in the store")
	}
}

// TestFetcher: where a layer comes its own way, that it fails is the caller's error and no loss.
func TestFetcher(t *testing.T) {
	_, l, _, blob := setup(t)
	broken := errors.New("broken")
	l.Add(blob.Digest, lazy.Origin{Fetch: func(context.Context) error { return broken }})
	err := l.Need(t.Context(), blob.Digest)
	if _, lost := errors.AsType[*lazy.LostError](err); lost || !errors.Is(err, broken) {
		t.Errorf("need: %v", err)
	}
}
