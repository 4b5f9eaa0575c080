package servertest_test

import (
	"strings"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
	"nacre/internal/registry/remote"
	"nacre/internal/registry/server"
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

// client is a registry as others see it over HTTP.
func client(t testing.TB, r registry.Registry, o server.Options) registry.Registry {
	o.Uploads = t.TempDir()
	h := servertest.Serve(t, r, o)
	c, err := remote.New(remote.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Host(strings.TrimPrefix(h.URL, "http://"))
}

// TestClientOfServer holds a client of a server to the contract of any registry. A port
// has no place in the path of a URL, where the contract's names have theirs.
func TestClientOfServer(t *testing.T) {
	registrytest.Conform(t, func(t testing.TB) registry.Registry {
		return servertest.Renamed(client(t, servertest.NewStrict(), server.Options{}),
			func(repo string) string { return strings.Replace(repo, ":", "__", 1) },
			func(repo string) (string, bool) { return strings.Replace(repo, "__", ":", 1), true })
	})
}

// TestServerOfClientOfServer shows what a client sees of a server as a server's own.
func TestServerOfClientOfServer(t *testing.T) {
	servertest.Conform(t, servertest.Target{Open: func(t testing.TB) registry.Registry {
		r := servertest.NewStrict()
		r.Sparse = true
		return client(t, r, server.Options{Sparse: true})
	}, Lacks: []string{"sha512-tag"}})
}
