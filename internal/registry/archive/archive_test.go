package archive_test

import (
	"bytes"
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/archive"
	"nacre/internal/registry/registrytest"
)

func TestConformReader(t *testing.T) {
	for name, kind := range map[string]archive.Kind{"docker": archive.Docker, "oci": archive.OCI} {
		t.Run(name, func(t *testing.T) {
			registrytest.ConformReader(t, func(t testing.TB, fill func(registry.Writer)) registrytest.ReadLister {
				var b bytes.Buffer
				w := archive.Create(&b, kind)
				fill(w)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				return open(t, b.Bytes())
			})
		})
	}
}

func open(t testing.TB, data []byte) *archive.Archive {
	a, err := archive.Open(t.Context(), bytes.NewReader(data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}
