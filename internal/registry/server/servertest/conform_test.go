package servertest_test

import (
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/server/servertest"
	"nacre/internal/registry/store"
)

func TestStrict(t *testing.T) {
	servertest.Conform(t, servertest.Target{Open: func(testing.TB) registry.Registry {
		r := servertest.NewStrict()
		r.Sparse = true
		return r
	}})
}

func TestMem(t *testing.T) {
	servertest.Conform(t, servertest.Target{
		Open:  func(testing.TB) registry.Registry { return mem.New() },
		Lacks: []string{"strict", "referrers", "sparse"},
	})
}

func TestLayout(t *testing.T) {
	servertest.Conform(t, servertest.Target{
		Open: func(t testing.TB) registry.Registry {
			l, err := layout.Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return servertest.Within(l, "registry.example")
		},
		Lacks: []string{"strict", "referrers", "sparse"},
	})
}

// TestStore shows the local store as it is: one set of content for all repositories.
func TestStore(t *testing.T) {
	servertest.Conform(t, servertest.Target{
		Open: func(t testing.TB) registry.Registry {
			s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return servertest.Within(s, "registry.example")
		},
		Lacks: []string{"strict", "referrers", "sparse", "sparse-index", "sha512"},
	})
}
