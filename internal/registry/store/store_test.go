package store_test

import (
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/store"
)

// open opens a new store.
func open(t testing.TB) *store.Store {
	t.Helper()
	return openAt(t, t.TempDir(), store.Options{})
}

func openAt(t testing.TB, root string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), root, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestConform(t *testing.T) {
	registrytest.Conform(t, func(t testing.TB) registry.Registry { return open(t) })
}
