package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A layer is looked for once in a build, however many steps come after it.
func TestLayersAreOpenedOnce(t *testing.T) {
	be := newBench(t, map[string]string{"f": "x"})
	be.build("FROM scratch\nCOPY f /f\n")
	layers, err := os.ReadDir(filepath.Join(be.store.Root(), "layers"))
	if err != nil || len(layers) != 1 {
		t.Fatal(layers, err)
	}
	id := digest.NewDigestFromEncoded(digest.SHA256, layers[0].Name())
	s := &solver{Builder: Builder{Store: be.store}}
	first, err := s.reader().Layer(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(be.store.LayerDir(id), t.TempDir()+"/away"); err != nil {
		t.Fatal(err)
	}
	again, err := s.reader().Layer(t.Context(), id)
	if err != nil || again != first {
		t.Errorf("a layer that is open already: %p and %p, %v", first, again, err)
	}
}
