package store_test

import (
	"os"
	"testing"
	"time"

	"nacre/internal/cache"
	"nacre/internal/cache/cachetest"
	"nacre/internal/registry/store"
)

func TestCacheConforms(t *testing.T) {
	cachetest.Conform(t, func(t testing.TB) cachetest.Subject {
		s := open(t)
		return cachetest.Subject{
			Cache: s.Cache(),
			Layer: func(t testing.TB, name string) cache.Output { return output(made(t, s, nil, name)) },
			Drop: func(t testing.TB, out cache.Output) {
				if err := os.RemoveAll(s.LayerDir(out.DiffID)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// TestCacheUse: what a build used lately is what pruning by time spares.
func TestCacheUse(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := store.Options{Clock: func() time.Time { return now }}
	root := t.TempDir()
	s := openAt(t, root, o)
	for _, name := range []string{"used", "unused"} {
		if err := s.Cache().Put(t.Context(), record("slot", name), output(made(t, s, nil, name))); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(48 * time.Hour)
	if _, ok, err := s.Cache().Get(t.Context(), record("slot", "used").Key); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, o)
	if r, err := dropCache(t.Context(), s, now.Add(-24*time.Hour)); err != nil || r.Records != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, ok, err := s.Cache().Get(t.Context(), record("slot", "used").Key); !ok || err != nil {
		t.Errorf("the record in use: %v, %v", ok, err)
	}
}
