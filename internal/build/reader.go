package build

import (
	"context"

	"nacre/internal/layer"
	"nacre/internal/registry/store"

	"github.com/opencontainers/go-digest"
)

// reader is the store with the layers that a build has opened. The store looks whether a layer is still
// there each time it is asked; the build holds them, and each of its steps asks for all that came before.
type reader struct {
	*store.Store
	s *solver
}

func (s *solver) reader() reader { return reader{s.Store, s} }

// Layer implements rootfs.Source.
func (r reader) Layer(ctx context.Context, diffID digest.Digest) (*layer.Layer, error) {
	if l, ok := r.s.opened.Load(diffID); ok {
		return l.(*layer.Layer), nil
	}
	l, err := r.Store.Layer(ctx, diffID)
	if err == nil {
		r.s.opened.Store(diffID, l)
	}
	return l, err
}
