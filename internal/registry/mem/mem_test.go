package mem_test

import (
	"testing"

	"nacre/internal/registry"
	"nacre/internal/registry/mem"
	"nacre/internal/registry/registrytest"
)

func TestConform(t *testing.T) {
	registrytest.Conform(t, func(testing.TB) registry.Registry { return mem.New() })
}

func TestConformReader(t *testing.T) {
	registrytest.ConformReader(t, func(_ testing.TB, fill func(registry.Writer)) registrytest.ReadLister {
		r := mem.New()
		fill(r)
		return r
	})
}
