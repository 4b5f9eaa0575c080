package servertest

import (
	"embed"
	"net/http/httptest"
	"slices"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/server"
)

// Target is a registry to be shown by a server, and what it cannot do.
type Target struct {
	// Open returns a new empty registry.
	Open func(testing.TB) registry.Registry
	// Lacks names what cases need and the registry has not:
	//
	//	strict     repositories do not see each other's content
	//	mount      a blob of another repository is taken from there
	//	sha512     content may be named by sha512
	//	sha512-tag a tag may name a manifest by sha512
	//	referrers  manifests without a tag are found as referrers
	//	sparse     a manifest may refer to layers that are not there
	//	sparse-index  an index may have no child that is there
	Lacks []string
}

//go:embed cases
var files embed.FS

// Conform checks a server over t's registry, endpoint by endpoint and error by error. Its
// cases are the files of the folder cases.
func Conform(t *testing.T, target Target) {
	for _, c := range load(t) {
		if slices.ContainsFunc(c.needs, func(need string) bool { return slices.Contains(target.Lacks, need) }) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent in waiting for disks
			o := server.Options{Uploads: t.TempDir(), ChunkMin: 1000, ReadOnly: c.option("read-only"), Sparse: c.option("sparse")}
			r := target.Open(t)
			if _, ok := r.(registry.Adopter); ok {
				o.Uploads = ""
			}
			Run(t, c, Serve(t, r, o).URL)
		})
	}
}

// Serve starts a server for the time of a test.
func Serve(t testing.TB, r registry.Registry, o server.Options) *httptest.Server {
	t.Helper()
	s, err := server.New(r, o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}
