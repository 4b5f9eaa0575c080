package hosted_test

import (
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/compressed"
	"nacre/internal/registry/hosted"
	"nacre/internal/registry/server/servertest"
	"nacre/internal/registry/store"
)

// TestServer shows the store by HTTP, endpoint by endpoint and error by error.
func TestServer(t *testing.T) {
	servertest.Conform(t, servertest.Target{Open: func(t testing.TB) registry.Registry {
		s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		r := hosted.New(s, hosted.Options{Sparse: true, Images: compressed.New(s, compressed.Options{})})
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			wantSound(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return r
	}})
}
