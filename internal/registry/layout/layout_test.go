package layout_test

import (
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/layout"
	"nacre/internal/registry/registrytest"
)

func create(t testing.TB) *layout.Layout {
	l, err := layout.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestConform(t *testing.T) {
	registrytest.Conform(t, func(t testing.TB) registry.Registry { return create(t) })
}

func TestConformReader(t *testing.T) {
	registrytest.ConformReader(t, func(t testing.TB, fill func(registry.Writer)) registrytest.ReadLister {
		dir := t.TempDir()
		l, err := layout.Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		fill(l)
		if l, err = layout.Open(dir); err != nil {
			t.Fatal(err)
		}
		return l
	})
}
